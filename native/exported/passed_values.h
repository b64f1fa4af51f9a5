#pragma once

#include <utility>
#include <vector>

#include "exported/graph.h"

namespace lta::exported {

// What a node passes to one of the graphs that it runs: slots of values in the graph around, and in that one. Values
// that the node makes itself, such as the rows of a loop, are told by what they are made of.
std::vector<std::pair<int, int>> passedValues(const Node& node, const Graph& inner);

}  // namespace lta::exported
