#include <torch/csrc/jit/codegen/onednn/interface.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/pass_manager.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "script/eager_attention.h"
#include "script/fused_parts.h"
#include "script/fusion.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

thread_local bool fusing = false;

//   lta::set_aside(inputs...) -> Tensor, with the name of the operator that it stands for
const c10::Symbol kSetAside = c10::Symbol::fromQualString("lta::set_aside");

void replace(jit::Node& node, jit::Node& other) {
  other.copyMetadata(&node);
  other.output()->setType(node.output()->type());
  other.insertBefore(&node);
  node.output()->replaceAllUsesWith(other.output());
  node.destroy();
}

// The type that a tensor with dimensions had in the runs that were profiled.
std::optional<at::ScalarType> typeOf(const jit::Value& value) {
  const auto& node = *value.node();
  const bool profiled = node.kind() == jit::prim::profile && node.hasAttribute(jit::attr::profiled_type);
  const auto type = profiled ? node.ty(jit::attr::profiled_type) : value.type();
  const auto* tensor = type->castRaw<c10::TensorType>();
  return tensor && tensor->dim().value_or(0) > 0 ? tensor->scalarType() : std::nullopt;
}

// Whether libtorch's fuser changes the type or shape of what arithmetic gives: it makes tensors with a dimension of
// numbers, in the type of the other operand, which is right beside such tensors of floating-point numbers only.
bool changesResult(const jit::Node& node) {
  const auto kind = node.kind();
  if (kind != c10::aten::add && kind != c10::aten::sub && kind != c10::aten::mul && kind != c10::aten::div)
    return false;
  if (node.outputs().size() != 1 || node.inputs().size() < 2) return false;
  const auto first = typeOf(*node.input(0));
  if (first != at::kFloat && first != at::kBFloat16) return true;
  return node.input(1)->type()->isSubtypeOf(*c10::TensorType::get()) && typeOf(*node.input(1)) != first;
}

void setAside(jit::Block& block) {
  std::vector<jit::Node*> nodes;
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) setAside(*inner);
    if (changesResult(*node)) nodes.push_back(node);
  }
  for (auto* node : nodes) {
    auto* other = node->owningGraph()->create(kSetAside, node->inputs(), 1);
    other->s_(jit::attr::name, node->kind().toQualString());
    replace(*node, *other);
  }
}

void bringBack(jit::Block& block) {
  std::vector<jit::Node*> nodes;
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) bringBack(*inner);
    if (node->kind() == kSetAside) nodes.push_back(node);
  }
  for (auto* node : nodes) {
    const auto kind = c10::Symbol::fromQualString(node->s(jit::attr::name));
    replace(*node, *node->owningGraph()->create(kind, node->inputs(), 1));
  }
}

// The fuser may fail on a graph, which then stays as it was.
void fuse(std::shared_ptr<jit::Graph>& graph) {
  if (!fusing || hasEagerAttention(*graph)) return;
  auto unfused = graph->copy();
  try {
    setAside(*graph->block());
    jit::fuser::onednn::fuseGraph(graph);
    bringBack(*graph->block());
    keepUnfusedForms(*graph->block());
  } catch (const std::exception&) {
    graph = std::move(unfused);
  }
}

}  // namespace

bool hasFusion() { return true; }

void registerFusion() {
  registerFusedParts();
  static const jit::RegisterOperators registration({jit::Operator(
      kSetAside, [](const jit::Node*) -> jit::Operation { throw std::logic_error("lta::set_aside is never run"); },
      c10::AliasAnalysisKind::PURE_FUNCTION)});
  jit::registerPrePass(fuse);
}

bool setFusing(bool on) { return std::exchange(fusing, on); }

}  // namespace lta::script
