#include "exported/expansion.h"

#include <ATen/ATen.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "exported/argument_reader.h"
#include "exported/schema.h"
#include "torch/dispatcher.h"

namespace lta::exported {
namespace {

using Kind = Argument::Kind;

constexpr std::string_view kOutDtype = "torch.ops.higher_order.out_dtype";
constexpr std::string_view kFunctionalized = "torch.ops.higher_order.auto_functionalized";
constexpr std::string_view kFunctionalizedViews = "torch.ops.higher_order.auto_functionalized_v2";
constexpr std::string_view kWithEffects = "torch.ops.higher_order.with_effects";
constexpr const char* kClone = "torch.ops.lta.clone_strided.default";

// A copy of all memory that a tensor spans, with its strides and offset, so that views of it can be made by theirs.
at::Tensor cloneStrided(const at::Tensor& tensor) {
  int64_t length = tensor.numel() == 0 ? 0 : tensor.storage_offset() + 1;
  if (length > 0) {
    for (int64_t d = 0; d < tensor.dim(); ++d) length += (tensor.size(d) - 1) * tensor.stride(d);
  }
  return tensor.as_strided({length}, {1}, 0)
      .clone()
      .as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset());
}

Error unserved(const OperatorCall& call, const std::string& what) {
  return Error("ERR_UNSUPPORTED_FILE", "it calls " + shown(call.called) + " by " + shown(call.node.target) + " " +
                                           what + ", which isn't served");
}

int category(at::ScalarType type) {
  return type == at::kBool ? 0 : c10::isIntegralType(type, false) ? 1 : c10::isComplexType(type) ? 3 : 2;
}

// Of an operator: the names of the arguments that it writes to; none of one that isn't there.
std::vector<std::string> writtenBy(const std::string& called) {
  std::vector<std::string> names;
  const auto handle = c10::Dispatcher::singleton().findSchema(operatorName(called));
  if (!handle) return names;
  for (const auto& argument : handle->schema().arguments()) {
    if (argument.alias_info() && argument.alias_info()->isWrite()) names.push_back(argument.name());
  }
  return names;
}

// Arguments that an operator of Python passes on by position have the names that the schema gives them.
void nameByPosition(OperatorCall& call) {
  const auto handle = c10::Dispatcher::singleton().findSchema(operatorName(call.called));
  if (!handle) return;  // which the operator's own node says
  const auto& arguments = handle->schema().arguments();
  for (size_t i = 0; i < call.arguments.size() && i < arguments.size(); ++i) {
    if (call.argumentNames[i].empty()) call.argumentNames[i] = arguments[i].name();
  }
}

// The arguments of a call, to be taken out by name.
class Given {
 public:
  explicit Given(OperatorCall& call) : call_(call) {
    for (size_t i = 0; i < call.arguments.size(); ++i) places_.emplace(call.argumentNames[i], i);
  }

  std::optional<Argument> take(const std::string& name) {
    const auto found = places_.find(name);
    if (found == places_.end()) return std::nullopt;
    const size_t place = found->second;
    places_.erase(found);
    return std::move(call_.arguments[place]);
  }

  Argument need(const std::string& name) {
    auto taken = take(name);
    if (!taken) throw broken("the node " + shown(call_.node.name) + " lacks the argument '" + name + "'");
    return std::move(*taken);
  }

  // A number that has to be a constant; none for None.
  std::optional<int64_t> number(const std::string& name) {
    const auto argument = need(name);
    if (argument.kind == Kind::Constant && argument.constant.isNone()) return std::nullopt;
    if (argument.kind != Kind::Constant || !argument.constant.isInt()) {
      throw broken("the node " + shown(call_.node.name) + " has no integer for the argument '" + name + "'");
    }
    return argument.constant.toInt();
  }

  // Leaves those in the call that nothing took.
  void keepRest() {
    std::vector<Argument> arguments;
    std::vector<std::string> names;
    for (size_t i = 0; i < call_.arguments.size(); ++i) {
      const auto found = places_.find(call_.argumentNames[i]);
      if (found == places_.end() || found->second != i) continue;
      arguments.push_back(std::move(call_.arguments[i]));
      names.push_back(call_.argumentNames[i]);
    }
    call_.arguments = std::move(arguments);
    call_.argumentNames = std::move(names);
  }

 private:
  OperatorCall& call_;
  std::unordered_map<std::string, size_t> places_;
};

}  // namespace

bool isExpanded(std::string_view target) {
  return target == kOutDtype || target == kFunctionalized || target == kFunctionalizedViews || target == kWithEffects;
}

Expansion::Expansion(Graph& graph, ValueNames& names, ValueTable tensors, ReadOperator readOperator,
                     ReadResult readResult)
    : graph_(graph),
      names_(names),
      tensors_(std::move(tensors)),
      readOperator_(std::move(readOperator)),
      readResult_(std::move(readResult)) {}

void Expansion::append(OperatorCall call) {
  if (call.called.empty()) throw broken("the node " + shown(call.node.name) + " calls no operator");
  if (call.node.target == kOutDtype) return appendOutDtype(std::move(call));
  if (call.node.target == kFunctionalized) return appendFunctionalized(std::move(call));
  if (call.node.target == kWithEffects) return appendWithEffects(std::move(call));
  appendFunctionalizedViews(std::move(call));
}

int Expansion::define(const std::string& name) {
  const int slot = names_.define(name);
  graph_.isNumber.push_back(false);
  return slot;
}

Argument Expansion::add(const Node& by, const std::string& name, const char* target, std::vector<Argument> arguments,
                        const std::vector<std::string>& names) {
  Node node;
  node.name = name;
  node.target = target;
  node.modules = by.modules;
  readOperator_(node, std::move(arguments), names);
  node.results.emplace_back();
  node.results[0].slot = define(name);
  graph_.nodes.push_back(std::move(node));
  return slotArgument(graph_.nodes.back().results[0].slot);
}

// (operator, dtype, its arguments by position): tensors are cast to what they and the dtype are promoted to.
void Expansion::appendOutDtype(OperatorCall call) {
  if (call.arguments.empty() || call.arguments[0].kind != Kind::Constant || !call.arguments[0].constant.isInt()) {
    throw broken("the node " + shown(call.node.name) + " names no type");
  }
  if (call.outputs.size() != 1) throw broken("the node " + shown(call.node.name) + " gives more than one value");
  const auto dtype = call.arguments[0];
  const auto result = static_cast<at::ScalarType>(dtype.constant.toInt());
  call.arguments.erase(call.arguments.begin());
  call.values.erase(call.values.begin());
  auto promoted = result;
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    const auto& argument = call.arguments[i];
    const auto found = tensors_.find(call.values[i]);
    if (argument.kind == Kind::Slot && found != tensors_.end()) {
      const auto type = scalarType(found->second.at("dtype"));
      // Those of no dimensions count less than others.
      const bool isZeroDim = found->second.at("sizes").elements().empty();
      if (isZeroDim && category(type) > category(promoted)) throw unserved(call, "with a tensor of no dimensions");
      if (!isZeroDim) promoted = c10::promoteTypes(promoted, type);
    } else if (argument.kind == Kind::Constant && argument.constant.isDouble() && category(promoted) < 2) {
      throw unserved(call, "with a floating-point number among integers");
    } else if (argument.kind != Kind::Constant && argument.kind != Kind::Integers) {
      throw unserved(call, "with what is neither a tensor nor a constant");
    }
  }
  const auto type = constantArgument(static_cast<int64_t>(promoted));
  Node node = call.node;
  node.target = call.called;
  node.name += ".operator";
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    if (call.values[i].empty() || call.arguments[i].kind != Kind::Slot) continue;
    call.arguments[i] = add(call.node, call.node.name + ".argument" + std::to_string(i), "torch.ops.aten.to.dtype",
                            {call.arguments[i], type}, {"self", "dtype"});
  }
  nameByPosition(call);
  const auto made = add(node, node.name, call.called.c_str(), std::move(call.arguments), call.argumentNames);
  Node cast = call.node;
  cast.target = "torch.ops.aten.to.dtype";
  readOperator_(cast, {made, dtype}, {"self", "dtype"});
  cast.results.push_back(readResult_(call.outputs[0]));
  graph_.nodes.push_back(std::move(cast));
}

// (operator, its arguments by name): on copies of what it writes to, which come behind what it gives.
void Expansion::appendFunctionalized(OperatorCall call) {
  std::vector<Argument> written;
  for (const auto& name : writtenBy(call.called)) {
    for (size_t i = 0; i < call.arguments.size(); ++i) {
      if (call.argumentNames[i] != name) continue;
      if (call.arguments[i].kind != Kind::Slot) throw unserved(call, "on a list of tensors");
      call.arguments[i] =
          add(call.node, call.node.name + ".copy" + std::to_string(written.size()), kClone, {call.arguments[i]}, {"x"});
      written.push_back(call.arguments[i]);
    }
  }
  appendWriting(std::move(call), written);
}

// (operator, its arguments by name, tensors): on views of copies of these, which come behind what it gives. Of each
// argument that it writes to, others tell which tensor it is a view of, and how.
void Expansion::appendFunctionalizedViews(OperatorCall call) {
  Given given(call);
  if (given.take("_op_schema")) throw unserved(call, "with an operator of Python");
  std::vector<Argument> bases;
  if (const auto all = given.take("_all_bases")) {
    for (const auto& item : all->items) {
      if (item.slot == kNoSlot) throw broken("the node " + shown(call.node.name) + " writes to what is no tensor");
      bases.push_back(add(call.node, call.node.name + ".copy" + std::to_string(bases.size()), kClone,
                          {slotArgument(item.slot)}, {"x"}));
    }
  }
  // None for None.
  const auto view = [&](const std::string& prefix) -> std::optional<Argument> {
    const auto index = given.number(prefix + "_base_index");
    if (!index) return std::nullopt;
    if (*index < 0 || static_cast<size_t>(*index) >= bases.size()) {
      throw broken("the node " + shown(call.node.name) + " writes to a tensor that it isn't given");
    }
    const auto& base = bases[static_cast<size_t>(*index)];
    const auto name = call.node.name + "." + prefix;
    if (given.take(prefix + "_alias")) return base;
    if (auto offset = given.take(prefix + "_storage_offset")) {
      return add(call.node, name, "torch.ops.aten.as_strided.default",
                 {base, given.need(prefix + "_size"), given.need(prefix + "_stride"), std::move(*offset)},
                 {"self", "size", "stride", "storage_offset"});
    }
    if (auto dimension = given.take(prefix + "_slice_dim")) {
      return add(call.node, name, "torch.ops.aten.slice.Tensor",
                 {base, std::move(*dimension), given.need(prefix + "_slice_start"), given.need(prefix + "_slice_end")},
                 {"self", "dim", "start", "end"});
    }
    return base;
  };
  std::vector<Argument> arguments;
  std::vector<std::string> names;
  for (const auto& name : writtenBy(call.called)) {
    const auto prefix = "_" + name;
    if (given.take(prefix + "_dtype")) throw unserved(call, "with tensors that it makes itself");
    Argument argument = constantArgument({});
    if (auto length = given.take(prefix + "_length"); length && length->constant.isInt()) {
      argument.kind = Kind::Tensors;
      for (int64_t i = 0; i < length->constant.toInt(); ++i) {
        const auto each = view(prefix + "_" + std::to_string(i));
        if (!each) argument.kind = Kind::OptionalTensors;
        argument.items.push_back({each ? each->slot : kNoSlot, {}});
      }
    } else if (!length) {
      if (auto one = view(prefix)) argument = std::move(*one);
    }
    arguments.push_back(std::move(argument));
    names.push_back(name);
  }
  given.keepRest();
  std::move(arguments.begin(), arguments.end(), std::back_inserter(call.arguments));
  std::move(names.begin(), names.end(), std::back_inserter(call.argumentNames));
  appendWriting(std::move(call), bases);
}

// (token, operator, its arguments): the operator, behind others that have effects. Nodes run in the order that they
// have in the file, so that the token, which comes ahead of what the operator gives, goes on as it is.
void Expansion::appendWithEffects(OperatorCall call) {
  const auto takes = call.arguments.empty() ? kNoSlot : slotOf(call.arguments[0]);
  const auto gives = call.outputs.empty() ? std::string() : nameIn(call.outputs[0]);
  if (takes == kNoSlot || gives.empty()) throw broken("the node " + shown(call.node.name) + " passes on no token");
  names_.rename(gives, takes);
  call.arguments.erase(call.arguments.begin());
  call.argumentNames.erase(call.argumentNames.begin());
  call.outputs.erase(call.outputs.begin());
  if (call.called == kPrint) {
    call.node.kind = Node::Kind::Nothing;
    graph_.nodes.push_back(std::move(call.node));
    return;
  }
  nameByPosition(call);
  appendWriting(std::move(call), {});
}

void Expansion::appendWriting(OperatorCall call, const std::vector<Argument>& written) {
  if (call.outputs.size() < written.size()) {
    throw broken("the node " + shown(call.node.name) + " gives fewer values than it writes to");
  }
  const size_t own = call.outputs.size() - written.size();
  Node node = call.node;
  node.target = call.called;
  readOperator_(node, std::move(call.arguments), call.argumentNames);
  for (size_t i = 0; i < own; ++i) node.results.push_back(readResult_(call.outputs[i]));
  // One that gives nothing is written as one that gives None.
  const auto given = node.handle->schema().returns().size();
  if (node.results.size() > std::max<size_t>(given, 1)) {
    throw broken("the node " + shown(call.node.name) + " gives more values than " + node.target + " does");
  }
  node.results.resize(std::min(node.results.size(), given));
  graph_.nodes.push_back(std::move(node));
  // What was written to is a node of its own, so that hooks on it see it as it became.
  for (size_t i = 0; i < written.size(); ++i) {
    Node changed = call.node;
    changed.name = nameIn(call.outputs[own + i]);
    if (changed.name.empty()) continue;  // nothing reads it
    changed.target = "torch.ops.aten.alias.default";
    readOperator_(changed, {written[i]}, {"self"});
    changed.results.push_back(readResult_(call.outputs[own + i]));
    graph_.nodes.push_back(std::move(changed));
  }
}

void registerCloneOperator() {
  auto& library = operatorsOf("lta");
  library.def("clone_strided(Tensor x) -> Tensor");
  library.impl("clone_strided", cloneStrided);
}

}  // namespace lta::exported
