#include "exported/graph_index.h"

namespace lta::exported {

GraphIndex::GraphIndex(const Program& program, const Graph& graph) : values_(static_cast<size_t>(graph.slotCount)) {
  for (const auto& [slot, weight] : program.bound) at(slot).weight = program.weights[weight].tensor;
  for (size_t place = 0; place < graph.nodes.size(); ++place) add(graph.nodes[place], place);
  for (const auto& output : graph.outputs) {
    eachSlot(output, [&](int slot) { at(slot).readers.push_back(kOutput); });
  }
}

const GraphIndex::Value& GraphIndex::at(int slot) const {
  static const Value kNobodys;
  return slot == kNoSlot ? kNobodys : values_[static_cast<size_t>(slot)];
}

std::optional<size_t> GraphIndex::producer(int slot) const { return at(slot).producer; }
const std::vector<size_t>& GraphIndex::readers(int slot) const { return at(slot).readers; }
at::Tensor GraphIndex::weight(int slot) const { return at(slot).weight; }

void GraphIndex::add(const Node& node, size_t place) {
  for (const auto& argument : node.arguments) {
    eachSlot(argument, [&](int slot) { at(slot).readers.push_back(place); });
  }
  eachResultSlot(node, [&](int slot) { at(slot).producer = place; });
}

void GraphIndex::remove(const Node& node, size_t place) {
  for (const auto& argument : node.arguments) {
    eachSlot(argument, [&](int slot) { std::erase(at(slot).readers, place); });
  }
}

void GraphIndex::addSlot(int slot, size_t producer, size_t reader) {
  values_.resize(static_cast<size_t>(slot) + 1);
  at(slot).producer = producer;
  at(slot).readers = {reader};
}

}  // namespace lta::exported
