#include "exported/passed_values.h"

#include <algorithm>

namespace lta::exported {

// A graph's last inputs are the node's last arguments, one behind the other.
std::vector<std::pair<int, int>> passedValues(const Node& node, const Graph& inner) {
  std::vector<int> given;
  bool isBehind = false;
  for (const auto& argument : node.arguments) {
    if (argument.kind == Argument::Kind::Graph) {
      isBehind = true;
    } else if (!isBehind) {
      continue;
    } else if (argument.kind == Argument::Kind::Slot || argument.kind == Argument::Kind::Constant) {
      given.push_back(argument.slot);
    } else {
      for (const auto& item : argument.items) given.push_back(item.slot);
    }
    if (node.control == ControlOperator::Wrapper && !given.empty()) break;  // hints stand behind
  }
  std::vector<std::pair<int, int>> passed;
  for (size_t fromEnd = 1; fromEnd <= std::min(given.size(), inner.inputs.size()); ++fromEnd) {
    const int outside = given[given.size() - fromEnd], inside = inner.inputs[inner.inputs.size() - fromEnd];
    if (outside != kNoSlot && inside != kNoSlot) passed.emplace_back(outside, inside);
  }
  return passed;
}

}  // namespace lta::exported
