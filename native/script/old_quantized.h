#pragma once

#include <torch/csrc/jit/api/module.h>

namespace lta::script {

// Archives from this version on name quantized convolutions as libtorch has them.
constexpr uint64_t kNewQuantizedVersion = 4;

// Quantized convolutions of PyTorch 1.4 and 1.5 were also given what their packed weights know since: their calls lose
// those arguments, as in libtorch's own loading.
void renewQuantizedConvolutions(const torch::jit::Module& module);

}  // namespace lta::script
