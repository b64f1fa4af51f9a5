// Layouts of the tensors of an attention, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace lta {

at::Tensor indexTensor(const std::vector<int64_t>& values, at::Device device);

// Selects along a dimension: a view for contiguous indices, the same tensor for all.
at::Tensor pick(const at::Tensor& tensor, int64_t dim, const std::optional<std::vector<int64_t>>& indices);

// The selected indices of `count`; all if absent.
std::vector<int64_t> chosen(const std::optional<std::vector<int64_t>>& indices, int64_t count);

// [..., H, L, E] as [B, H, L, E]: the first dimension is the batch, those in between are flattened into heads.
at::Tensor asFourDimensions(const at::Tensor& tensor);

// A mask over [leading..., queries, keys] as [B, H, Q, K].
at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys);

// Narrows expanded dimensions (stride 0) to one, so that work on a mask isn't repeated.
at::Tensor withoutExpansion(at::Tensor mask, int64_t dims = 4);

// Rows whose keys are all masked: boolean, broadcasts to [B, H, Q, 1].
at::Tensor maskedRows(const at::Tensor& mask);

}  // namespace lta
