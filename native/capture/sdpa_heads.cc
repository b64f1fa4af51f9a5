#include "capture/sdpa_heads.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace lta {
namespace {

// The mask of a call with as many dimensions as the queries have; none where there is no mask.
std::optional<at::Tensor> maskOfAllDimensions(const SdpaArguments& call) {
  if (!call.mask || !call.mask->defined()) return std::nullopt;
  auto mask = *call.mask;
  while (mask.dim() < call.query.dim()) mask = mask.unsqueeze(0);
  return mask;
}

}  // namespace

void broadcastToOutput(SdpaArguments& call, const at::Tensor& output) {
  if (output.is_nested() || call.query.is_nested() || output.dim() < 3) return;
  const auto lead = output.sizes().slice(0, output.dim() - 2);
  const auto expand = [&](at::Tensor& tensor, bool ownHeads) {
    auto sizes = lead.vec();
    if (ownHeads && tensor.dim() > 2) sizes.back() = tensor.size(-3);
    sizes.insert(sizes.end(), {tensor.size(-2), tensor.size(-1)});
    tensor = tensor.expand(sizes);
  };
  bool told = call.query.dim() == output.dim() && call.key.dim() == output.dim();
  for (size_t dim = 0; dim < lead.size() && told; ++dim) {
    const auto query = call.query.size(static_cast<int64_t>(dim)), key = call.key.size(static_cast<int64_t>(dim));
    const bool heads = dim + 1 == lead.size();
    told = std::max(query, key) == lead[dim] || lead[dim] == 0;
    // What is flattened has to have all dimensions.
    if (output.dim() > 4) told = told && query == lead[dim] && (key == lead[dim] || (heads && call.groupedQuery));
  }
  if (told) return;
  expand(call.query, false);
  expand(call.key, call.groupedQuery);
}

void moveHeads(SdpaArguments& call, int64_t from) {
  if (const auto mask = maskOfAllDimensions(call)) call.mask = mask->movedim(from, -3);
  call.query = call.query.movedim(from, -3);
  call.key = call.key.movedim(from, -3);
}

at::Tensor joinHeads(const at::Tensor& tensor, int64_t dims) { return tensor.flatten(-2 - dims, -3); }

void joinHeads(SdpaArguments& call, int64_t dims) {
  const auto& query = call.query;
  const auto expanded = [&](const at::Tensor& tensor) {
    auto sizes = tensor.sizes().vec();
    for (auto dim = query.dim() - 2 - dims; dim < query.dim() - 2; ++dim) {
      sizes[static_cast<size_t>(dim)] = query.size(dim);
    }
    return tensor.expand(sizes);
  };
  if (const auto mask = maskOfAllDimensions(call)) call.mask = joinHeads(expanded(*mask), dims);
  call.key = joinHeads(expanded(call.key), dims);
  call.query = joinHeads(query, dims);
}

}  // namespace lta
