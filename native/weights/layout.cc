#include "weights/layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <initializer_list>
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

at::ScalarType sumsType(at::ScalarType computed, const Wanted& wanted) {
  return computed == at::kDouble && wanted.dtype.value_or(computed) == at::kDouble ? at::kDouble : at::kFloat;
}

void forEachStep(const std::vector<int64_t>& rows, int64_t elementsPerRow,
                 const std::function<void(const std::vector<int64_t>& some)>& work) {
  constexpr int64_t kBytes = 64 * 1024 * 1024;
  const auto rowBytes = std::max<int64_t>(1, elementsPerRow * static_cast<int64_t>(sizeof(float)));
  const auto step = static_cast<size_t>(std::max<int64_t>(1, kBytes / rowBytes));
  size_t first = 0;
  do {
    const auto last = std::min(rows.size(), first + step);
    work(std::vector<int64_t>(rows.begin() + first, rows.begin() + last));
    first = last;
  } while (first < rows.size());
}

Weights makeWeights(const Extent& extent, const Wanted& wanted, at::ScalarType computed, const MakeTensor& make) {
  const auto type = wanted.dtype.value_or(computed);
  const auto sumType = sumsType(computed, wanted);
  const auto columns = std::min(wanted.topK.value_or(extent.keys), extent.keys);
  const auto sized = [&](std::initializer_list<int64_t> last) {
    std::vector<int64_t> sizes{extent.batch};
    if (!wanted.averageHeads) sizes.push_back(extent.heads);
    sizes.insert(sizes.end(), last);
    return sizes;
  };
  Weights result;
  if (wanted.weights) result.weights = make(sized({extent.queries, columns}), wanted.codes ? at::kByte : type);
  if (wanted.topK) result.keys = make(sized({extent.queries, columns}), at::kLong);
  if (wanted.scores) result.scores = make(sized({extent.queries, columns}), type);
  if (wanted.logSumExp) result.logSumExp = make(sized({extent.queries}), sumType);
  if (wanted.received) result.received = make(sized({extent.keys}), sumType);
  if (wanted.entropy) result.entropy = make(sized({extent.queries}), sumType);
  return result;
}

bool fillWhereEmpty(Weights& result, const Extent& extent, const Wanted& wanted) {
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  constexpr auto kNone = std::numeric_limits<double>::quiet_NaN();
  const bool meanOfNone = wanted.averageHeads && extent.heads == 0;
  if (!meanOfNone && extent.batch * extent.heads * extent.queries * extent.keys != 0) return false;
  const auto fill = [&](const at::Tensor& tensor, double value) {
    if (tensor.defined()) tensor.fill_(meanOfNone ? kNone : value);
  };
  if (wanted.codes && meanOfNone && result.weights.defined()) {
    result.weights.fill_(codeOf(kNone, CodeScale::Log));
    if (!isCodable(kNone, *wanted.codes)) result.uncodable = kNone;
  } else {
    fill(result.weights, 0);
  }
  fill(result.scores, 0);
  fill(result.logSumExp, -kInfinity);
  fill(result.received, 0);
  fill(result.entropy, 0);
  if (result.keys.defined()) result.keys.copy_(at::arange(result.keys.size(-1), result.keys.options()));
  return true;
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
      return tensor.flatten(0, -4);
  }
}

at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys) {
  std::vector<int64_t> sizes(leading.begin(), leading.end());
  sizes.push_back(queries);
  sizes.push_back(keys);
  return asFourDimensions(mask.expand(sizes));
}

Operands selectOperands(const SdpaArguments& call, const Rows& rows) {
  auto query = asFourDimensions(call.query);
  auto key = asFourDimensions(call.key);
  const auto heads = query.size(1);
  query = selectRows(query, rows);
  int64_t group = 1;
  if (key.size(1) != heads && key.size(1) != 0 && heads % key.size(1) == 0) group = heads / key.size(1);
  if (group > 1 && rows.heads) {
    std::vector<int64_t> serving;
    for (const auto head : *rows.heads) serving.push_back(head / group);
    key = pick(key, 1, serving);
    group = 1;
  } else if (group == 1 && key.size(1) == heads) {
    key = pick(key, 1, rows.heads);
  }
  return {query, key, group};
}

at::Tensor selectedMask(const SdpaArguments& call, const Rows& rows) {
  const auto leading = call.query.sizes().slice(0, call.query.dim() - 2);
  const auto mask = broadcastMask(*call.mask, leading, call.query.size(-2), call.key.size(-2));
  const auto heads = asFourDimensions(call.query).size(1);
  const auto maskRows = Rows{mask.size(1) == heads ? rows.heads : std::nullopt, rows.queries};
  return withoutExpansion(selectRows(mask, maskRows));
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
