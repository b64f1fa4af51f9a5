#include "script/old_quantized.h"

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Operands of old calls: x, weights, stride, padding, dilation, groups, scale, zero point.
constexpr size_t kOldOperands = 8;
constexpr size_t kFirstDropped = 2;
constexpr size_t kDropped = 4;

void upgrade(jit::Block& block) {
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) upgrade(*inner);
    const std::string name = node->kind().toQualString();
    if (name != "quantized::conv2d" && name != "quantized::conv2d_relu" && name != "quantized::conv3d" &&
        name != "quantized::conv3d_relu") {
      continue;
    }
    if (node->inputs().size() != kOldOperands) continue;
    for (size_t i = 0; i < kDropped; ++i) node->removeInput(kFirstDropped);
  }
}

}  // namespace

void upgradeQuantizedConvolutions(const jit::Module& module) {
  for (const auto& each : module.modules()) {
    for (const auto& method : each.get_methods()) upgrade(*method.graph()->block());
  }
}

}  // namespace lta::script
