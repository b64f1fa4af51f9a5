#include "script/eager_attention.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <vector>

namespace lta::script {
namespace {

namespace jit = torch::jit;
using Kinds = std::unordered_set<c10::Symbol>;

bool isProduct(const jit::Node& node) {
  static const Kinds kinds{
      c10::aten::matmul,
      c10::aten::bmm,
      c10::aten::baddbmm,
      c10::aten::mm,
      c10::aten::addmm,
      c10::aten::mv,
      c10::aten::linear,
      c10::aten::einsum,
      c10::aten::tensordot,
      c10::aten::dot,
      c10::aten::addbmm,
      c10::aten::addmv,
      c10::Symbol::fromQualString("aten::_sparse_mm"),
  };
  return kinds.count(node.kind()) != 0;
}

// What adds up or averages, over positions perhaps.
bool isSum(const jit::Node& node) {
  static const Kinds kinds{
      c10::aten::sum,       c10::aten::mean,
      c10::aten::cumsum,    c10::aten::nansum,
      c10::aten::nanmean,   c10::aten::index_add,
      c10::aten::logsumexp, c10::aten::scatter_add,
      c10::aten::einsum,    c10::Symbol::fromQualString("aten::adaptive_avg_pool1d"),
      c10::aten::norm,      c10::Symbol::fromQualString("aten::adaptive_avg_pool2d"),
  };
  return kinds.count(node.kind()) != 0;
}

bool isConvolution(const jit::Node& node) {
  static const Kinds kinds{c10::aten::conv1d, c10::aten::conv2d, c10::aten::conv3d, c10::aten::_convolution,
                           c10::aten::convolution};
  return kinds.count(node.kind()) != 0;
}

// Attention whose weights are had from its operator.
bool isFusedAttention(const jit::Node& node) {
  static const auto attention = c10::Symbol::fromQualString("aten::scaled_dot_product_attention");
  static const auto module = c10::Symbol::fromQualString("aten::_native_multi_head_attention");
  static const auto layer = c10::Symbol::fromQualString("aten::_transformer_encoder_layer_fwd");
  return node.kind() == attention || node.kind() == module || node.kind() == layer;
}

bool isTensor(const jit::Value& value) { return value.type()->isSubtypeOf(*c10::TensorType::get()); }

bool isConstant(const jit::Value& value) {
  const auto kind = value.node()->kind();
  return kind == jit::prim::Constant || kind == jit::prim::GetAttr;
}

// The tensors that a node takes, also in a list.
std::vector<const jit::Value*> operandsOf(const jit::Node& node) {
  std::vector<const jit::Value*> operands;
  for (const auto* input : node.inputs()) {
    if (isTensor(*input)) operands.push_back(input);
    if (input->node()->kind() != jit::prim::ListConstruct) continue;
    for (const auto* each : input->node()->inputs()) {
      if (isTensor(*each)) operands.push_back(each);
    }
  }
  return operands;
}

// A linear layer, a convolution or a norm: what goes in leaves it mixed with weights of the model.
bool isLayer(const jit::Node& node) {
  static const Kinds norms{
      c10::aten::layer_norm,
      c10::aten::batch_norm,
      c10::aten::embedding,
      c10::Symbol::fromQualString("aten::group_norm"),
      c10::Symbol::fromQualString("aten::instance_norm"),
      c10::Symbol::fromQualString("aten::rms_norm"),
      c10::aten::lstm,
      c10::aten::gru,
  };
  if (norms.count(node.kind()) != 0 || isConvolution(node) || isFusedAttention(node)) return true;
  if (!isProduct(node)) return false;
  const auto operands = operandsOf(node);
  return std::any_of(operands.begin(), operands.end(), [](const auto* each) { return isConstant(*each); });
}

class Graph {
 public:
  explicit Graph(std::shared_ptr<jit::Graph>& graph) {
    jit::DepthFirstGraphNodeIterator every(graph);
    while (const auto* node = every.next()) nodes_.push_back(node);
    for (const auto* input : graph->inputs()) {
      const auto* tensor = input->type()->castRaw<c10::TensorType>();
      if (tensor && c10::isFloatingType(tensor->scalarType().value_or(at::kFloat))) learned_.insert(input);
    }
    // What a loop carries may be learned in its body only.
    for (size_t known = 1; known != 0;) {
      known = 0;
      for (const auto* node : nodes_) known += learn(*node);
    }
  }

  bool hasAttention() const {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const auto* node) { return isAttention(*node); });
  }

 private:
  struct Reached {
    bool product = false;  // of two values
    bool layer = false;
    bool sum = false;
    bool normalized = false;  // a quotient of two values that both come from it
  };

  // Whether a value depends on what a layer made or on numbers that are given, and not on masks and positions alone.
  bool isLearned(const jit::Value& value) const { return learned_.count(&value) != 0; }

  size_t learn(const jit::Node& node) {
    const auto& inputs = node.inputs();
    const auto learned = [&](const auto* value) { return isLearned(*value); };
    size_t fresh = 0;
    if (isLayer(node) || std::any_of(inputs.begin(), inputs.end(), learned)) {
      for (const auto* output : node.outputs()) fresh += learned_.insert(output).second;
      for (const auto* block : node.blocks()) {
        for (const auto* input : block->inputs()) fresh += learned_.insert(input).second;
      }
    }
    for (const auto* block : node.blocks()) {
      const auto& results = block->outputs();
      if (!std::any_of(results.begin(), results.end(), learned)) continue;
      for (const auto* output : node.outputs()) fresh += learned_.insert(output).second;
      for (const auto* input : block->inputs()) fresh += learned_.insert(input).second;
    }
    return fresh;
  }

  bool joinsLearned(const jit::Node& node) const {
    std::unordered_set<const jit::Value*> learned;
    for (const auto* each : operandsOf(node)) {
      // The scale of a norm that is written out.
      if (isLearned(*each) && each->node()->kind() != c10::aten::rsqrt) learned.insert(each);
    }
    return learned.size() > 1;
  }

  // What a value flows into, up to the layers.
  Reached reachedFrom(const jit::Value& value) const {
    Reached reached;
    std::unordered_set<const jit::Value*> seen{&value};
    std::vector<const jit::Value*> open{&value};
    std::vector<const jit::Node*> quotients;
    const auto add = [&](const jit::Value* next) {
      if (seen.insert(next).second) open.push_back(next);
    };
    while (!open.empty()) {
      const auto uses = open.back()->uses();
      open.pop_back();
      for (const auto& use : uses) {
        const auto* user = use.user;
        if (user->kind() == jit::prim::Return) {
          const auto* owner = user->owningBlock()->owningNode();
          if (!owner) continue;
          for (const auto* output : owner->outputs()) add(output);
          for (const auto* block : owner->blocks()) {
            for (const auto* input : block->inputs()) add(input);
          }
          continue;
        }
        for (const auto* block : user->blocks()) {
          for (const auto* input : block->inputs()) add(input);
        }
        if (isLayer(*user)) {
          reached.layer = true;
          continue;
        }
        reached.product = reached.product || isProduct(*user);
        reached.sum = reached.sum || isSum(*user);
        if (user->kind() == c10::aten::div) quotients.push_back(user);
        for (const auto* output : user->outputs()) add(output);
        // What is written in place is read by another name.
        if (user->maybeSchema() && user->schema().is_mutable() && !user->inputs().empty()) add(user->input(0));
      }
    }
    reached.normalized = std::any_of(quotients.begin(), quotients.end(), [&](const auto* node) {
      return seen.count(node->input(0)) != 0 && seen.count(node->input(1)) != 0;
    });
    return reached;
  }

  // Whether a softmax is over the features of the layer that made them: classes.
  static bool isOverFeatures(const jit::Node& softmax) {
    const auto dim = softmax.inputs().size() > 1 ? jit::toIValue(softmax.input(1)) : std::nullopt;
    if (!dim || !dim->isInt()) return false;
    const auto* made = softmax.input(0)->node();
    while (made->kind() == c10::aten::dropout || made->kind() == c10::aten::to) made = made->input(0)->node();
    if (isConvolution(*made)) return dim->toInt() == 1;
    if (!isProduct(*made) || !isLayer(*made)) return false;
    const auto rank = made->output()->type()->expectRef<c10::TensorType>().dim();
    return dim->toInt() == -1 || (rank && dim->toInt() == static_cast<int64_t>(*rank) - 1);
  }

  bool isAttention(const jit::Node& node) const {
    const auto kind = node.kind();
    if (isFusedAttention(node)) {
      // Which of more dimensions are heads is told by the layers that made them.
      const auto* query = node.inputs().empty() ? nullptr : node.input(0)->type()->castRaw<c10::TensorType>();
      return query && query->dim().value_or(4) > 4;
    }
    if (kind == c10::aten::softmax || kind == c10::aten::_softmax || kind == c10::aten::log_softmax) {
      const auto reached = reachedFrom(*node.output());
      return reached.product || reached.layer || reached.sum || !isOverFeatures(node);
    }
    if (kind == c10::aten::exp) {
      const auto reached = reachedFrom(*node.output());
      return reached.product || reached.layer || reached.sum || reached.normalized;
    }
    // Scores, states of recurrences, weights that no softmax made.
    if (isProduct(node) && !isLayer(node)) return joinsLearned(node);
    if (kind != c10::aten::mul || !joinsLearned(node)) return false;
    const auto reached = reachedFrom(*node.output());
    return reached.product || reached.sum;
  }

  std::vector<const jit::Node*> nodes_;
  std::unordered_set<const jit::Value*> learned_;
};

}  // namespace

bool hasEagerAttention(jit::Graph& graph) {
  auto unprofiled = graph.copy();
  jit::RemoveProfileNodesAndSpecializeTypes(unprofiled);
  return Graph(unprofiled).hasAttention();
}

}  // namespace lta::script
