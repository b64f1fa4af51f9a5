#include "weights/cuda/launch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "weights/layout.h"

namespace lta {
namespace {

constexpr int64_t kMostEmbed = 256;

std::optional<int> typeOf(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return 32;
    case at::kHalf:
      return 16;
    case at::kBFloat16:
      return 17;
    default:
      return std::nullopt;
  }
}

// Elements of a row side by side.
at::Tensor withAdjacentColumns(const at::Tensor& tensor) {
  const auto plain = tensor.detach().resolve_neg();
  return plain.stride(-1) == 1 || plain.size(-1) == 1 ? plain : plain.contiguous();
}

bool isOfVectors(const at::Tensor& tensor) {
  const auto isWhole = [](int64_t bytes) { return bytes % kVectorBytes == 0; };
  if (!isWhole(static_cast<int64_t>(reinterpret_cast<uintptr_t>(tensor.const_data_ptr())))) return false;
  const auto size = static_cast<int64_t>(tensor.element_size());
  if (!isWhole(tensor.size(-1) * size)) return false;
  for (int64_t dim = 0; dim < 3; ++dim) {
    if (tensor.size(dim) > 1 && !isWhole(tensor.stride(dim) * size)) return false;
  }
  return true;
}

template <size_t Count>
void setStrides(long long (&strides)[Count], const at::Tensor& tensor) {
  for (size_t dim = 0; dim < Count; ++dim) {
    const auto at = static_cast<int64_t>(dim);
    strides[dim] = tensor.size(at) == 1 ? 0 : tensor.stride(at);
  }
}

}  // namespace

std::optional<KernelVariant> variantOf(const SdpaArguments& call) {
  const auto type = typeOf(call.query.scalar_type());
  const auto embed = call.query.size(-1);
  if (!type || call.key.scalar_type() != call.query.scalar_type() || embed == 0 || embed > kMostEmbed) {
    return std::nullopt;
  }
  return KernelVariant{*type, static_cast<int>((embed + 15) / 16 * 16)};
}

std::optional<Launch> launchOf(const SdpaArguments& call, const Rows& rows) {
  const auto variant = variantOf(call);
  if (!variant) return std::nullopt;
  auto operands = selectOperands(call, rows);
  const auto query = withAdjacentColumns(operands.query);
  const auto key = withAdjacentColumns(operands.key);
  const auto batch = std::max(query.size(0), key.size(0));
  const auto heads = query.size(1);
  const auto queries = query.size(2), keys = key.size(2), embed = query.size(3);
  if (batch * heads * queries * keys == 0) return std::nullopt;
  if (key.size(1) != 1 && key.size(1) * operands.group != heads) return std::nullopt;
  const auto blocks = (queries + kBlockRows - 1) / kBlockRows * batch * heads;
  if (blocks > std::numeric_limits<int32_t>::max()) return std::nullopt;

  Launch launch{};
  launch.variant = *variant;
  launch.blocks = blocks;
  launch.sharedBytes = static_cast<size_t>(2 * kBlockRows * (variant->embed * query.element_size() + kVectorBytes));
  launch.weights = at::empty({batch, heads, queries, keys}, query.options().dtype(at::kFloat));
  auto& arguments = launch.arguments;
  arguments.query = query.const_data_ptr();
  arguments.key = key.const_data_ptr();
  arguments.weights = launch.weights.mutable_data_ptr<float>();
  setStrides(arguments.queryStrides, query);
  setStrides(arguments.keyStrides, key);
  arguments.queries = queries;
  arguments.keys = keys;
  arguments.heads = static_cast<int>(heads);
  arguments.group = static_cast<int>(operands.group);
  arguments.embed = static_cast<int>(embed);
  arguments.causal = call.causal ? 1 : 0;
  arguments.vectors = isOfVectors(query) && isOfVectors(key) ? 1 : 0;
  arguments.scale = static_cast<float>(call.scale.value_or(1.0 / std::sqrt(static_cast<double>(call.query.size(-1)))));
  launch.held = {query, key};
  if (call.mask && call.mask->defined()) {
    auto mask = selectedMask(call, rows).detach();
    const bool isBool = mask.scalar_type() == at::kBool;
    if (!isBool) mask = mask.to(at::kFloat);
    arguments.mask = mask.const_data_ptr();
    arguments.maskKind = isBool ? 1 : 2;
    setStrides(arguments.maskStrides, mask);
    launch.held.push_back(std::move(mask));
  }
  if (call.causal && rows.queries) {
    auto positions = indexTensor(*rows.queries, query.device());
    arguments.positions = reinterpret_cast<const long long*>(positions.const_data_ptr<int64_t>());
    launch.held.push_back(std::move(positions));
  }
  return launch;
}

}  // namespace lta
