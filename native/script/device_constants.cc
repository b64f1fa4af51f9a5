#include "script/device_constants.h"

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <string>

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Marks the constants that are placed: once they are of the CPU, nothing else tells them from those that stay.
const c10::Symbol kPlaced = c10::Symbol::attr("lta_placed");

bool isDeviceConstant(const jit::Node& node) {
  return node.kind() == jit::prim::Constant && node.outputs().size() == 1 &&
         node.output()->type()->kind() == c10::TypeKind::DeviceObjType && node.hasAttribute(jit::attr::value);
}

bool isAccelerator(const c10::Device& device) { return !device.is_cpu() && !device.is_meta(); }

void eachNode(jit::Block& block, const std::function<void(jit::Node&)>& visit) {
  for (auto next = block.nodes().begin(); next != block.nodes().end();) {
    auto* node = *next++;
    for (auto* inner : node->blocks()) eachNode(*inner, visit);
    if (node->hasAttribute(jit::attr::Subgraph)) eachNode(*node->g(jit::attr::Subgraph)->block(), visit);
    visit(*node);
  }
}

// `x.cuda()` has no constant: it becomes `x.to(device)`.
void replaceCuda(jit::Node& node) {
  auto& graph = *node.owningGraph();
  const jit::WithInsertPoint here(&node);
  auto* device = graph.insertConstant(c10::Device(c10::DeviceType::CUDA));
  device->node()->i_(kPlaced, 1);
  auto* moved = graph.insert(jit::aten::to, {node.input(0), device, jit::IValue(), false, false});
  if (const auto stack = node.callstack()) moved->node()->setCallStack(*stack);
  node.output()->replaceAllUsesWith(moved);
  node.destroy();
}

// True if there is anything to place.
bool markIn(jit::Block& block) {
  bool any = false;
  eachNode(block, [&](jit::Node& node) {
    if (node.kind() == c10::Symbol::fromQualString("aten::cuda") && node.inputs().size() == 1) {
      replaceCuda(node);
      any = true;
    } else if (isDeviceConstant(node) && isAccelerator(c10::Device(node.s(jit::attr::value)))) {
      node.i_(kPlaced, 1);
      any = true;
    }
  });
  return any;
}

void eachGraph(const jit::Module& module, const std::function<void(jit::Graph&)>& visit) {
  for (auto* function : module._ivalue()->compilation_unit()->get_functions()) {
    auto* compiled = jit::tryToGraphFunction(*function);
    if (!compiled) continue;
    compiled->ensure_defined();
    visit(*compiled->graph());
  }
}

}  // namespace

DeviceConstants::DeviceConstants(jit::Module module) : module_(std::move(module)) {
  eachGraph(module_, [&](jit::Graph& graph) { inGraphs_ = markIn(*graph.block()) || inGraphs_; });
  for (const auto& each : module_.modules()) {
    const auto object = each._ivalue();
    for (size_t slot = 0; slot < object->slots().size(); ++slot) {
      const auto& value = object->getSlot(slot);
      if (value.isDevice() && isAccelerator(value.toDevice())) attributes_.emplace_back(object, slot);
    }
  }
}

bool DeviceConstants::place(c10::Device device) {
  for (const auto& [object, slot] : attributes_) object->setSlot(slot, device);
  if (!inGraphs_) return !attributes_.empty();
  const auto name = device.str();
  eachGraph(module_, [&](jit::Graph& graph) {
    eachNode(*graph.block(), [&](jit::Node& node) {
      if (node.hasAttribute(kPlaced)) node.s_(jit::attr::value, name);
    });
  });
  return true;
}

}  // namespace lta::script
