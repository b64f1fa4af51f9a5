#pragma once

#include <string>
#include <vector>

#include "exported/graph.h"
#include "exported/program.h"
#include "hooks/hook_registry.h"

namespace lta::exported {

// Where hooks on a node stand among those of a model: no module's name begins so.
std::string placeOfNode(const std::string& node);
// The node at a place; none where that is a module.
std::optional<std::string> nodeAt(const std::string& place);

// What hooks on nodes are told of them.
struct NodeInfo {
  std::string name;  // those of a graph inside another behind its name: "true_graph_0.add"
  std::string type;  // the operator; 'placeholder' for an input of the graph
  std::string module;
};

// All nodes that give values, those inside of others behind them.
std::vector<NodeInfo> nodesOf(const Graph& graph);

// A program's graph with nodes at the boundaries of those modules, and behind those nodes, that have hooks. What it
// computes is the same.
Graph graphWithHooks(const Program& program, const HookSet& hooks);

}  // namespace lta::exported
