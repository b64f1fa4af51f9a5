// Upgrades quantized convolutions of archives of PyTorch 1.4 and 1.5.
#pragma once

#include <torch/csrc/jit/api/module.h>

namespace lta::script {

// Archives of this version or later have the current signatures.
constexpr uint64_t kNewQuantizedVersion = 4;

// Drops the arguments that packed weights have since taken over, as libtorch's own loader does.
void upgradeQuantizedConvolutions(const torch::jit::Module& module);

}  // namespace lta::script
