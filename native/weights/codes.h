// Attention weights as codes of a byte.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace lta {

// How codes stand for weights from 0 to 1; lib/capture/weight-codes.ts reads them.
enum class CodeScale {
  Linear,  // code / 255: at most 1/510 off. NaN has no code.
  Log      // 0: zero; 1 to 254: 2^(kOctaves · (code - 254) / kSteps), the nearest in ratio; 255: NaN
};

// The smallest weight on the logarithmic scale is 2^-kOctaves, which smaller ones become; others are at most
// 2^(kOctaves / (2 · kSteps)) - 1 = 3.4 % off.
constexpr float kOctaves = 24;
constexpr float kSteps = 253;
// Sums of rounded numbers may be larger than 1 by this much, within the error of either scale.
constexpr float kLargestCodable = 1 + 1.0f / 510;

// Whether a weight has a code.
constexpr bool isCodable(double weight, CodeScale scale) {
  return weight != weight ? scale == CodeScale::Log : weight >= 0 && weight <= kLargestCodable;
}

// The code of a weight that has one.
uint8_t codeOf(double weight, CodeScale scale);

// Codes of weights on any device, by its own operators.
at::Tensor encodeWeights(const at::Tensor& weights, CodeScale scale);
// One of them that has no code, if there is any.
std::optional<double> uncodableOf(const at::Tensor& weights, CodeScale scale);

// What a table of 256 float32 values has for each code, on the codes' device.
at::Tensor decodeWeights(const at::Tensor& codes, const at::Tensor& table);

}  // namespace lta
