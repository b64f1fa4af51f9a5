#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

// How the tensors of an attention are laid out, wherever they are.
namespace lta {

at::Tensor indexTensor(const std::vector<int64_t>& values, at::Device device);

// The entries asked for along a dimension: a view where they are neighbours, the same tensor where all are asked for.
at::Tensor pick(const at::Tensor& tensor, int64_t dim, const std::optional<std::vector<int64_t>>& indices);

// The indices asked for of `count`: all where none are named.
std::vector<int64_t> chosen(const std::optional<std::vector<int64_t>>& indices, int64_t count);

// [.., H, L, E] as [B, H, L, E]: batch first, whatever lies between counts as heads.
at::Tensor asFourDimensions(const at::Tensor& tensor);

// A mask over [leading..., queries, keys], as [B, H, Q, K].
at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys);

// A mask is given for few of its dimensions and expanded over the rest; work on it is done once for what there is.
at::Tensor withoutExpansion(at::Tensor mask, int64_t dims = 4);

// Rows whose keys are all masked, as a boolean tensor that broadcasts to [B, H, Q, 1].
at::Tensor maskedRows(const at::Tensor& mask);

}  // namespace lta
