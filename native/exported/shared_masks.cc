#include "exported/shared_masks.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>

#include <limits>
#include <unordered_map>
#include <utility>

#include "torch/dispatcher.h"

namespace lta::exported {
namespace {

constexpr const char* kOperator = "lta::additive_mask";
constexpr const char* kAttention = "aten::scaled_dot_product_attention";
// Places among an attention's arguments.
constexpr size_t kQuery = 0;
constexpr size_t kMask = 3;
// Larger masks are made for each attention, so that they take no memory between.
constexpr int64_t kMostElements = 1 << 20;

// Libtorch picks its kernel by the mask's strides, too.
bool hasRows(const at::Tensor& mask) { return mask.dim() > 0 && mask.stride(-1) == 1; }

// What attention makes of a mask, or the mask itself where that isn't to be kept. `before`: made of the same mask for
// another attention.
at::Tensor additiveMask(const at::Tensor& mask, const at::Tensor& query, const std::optional<at::Tensor>& before) {
  if (mask.scalar_type() != at::kBool || !mask.device().is_cpu() || !hasRows(mask) || mask.numel() > kMostElements ||
      at::autocast::is_autocast_enabled(at::kCPU)) {
    return mask;
  }
  if (before && before->scalar_type() == query.scalar_type()) return *before;
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  auto made = at::where(mask, 0.0, at::scalar_tensor(kHidden, at::TensorOptions().dtype(query.scalar_type())));
  return hasRows(made) ? made : mask;
}

// Whether what was made of a mask before a node may not be right after it.
bool mayWrite(const Node& node) {
  return node.kind == Node::Kind::Control || (node.handle && node.handle->schema().is_mutable());
}

int maskOf(const Node& node) {
  const bool isAttention =
      node.kind == Node::Kind::Operator && node.handle && node.handle->operator_name().name == kAttention;
  if (!isAttention || node.arguments.size() <= kMask || node.arguments[kQuery].kind != Argument::Kind::Slot) {
    return kNoSlot;
  }
  const auto& mask = node.arguments[kMask];
  return mask.kind == Argument::Kind::Slot ? mask.slot : kNoSlot;
}

Argument argumentOf(int slot) { return slot == kNoSlot ? Argument() : slotArgument(slot); }

Node makingMask(const Node& attention, int before, int result) {
  Node node;
  node.kind = Node::Kind::Operator;
  node.name = attention.name;
  node.target = kOperator;
  node.modules = attention.modules;
  node.handle = c10::Dispatcher::singleton().findSchemaOrThrow(kOperator, "");
  node.arguments = {slotArgument(attention.arguments[kMask].slot), slotArgument(attention.arguments[kQuery].slot),
                    argumentOf(before)};
  node.results.emplace_back();
  node.results[0].slot = result;
  return node;
}

// How many attentions take each mask, where several do.
std::unordered_map<int, int> sharedMasks(const Graph& graph) {
  std::unordered_map<int, int> uses;
  for (const auto& node : graph.nodes) ++uses[maskOf(node)];
  uses.erase(kNoSlot);
  std::erase_if(uses, [](const auto& each) { return each.second < 2; });
  return uses;
}

}  // namespace

void registerMaskOperator() {
  auto& library = operatorsOf("lta");
  library.def("additive_mask(Tensor(a) mask, Tensor query, Tensor(a)? before) -> Tensor(a)");
  library.impl("additive_mask", additiveMask);
}

std::optional<Graph> withSharedMasks(const Graph& graph, const std::vector<int>& kept) {
  const auto shared = sharedMasks(graph);
  if (shared.empty()) return std::nullopt;
  auto made = graph;
  made.nodes.clear();
  made.calls.clear();                    // they are told by places of nodes
  std::unordered_map<int, int> results;  // of each mask: where what was made of it is
  for (auto node : graph.nodes) {
    if (mayWrite(node)) results.clear();
    const int mask = maskOf(node);
    if (shared.count(mask) != 0) {
      const auto before = results.find(mask);
      const int result = made.slotCount++;
      made.isNumber.push_back(false);
      made.nodes.push_back(makingMask(node, before == results.end() ? kNoSlot : before->second, result));
      node.arguments[kMask] = slotArgument(result);
      results[mask] = result;
    }
    made.nodes.push_back(std::move(node));
  }
  findLastUses(made, kept);
  return made;
}

}  // namespace lta::exported
