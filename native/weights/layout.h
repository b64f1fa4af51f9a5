// Layouts of the tensors of an attention, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "weights/weights.h"

// How the tensors of an attention are laid out, wherever they are.
namespace lta {

at::Tensor indexTensor(const std::vector<int64_t>& values, at::Device device);

// Selects along a dimension: a view for contiguous indices, the same tensor for all.
at::Tensor pick(const at::Tensor& tensor, int64_t dim, const std::optional<std::vector<int64_t>>& indices);

// The selected indices of `count`; all if absent.
std::vector<int64_t> chosen(const std::optional<std::vector<int64_t>>& indices, int64_t count);

// What the rows asked for leave of an attention.
struct Extent {
  int64_t batch;
  int64_t heads;
  int64_t queries;
  int64_t keys;
};

// The tensors that are wanted of an attention, each made by make(sizes, type); `computed` is the type of its weights.
using MakeTensor = std::function<at::Tensor(at::IntArrayRef sizes, at::ScalarType type)>;
Weights makeWeights(const Extent& extent, const Wanted& wanted, at::ScalarType computed, const MakeTensor& make);

// The type of what sums up rows or columns of weights that are computed in a type.
at::ScalarType sumsType(at::ScalarType computed, const Wanted& wanted);

// Calls `work` with a part of the rows at a time, so that those of all heads, `elementsPerRow` in total, take bounded
// memory. At least once: without rows, with none.
void forEachStep(const std::vector<int64_t>& rows, int64_t elementsPerRow,
                 const std::function<void(const std::vector<int64_t>& some)>& work);

// Fills such tensors where an attention has nothing to compute, as PyTorch would: without rows or columns, or as the
// mean of no heads. Whether it was so.
bool fillWhereEmpty(Weights& result, const Extent& extent, const Wanted& wanted);

// [.., H, L, E] as [B, H, L, E]: all that is ahead of the heads is batch.
at::Tensor asFourDimensions(const at::Tensor& tensor);

// A mask over [leading..., queries, keys] as [B, H, Q, K].
at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys);

// What the rows asked for of a call take: query [B, H, Q, E] and key [B, H / group, K, E], of which one may lack the
// batch.
struct Operands {
  at::Tensor query;
  at::Tensor key;
  int64_t group = 1;  // query heads that a key head serves; key heads are never repeated
};
Operands selectOperands(const SdpaArguments& call, const Rows& rows);
// The mask of these rows, broadcasts to [B, H, Q, K]; the call must have one.
at::Tensor selectedMask(const SdpaArguments& call, const Rows& rows);

// Narrows expanded dimensions (stride 0) to one, so that work on a mask isn't repeated.
at::Tensor withoutExpansion(at::Tensor mask, int64_t dims = 4);

// Rows whose keys are all masked: boolean, broadcasts to [B, H, Q, 1].
at::Tensor maskedRows(const at::Tensor& mask);

}  // namespace lta
