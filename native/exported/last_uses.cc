#include <unordered_map>
#include <vector>

#include "exported/graph.h"

namespace lta::exported {
namespace {

// Where a node's last arguments stand: from its end on, `read` says of each slot whether something behind reads it.
void endIn(Node& node, std::vector<bool>& read) {
  node.ending.clear();
  // A value that nothing reads isn't stored at all.
  const auto store = [&](int& slot) {
    if (slot < kNoSlot) slot = unread(slot);
    if (slot != kNoSlot && !read[static_cast<size_t>(slot)]) slot = unread(slot);
  };
  for (auto& result : node.results) {
    store(result.slot);
    for (auto& slot : result.slots) store(slot);
  }
  if (node.kind == Node::Kind::Nothing) return;
  std::unordered_map<int, int> uses;
  for (auto& argument : node.arguments) {
    eachSlot(argument, [&](int slot) { ++uses[slot]; });
  }
  std::unordered_map<int, bool> moved;
  for (auto& argument : node.arguments) {
    argument.last = argument.kind == Argument::Kind::Slot && argument.cast == Argument::Cast::None &&
                    uses[argument.slot] == 1 && !read[static_cast<size_t>(argument.slot)];
    if (argument.last) moved[argument.slot] = true;
  }
  for (const auto& [slot, count] : uses) {
    if (read[static_cast<size_t>(slot)]) continue;
    if (!moved[slot]) node.ending.push_back(slot);
    read[static_cast<size_t>(slot)] = true;
  }
}

}  // namespace

void findLastUses(Graph& graph, const std::vector<int>& kept) {
  std::vector<bool> read(static_cast<size_t>(graph.slotCount), false);
  for (const int slot : kept) read[static_cast<size_t>(slot)] = true;
  for (const auto& output : graph.outputs) {
    eachSlot(output, [&](int slot) { read[static_cast<size_t>(slot)] = true; });
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    endIn(*node, read);
    for (auto& inner : node->graphs) findLastUses(*inner, {});
  }
}

}  // namespace lta::exported
