#include "weights/codes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "weights/cpu/result_memory.h"

namespace lta {

uint8_t codeOf(double weight, CodeScale scale) {
  if (scale == CodeScale::Linear) return static_cast<uint8_t>(std::min(255.0, std::round(weight * 255)));
  if (weight != weight) return 255;
  if (weight == 0) return 0;
  return static_cast<uint8_t>(
      std::clamp(1 + std::round((std::log2(weight) + kOctaves) * kSteps / kOctaves), 1.0, 254.0));
}

at::Tensor encodeWeights(const at::Tensor& given, CodeScale scale) {
  const auto weights = given.to(at::promote_types(given.scalar_type(), at::kFloat));
  if (scale == CodeScale::Linear) return weights.mul(255).round().clamp(0, 255).to(at::kByte);
  auto codes = weights.log2().add_(kOctaves).mul_(kSteps / kOctaves).add_(1).round_().clamp_(1, 254);
  codes.masked_fill_(weights.eq(0), 0);
  codes.masked_fill_(weights.isnan(), 255);
  return codes.to(at::kByte);
}

std::optional<double> uncodableOf(const at::Tensor& weights, CodeScale scale) {
  auto uncodable = weights.lt(0).logical_or_(weights.gt(kLargestCodable));
  if (scale == CodeScale::Linear) uncodable.logical_or_(weights.isnan());
  if (!uncodable.any().item<bool>()) return std::nullopt;
  return weights.masked_select(uncodable).select(0, 0).item<double>();
}

at::Tensor decodeWeights(const at::Tensor& codes, const at::Tensor& table) {
  if (!codes.is_cpu()) {
    return table.to(codes.device()).index_select(0, codes.flatten().to(at::kInt)).view(codes.sizes());
  }
  constexpr int64_t kGrain = 64 * 1024;
  const auto from = codes.contiguous();
  auto result = emptyResult(from.sizes(), at::kFloat);
  const auto* const code = from.const_data_ptr<uint8_t>();
  const auto* const values = table.const_data_ptr<float>();
  auto* const into = result.mutable_data_ptr<float>();
  at::parallel_for(0, from.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) into[i] = values[code[i]];
  });
  return result;
}

}  // namespace lta
