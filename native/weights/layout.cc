#include "weights/layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace lta {

at::Tensor indexTensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

at::Tensor pick(const at::Tensor& tensor, int64_t dim, const std::optional<std::vector<int64_t>>& indices) {
  if (!indices) return tensor;
  bool run = !indices->empty();
  for (size_t i = 1; i < indices->size() && run; ++i) run = (*indices)[i] == (*indices)[i - 1] + 1;
  if (run) return tensor.narrow(dim, indices->front(), static_cast<int64_t>(indices->size()));
  return tensor.index_select(dim, indexTensor(*indices, tensor.device()));
}

at::Tensor asFourDimensions(const at::Tensor& tensor) {
  switch (tensor.dim()) {
    case 4:
      return tensor;
    case 2:
      return tensor.unsqueeze(0).unsqueeze(0);
    case 3:
      return tensor.unsqueeze(0);
    default:
      return tensor.flatten(1, -3);
  }
}

at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys) {
  std::vector<int64_t> sizes(leading.begin(), leading.end());
  sizes.push_back(queries);
  sizes.push_back(keys);
  return asFourDimensions(mask.expand(sizes));
}

at::Tensor maskedRows(const at::Tensor& mask) {
  const auto out =
      mask.scalar_type() == at::kBool ? mask.logical_not() : mask.eq(-std::numeric_limits<double>::infinity());
  return out.all(-1, /*keepdim=*/true);
}

at::Tensor withoutExpansion(at::Tensor mask, int64_t dims) {
  for (int64_t dim = 0; dim < std::min(dims, mask.dim()); ++dim) {
    if (mask.stride(dim) == 0 && mask.size(dim) > 1) mask = mask.narrow(dim, 0, 1);
  }
  return mask;
}

std::vector<int64_t> chosen(const std::optional<std::vector<int64_t>>& indices, int64_t count) {
  if (indices) return *indices;
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace lta
