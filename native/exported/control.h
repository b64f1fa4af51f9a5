#pragma once

#include <ATen/core/ivalue.h>

#include <vector>

#include "exported/graph.h"

namespace lta::exported {

// Runs a node that runs graphs of its own: a condition, a loop, a block with another mode. `arguments` in the node's
// order. Gives the values of the graph, each by itself.
std::vector<c10::IValue> runControl(const Node& node, std::vector<c10::IValue> arguments);

}  // namespace lta::exported
