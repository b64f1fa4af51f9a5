#include "script/one_type.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <string>
#include <unordered_set>
#include <vector>

namespace lta::script {
namespace {

namespace jit = torch::jit;

const c10::Symbol kToType = c10::Symbol::fromQualString("lta::to_type");
const c10::Symbol kToTypeOptional = c10::Symbol::fromQualString("lta::to_type_optional");

void toType(jit::Stack& stack) {
  const auto type = static_cast<at::ScalarType>(jit::pop(stack).toInt());
  auto value = jit::pop(stack);
  if (value.isTensor() && value.toTensor().is_floating_point() && value.toTensor().scalar_type() != type) {
    value = value.toTensor().to(type);
  }
  stack.push_back(std::move(value));
}

// Operators that refuse mixed floating-point types.
bool requiresOneType(const jit::Node& node) {
  static const std::unordered_set<std::string> names{"aten::matmul",
                                                     "aten::mm",
                                                     "aten::bmm",
                                                     "aten::mv",
                                                     "aten::dot",
                                                     "aten::inner",
                                                     "aten::addmm",
                                                     "aten::addmv",
                                                     "aten::baddbmm",
                                                     "aten::addbmm",
                                                     "aten::linear",
                                                     "aten::bilinear",
                                                     "aten::einsum",
                                                     "aten::tensordot",
                                                     "aten::scaled_dot_product_attention",
                                                     "aten::_native_multi_head_attention",
                                                     "aten::_transformer_encoder_layer_fwd",
                                                     "aten::layer_norm",
                                                     "aten::native_layer_norm",
                                                     "aten::rms_norm",
                                                     "aten::group_norm",
                                                     "aten::native_group_norm",
                                                     "aten::batch_norm",
                                                     "aten::instance_norm",
                                                     "aten::conv1d",
                                                     "aten::conv2d",
                                                     "aten::conv3d",
                                                     "aten::convolution",
                                                     "aten::_convolution",
                                                     "aten::conv_transpose1d",
                                                     "aten::conv_transpose2d",
                                                     "aten::conv_transpose3d",
                                                     "aten::lstm",
                                                     "aten::gru",
                                                     "aten::rnn_tanh",
                                                     "aten::rnn_relu",
                                                     "aten::lstm_cell",
                                                     "aten::gru_cell",
                                                     "aten::rnn_tanh_cell",
                                                     "aten::rnn_relu_cell",
                                                     "aten::prelu",
                                                     "aten::cdist"};
  return names.count(node.kind().toQualString()) != 0;
}

// The checkpoint's own tensors were converted at load.
bool isConverted(const jit::Value& value) {
  const auto kind = value.node()->kind();
  return kind == jit::prim::Constant || kind == jit::prim::GetAttr;
}

void convertInputs(jit::Node& node, jit::Value* type) {
  for (size_t i = 0; i < node.inputs().size(); ++i) {
    auto* input = node.input(i);
    const auto inputType = input->type();
    const bool tensor = inputType->isSubtypeOf(*c10::TensorType::get());
    const bool optional = !tensor && inputType->isSubtypeOf(*c10::OptionalType::ofTensor());
    if (input->node()->kind() == jit::prim::ListConstruct && inputType->isSubtypeOf(*c10::ListType::ofTensors())) {
      convertInputs(*input->node(), type);
    }
    if ((!tensor && !optional) || isConverted(*input)) continue;
    auto* cast = node.owningGraph()->create(tensor ? kToType : kToTypeOptional, {input, type}, 1);
    cast->output()->setType(tensor ? c10::TypePtr(c10::TensorType::get())
                                   : c10::TypePtr(c10::OptionalType::ofTensor()));
    cast->insertBefore(&node);
    if (const auto stack = node.callstack()) cast->setCallStack(*stack);
    node.replaceInput(i, cast->output());
  }
}

void unifyInBlock(jit::Block& block, jit::Value* type, at::ScalarType scalarType) {
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) unifyInBlock(*inner, type, scalarType);
    if (node->hasAttribute(jit::attr::Subgraph))
      lta::script::unifyOperandTypes(*node->g(jit::attr::Subgraph), scalarType);
    if (requiresOneType(*node)) convertInputs(*node, type);
  }
}

}  // namespace

void registerTypeConversions() {
  static const jit::RegisterOperators registration({
      jit::Operator("lta::to_type(Tensor(a) value, int type) -> Tensor(a)", toType,
                    c10::AliasAnalysisKind::FROM_SCHEMA),
      jit::Operator("lta::to_type_optional(Tensor(a)? value, int type) -> Tensor(a)?", toType,
                    c10::AliasAnalysisKind::FROM_SCHEMA),
  });
}

void unifyOperandTypes(jit::Graph& graph, at::ScalarType type) {
  jit::Value* constant = nullptr;
  {
    const jit::WithInsertPoint start(*graph.block()->nodes().begin());
    constant = graph.insertConstant(static_cast<int64_t>(type));
  }
  unifyInBlock(*graph.block(), constant, type);
}

}  // namespace lta::script
