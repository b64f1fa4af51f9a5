#pragma once

#include <functional>
#include <string>
#include <vector>

#include "exported/expansion.h"
#include "exported/graph.h"
#include "exported/json.h"
#include "exported/value_names.h"

namespace lta::exported {

// A graph, with the names of its values.
struct NamedGraph {
  Graph graph;
  ValueNames names;
};

// Reads graphs: operators are looked up in the dispatcher, once, and their arguments put as those want them. Throws
// ERR_MODEL_LOAD for what the format doesn't allow, ERR_UNKNOWN_OPERATOR for an operator that isn't registered,
// ERR_UNSUPPORTED_FILE for what exists in Python only. `mayUse` is asked for each operator, and throws where it may not
// be used.
class GraphReader {
 public:
  using MayUse = std::function<void(const c10::OperatorHandle&)>;
  GraphReader(ModuleStacks& modules, MayUse mayUse) : modules_(modules), mayUse_(std::move(mayUse)) {}

  NamedGraph read(const Json& graph) { return readGraph(graph, 0); }

 private:
  NamedGraph readGraph(const Json& json, uint64_t depth);
  // Appends what the file has as one node: one, or those in place of one that calls an operator.
  void readNode(const Json& json, ValueNames& names, Graph& graph, Expansion& expansion, uint64_t depth);
  void readOperator(Node& node, std::vector<Argument> arguments, const std::vector<std::string>& names,
                    const std::vector<bool>& isNumber);

  ModuleStacks& modules_;
  const MayUse mayUse_;
};

}  // namespace lta::exported
