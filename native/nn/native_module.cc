#include "nn/native_module.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <mutex>

namespace lta::nn {
namespace {

at::Generator generator() { return at::globalContext().defaultGenerator(at::kCPU); }

at::Tensor randomState() {
  auto random = generator();
  const std::lock_guard<std::mutex> lock(random.mutex());
  return random.get_state();
}

}  // namespace

at::Tensor NamedArguments::tensor(const std::string& name) const {
  const auto found = tensors.find(name);
  return found == tensors.end() ? at::Tensor() : found->second;
}

std::optional<bool> NamedArguments::flag(const std::string& name) const {
  const auto found = flags.find(name);
  return found == flags.end() ? std::nullopt : std::optional<bool>(found->second);
}

KeepRandomState::KeepRandomState() : state_(randomState()) {}

KeepRandomState::~KeepRandomState() {
  auto random = generator();
  const std::lock_guard<std::mutex> lock(random.mutex());
  random.set_state(state_);
}

void copyState(const torch::nn::Module& from, torch::nn::Module& to) {
  const at::NoGradGuard noGrad;
  auto targets = to.named_parameters();
  for (const auto& parameter : from.named_parameters()) {
    auto& target = targets[parameter.key()];
    target.set_data(parameter.value().clone());
    target.requires_grad_(parameter.value().requires_grad());
  }
  to.train(from.is_training());
}

}  // namespace lta::nn
