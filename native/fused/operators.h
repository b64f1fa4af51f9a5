// The operators that `optimize` puts in place of linear layers and what follows them, and of attention.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "weights/cpu/layers.h"
#include "weights/weights.h"

namespace lta::fused {

using OptionalTensor = std::optional<at::Tensor>;

// A weight [columns, depth] and its packed copy, which is valid as long as the weight's version is `version`.
struct Weight {
  at::Tensor weight;
  OptionalTensor bias;
  at::Tensor packed;
  int64_t version;
};

// Layer norm over the last dimension, if there is an epsilon.
struct NormOf {
  OptionalTensor weight;
  OptionalTensor bias;
  std::optional<double> epsilon;
};

// What a layer is made of, as arguments of `lta::linear`.
struct LinearCall {
  at::Tensor input;
  Weight weight;
  Activation activation;
  OptionalTensor residual;
  NormOf norm;
};

// "lta::linear" and "lta::feed_forward", for nodes of graphs. Their arguments:
//   input, weight, bias, packed, version, activation,
//   (feed_forward: weight, bias, packed and version of the second layer,)
//   residual, weight of the norm, bias of the norm, epsilon
// Where a call isn't for them (another type or device than float32 on the CPU, gradients that are recorded, autocast, a
// weight that was written to since), they compute what they stand for with libtorch's operators.
c10::OperatorHandle linearOperator();
c10::OperatorHandle feedForwardOperator();

// "lta::attention", with the arguments of scaled_dot_product_attention, which computes what `attends` isn't true of.
c10::OperatorHandle attentionOperator();

// Libtorch's own.
c10::OperatorHandle geluOperator();

// Places among the arguments of lta::linear.
inline constexpr size_t kInput = 0;
inline constexpr size_t kActivation = 5;
inline constexpr size_t kResidual = 6;
inline constexpr size_t kEpsilon = 9;

// The arguments of lta::feed_forward, from those of a call of lta::linear and of another one on its result.
template <typename Argument>
std::vector<Argument> feedForwardArguments(c10::ArrayRef<Argument> first, c10::ArrayRef<Argument> second) {
  std::vector<Argument> arguments(first.begin(), first.begin() + kActivation + 1);
  arguments.insert(arguments.end(), second.begin() + kInput + 1, second.begin() + kActivation);
  arguments.insert(arguments.end(), second.begin() + kResidual, second.end());
  return arguments;
}

// Called as `lta::linear` would be, and made of libtorch's operators.
at::Tensor linear(const LinearCall& call);
at::Tensor unfusedLinear(const LinearCall& call);
// Called as `lta::feed_forward` would be: `second` of what `first` gives, its own input and activation left out.
at::Tensor feedForward(const LinearCall& first, const LinearCall& second);

// Called as `lta::attention` would be.
at::Tensor attention(const SdpaArguments& call, const at::Tensor& value, double dropout);
// Whether it computes a call by `attend` of weights.h, the same bits of which come with the weights and without.
bool attends(const SdpaArguments& call, const at::Tensor& value, double dropout);

// Whether layers with such a weight and bias can be computed by them, and are faster on this processor.
bool canPack(const at::Tensor& weight, const OptionalTensor& bias);
// Whether a layer norm with these parameters of `columns` elements can be part of them.
bool canNormalize(const OptionalTensor& weight, const OptionalTensor& bias, int64_t columns);

// Packs the weights of a graph, each once, however many layers it serves.
class PackedWeights {
 public:
  Weight of(const at::Tensor& weight, const OptionalTensor& bias);

 private:
  std::unordered_map<const void*, Weight> known_;  // by where the weight lies
};

// The activation that an operator of libtorch computes; `approximate` as `gelu` takes it.
std::optional<Activation> activationOf(const std::string& operatorName, const std::string& approximate);

// Once per process, behind claimNamespace.
void registerFusedOperators();

}  // namespace lta::fused
