#include "nn/native_module.h"

#include <ATen/ATen.h>
#include <ATen/ops/normal_ops.h>
#include <ATen/ops/uniform_ops.h>

#include <utility>

#include "runtime/run_scope.h"
#include "torch/dispatcher.h"

namespace lta::nn {
namespace {

thread_local bool skipping = false;

// These kernels take the place of the fallback under kRunKey, so they check the cancellation themselves (see
// run_scope.h).
void checkRun() {
  if (auto* run = Cancellation::current()) run->check();
}

at::Tensor& uniform(c10::DispatchKeySet keys, at::Tensor& self, double from, double to,
                    std::optional<at::Generator> generator) {
  if (skipping) return self;
  checkRun();
  return at::_ops::uniform_::redispatch(keysBelow(kRunKey, keys), self, from, to, std::move(generator));
}

at::Tensor& normal(c10::DispatchKeySet keys, at::Tensor& self, double mean, double std,
                   std::optional<at::Generator> generator) {
  if (skipping) return self;
  checkRun();
  return at::_ops::normal_::redispatch(keysBelow(kRunKey, keys), self, mean, std, std::move(generator));
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

SkipInit::SkipInit() : before_(std::exchange(skipping, true)), key_(kRunKey) {}
SkipInit::~SkipInit() { skipping = before_; }

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

void registerSkipInit() {
  auto& library = kernelsUnder(kRunKey, "aten");
  library.impl("uniform_", uniform);
  library.impl("normal_", normal);
}

}  // namespace lta::nn
