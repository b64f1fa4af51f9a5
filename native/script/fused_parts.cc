#include "script/fused_parts.h"

#include <torch/csrc/jit/codegen/onednn/LlgaTensorImpl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace lta::script {
namespace {

namespace jit = torch::jit;
using jit::fuser::onednn::LlgaTensorImpl;

//   lta::fused_part(inputs...) -> outputs..., with the attributes of libtorch's own node
//   lta::strided(Tensor(a) value) -> Tensor(a)
const c10::Symbol kFusedPart = c10::Symbol::fromQualString("lta::fused_part");
const c10::Symbol kStrided = c10::Symbol::fromQualString("lta::strided");

// Tensors between fusion groups may have an opaque oneDNN layout.
bool isOpaque(const c10::IValue& value) {
  return value.isTensor() && dynamic_cast<const LlgaTensorImpl*>(value.toTensor().unsafeGetTensorImpl()) != nullptr;
}

c10::IValue strided(const c10::IValue& value) {
  if (!isOpaque(value)) return value;
  return LlgaTensorImpl::llga_to_aten_tensor(static_cast<LlgaTensorImpl*>(value.toTensor().unsafeGetTensorImpl()));
}

// Arguments that libtorch leaves out where it makes operators of oneDNN Graph of its own, and the only values that mean
// the same there.
struct LeftOut {
  c10::Symbol kind;
  const char* argument;
  c10::IValue value;
};

const std::vector<LeftOut>& leftOut() {
  static const std::vector<LeftOut> all{
      {c10::aten::add, "alpha", 1},
      {c10::aten::div, "rounding_mode", {}},
      {c10::aten::elu, "input_scale", 1},
      {c10::aten::elu, "scale", 1},
      {c10::aten::gelu, "approximate", "none"},
      {c10::aten::round, "decimals", 0},
      {c10::aten::softmax, "dtype", {}},
      {c10::aten::_softmax, "half_to_float", false},
      {c10::aten::_log_softmax, "half_to_float", false},
  };
  return all;
}

bool isEqual(const c10::IValue& a, const c10::IValue& b) {
  if (a.isScalar() && b.isScalar()) return a.toScalar().toDouble() == b.toScalar().toDouble();
  if (a.isString() && b.isString()) return a.toStringRef() == b.toStringRef();
  return a.isNone() && b.isNone();
}

// Whether a kernel computes what its group does.
bool computesItsGroup(jit::Graph& group) {
  // Inputs that may be None, such as a bias that a function was given, are left out as well, though they count where
  // the kernel looks for its constants: it would compute without them, and read beyond its memory.
  for (const auto* input : group.inputs()) {
    if (input->type()->kind() != c10::TypeKind::TensorType) return false;
  }
  for (const auto* node : group.nodes()) {
    for (const auto& [kind, argument, value] : leftOut()) {
      if (node->kind() != kind || !node->hasNamedInput(argument)) continue;
      const auto given = jit::toIValue(node->namedInput(argument));
      if (!given || !isEqual(*given, value)) return false;
    }
  }
  return true;
}

class FusedPart {
 public:
  explicit FusedPart(const jit::Node* node)
      : inputs_(node->inputs().size()), unfused_(node->g(jit::attr::Subgraph)->copy(), "unfused") {
    if (!computesItsGroup(*node->g(jit::attr::Subgraph))) {
      failed_ = true;
      return;
    }
    // libtorch compiles nodes of this kind only.
    for (const auto* input : node->inputs()) graph_.addInput()->setType(input->type());
    auto* own = graph_.insertNode(graph_.create(jit::prim::oneDNNFusionGroup, graph_.inputs(), node->outputs().size()));
    own->copyAttributes(*node);
    try {
      kernel_ = own->getOperation();
    } catch (const std::exception&) {  // not compilable
      failed_ = true;
    }
  }

  void run(jit::Stack& stack) {
    std::vector<bool> opaque;
    for (size_t i = 0; i < inputs_; ++i) opaque.push_back(isOpaque(jit::peek(stack, i, inputs_)));
    if (!succeeded_) {
      // The kernel is compiled for its first inputs; a failure isn't retried.
      const std::lock_guard<std::mutex> first(first_);
      if (!failed_ && !succeeded_) {
        if (runKernel(stack)) {
          opaque_ = std::move(opaque);
          succeeded_ = true;
          return;
        }
        failed_ = true;
      }
    }
    // A previous group that ran unfused passes on another layout than this kernel was compiled for.
    if (succeeded_ && opaque == opaque_ && runKernel(stack)) return;
    runUnfused(stack);
  }

 private:
  bool runKernel(jit::Stack& stack) {
    const auto size = stack.size();
    try {
      (*kernel_)(stack);
      return true;
    } catch (const std::exception&) {
      if (stack.size() != size) throw;
      return false;
    }
  }

  void runUnfused(jit::Stack& stack) {
    jit::Stack own;
    for (size_t i = 0; i < inputs_; ++i) own.push_back(strided(jit::peek(stack, i, inputs_)));
    jit::InterpreterState(unfused_).run(own);
    jit::drop(stack, inputs_);
    for (auto& output : own) stack.push_back(std::move(output));
  }

  const size_t inputs_;
  const jit::Code unfused_;
  jit::Graph graph_;
  std::optional<jit::Operation> kernel_;
  std::mutex first_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> succeeded_{false};
  std::vector<bool> opaque_;  // which inputs were opaque when the kernel was compiled
};

jit::Operation createFusedPart(const jit::Node* node) {
  return [part = std::make_shared<FusedPart>(node)](jit::Stack& stack) { part->run(stack); };
}

// For other shapes than a group was fused for, libtorch runs its unfused form, with inputs of any layout.
void takeStridedInputs(jit::Block& block) {
  for (auto* node : block.nodes()) {
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      auto* input = node->input(i);
      if (input->node()->owningBlock() == &block || !input->type()->isSubtypeOf(*c10::TensorType::get())) continue;
      auto* conversion = node->owningGraph()->create(kStrided, {input}, 1);
      conversion->insertBefore(node);
      node->replaceInput(i, conversion->output());
    }
  }
}

}  // namespace

void keepUnfusedForms(jit::Block& block) {
  std::vector<jit::Node*> parts;
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) keepUnfusedForms(*inner);
    if (node->kind() == jit::prim::oneDNNFusionGroup) parts.push_back(node);
    if (node->kind() == jit::prim::If && node->input()->node()->kind() == jit::prim::oneDNNFusionGuard) {
      takeStridedInputs(*node->blocks()[1]);
    }
  }
  for (auto* node : parts) {
    auto* part = node->owningGraph()->create(kFusedPart, node->inputs(), node->outputs().size());
    part->copyAttributes(*node);
    part->copyMetadata(node);
    part->insertBefore(node);
    for (size_t i = 0; i < node->outputs().size(); ++i) {
      part->output(i)->setType(node->output(i)->type());
      node->output(i)->replaceAllUsesWith(part->output(i));
    }
    node->destroy();
  }
}

void registerFusedParts() {
  static const jit::RegisterOperators registration({
      jit::Operator(kFusedPart, createFusedPart, c10::AliasAnalysisKind::CONSERVATIVE),
      jit::Operator(
          "lta::strided(Tensor(a) value) -> Tensor(a)",
          [](jit::Stack& stack) { stack.push_back(strided(jit::pop(stack))); }, c10::AliasAnalysisKind::FROM_SCHEMA),
  });
}

}  // namespace lta::script
