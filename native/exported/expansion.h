#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "exported/graph.h"
#include "exported/json.h"
#include "exported/signature.h"
#include "exported/value_names.h"

// Operators of Python that call one of libtorch in a way of their own. A graph has, in their place, the nodes that do
// the same.
namespace lta::exported {

// Begins the targets of what Python's dispatcher has beside operators.
inline constexpr std::string_view kHigherOrder = "torch.ops.higher_order.";
// Writes to Python's output, and computes nothing.
inline constexpr std::string_view kPrint = "torch.ops.higher_order.print";

// Whether a node's target is one of them.
bool isExpanded(std::string_view target);

// A node that calls an operator, as the file has it.
struct OperatorCall {
  Node node;           // with its name, target and modules
  std::string called;  // the target of the operator
  std::vector<Argument> arguments;
  std::vector<std::string> argumentNames;
  std::vector<std::string> values;  // what the arguments refer to; empty for constants
  std::vector<Json> outputs;
};

// Appends the nodes of calls to a graph that is being read.
class Expansion {
 public:
  // Makes a node that has a target one of an operator.
  using ReadOperator =
      std::function<void(Node& node, std::vector<Argument> arguments, const std::vector<std::string>& names)>;
  using ReadResult = std::function<Result(const Json& output)>;

  // `tensors`: what the graph says of its tensors.
  Expansion(Graph& graph, ValueNames& names, ValueTable tensors, ReadOperator readOperator, ReadResult readResult);

  // Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE.
  void append(OperatorCall call);

 private:
  void appendOutDtype(OperatorCall call);
  void appendFunctionalized(OperatorCall call);
  void appendFunctionalizedViews(OperatorCall call);
  void appendWithEffects(OperatorCall call);

  // The node of the operator itself, which gives the call's first results, and what it wrote to as the others.
  void appendWriting(OperatorCall call, const std::vector<Argument>& written);
  // A node of an operator that gives one tensor: where that lies.
  Argument add(const Node& by, const std::string& name, const char* target, std::vector<Argument> arguments,
               const std::vector<std::string>& names);
  int define(const std::string& name);

  Graph& graph_;
  ValueNames& names_;
  const ValueTable tensors_;
  const ReadOperator readOperator_;
  const ReadResult readResult_;
};

// Registers `lta::clone_strided`, once a process.
void registerCloneOperator();

}  // namespace lta::exported
