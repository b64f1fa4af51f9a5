#include "script/call_sites.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <optional>
#include <unordered_set>

#include "script/module_boundaries.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Delimit a module's full name inside the instance name of a call stack entry, where libtorch puts the bare attribute
// name.
constexpr char kNameBegin = '\x01';
constexpr char kNameEnd = '\x02';

class Inliner {
 public:
  Inliner(const jit::Module& root, const ModuleNames& names, const InlineOptions& options, InlinedMethod& result)
      : root_(root), names_(names), options_(options), result_(result), assigned_(assignedInterfaces(root)) {}

  void run(jit::Graph& graph) {
    KnownObjects known;
    if (!graph.inputs().empty()) known[graph.inputs()[0]] = root_._ivalue();
    inlineBlock(*graph.block(), {std::nullopt, ""}, known);
  }

 private:
  using Object = c10::intrusive_ptr<c10::ivalue::Object>;
  using KnownObjects = std::unordered_map<const jit::Value*, Object>;
  using Stack = std::optional<jit::InlinedCallStackPtr>;

  // The call stack that leads to code, and the module it belongs to.
  struct Context {
    Stack stack;
    std::string module;
  };

  // Names of interface-typed attributes that some method assigns.
  static std::unordered_set<std::string> assignedInterfaces(const jit::Module& root) {
    std::unordered_set<std::string> names;
    for (const auto& module : root.modules()) {
      for (const auto& method : module.get_methods()) {
        auto* function = defined(&method.function());
        if (!function) continue;
        for (const auto* node : jit::findAllNodes(*function->graph(), jit::prim::SetAttr, /*recurse=*/true)) {
          if (node->input(1)->type()->cast<c10::InterfaceType>()) names.insert(node->s(jit::attr::name));
        }
      }
    }
    return names;
  }

  // The object a value refers to, resolved through attributes. That is safe, since TorchScript can't assign modules
  // except behind interfaces.
  Object objectOf(const jit::Value* value, const KnownObjects& known) const {
    if (const auto found = known.find(value); found != known.end()) return found->second;
    const auto* node = value->node();
    if (node->kind() != jit::prim::GetAttr) return {};
    const auto owner = objectOf(node->input(0), known);
    if (!owner) return {};
    const auto slot = owner->type()->findAttributeSlot(node->s(jit::attr::name));
    if (!slot || !owner->getSlot(*slot).isObject()) return {};
    return owner->getSlot(*slot).toObject();
  }

  // Inlines the calls in [first, end), which belong to `context`.
  void inlineNodes(jit::Node* first, jit::Node* end, const Context& context, KnownObjects& known) {
    for (jit::Node* node = first; node != end;) {
      jit::Node* next = node->next();
      for (auto* block : node->blocks()) inlineBlock(*block, context, known);
      if (node->kind() == jit::prim::fork || node->kind() == jit::prim::awaitable) {
        inlineSubgraph(*node, context, known);
        result_.forks = result_.forks || node->kind() == jit::prim::fork;
      }
      devirtualize(*node, known);
      if (auto* callee = calleeOf(*node)) {
        if (!replaceFastPath(*node, *callee, context)) {
          const auto name = node->kind() == jit::prim::CallMethod ? nameOf(node->input(0), known) : std::nullopt;
          if (name && options_.boundaries && isModuleCall(*node, *name, context)) addBoundaries(*node, *callee, *name);
          auto* after = node->next();
          auto* inlined = inlineCall(*node, *callee, name, context);
          inlineNodes(inlined, after, {stackOf(inlined, after), name.value_or(context.module)}, known);
        }
      }
      node = next;
    }
  }

  void inlineBlock(jit::Block& block, const Context& context, KnownObjects& known) {
    auto nodes = block.nodes();
    inlineNodes(*nodes.begin(), *nodes.end(), context, known);
  }

  void inlineSubgraph(jit::Node& node, const Context& context, KnownObjects& known) {
    const auto graph = node.g(jit::attr::Subgraph);
    KnownObjects inside;
    for (size_t i = 0; i < node.inputs().size() && i < graph->inputs().size(); ++i) {
      if (auto object = objectOf(node.input(i), known)) inside[graph->inputs()[i]] = std::move(object);
    }
    inlineBlock(*graph->block(), {std::nullopt, context.module}, inside);
    if (context.stack) {
      for (auto* inner : graph->nodes()) prependStack(*inner, *context.stack);
    }
  }

  // Devirtualizes a call through an interface whose module can't change during a run.
  void devirtualize(jit::Node& call, KnownObjects& known) const {
    if (call.kind() != jit::prim::CallMethod || !call.input(0)->type()->cast<c10::InterfaceType>()) return;
    const auto* read = call.input(0)->node();
    if (read->kind() != jit::prim::GetAttr || assigned_.count(read->s(jit::attr::name))) return;
    const auto object = objectOf(call.input(0), known);
    if (!object) return;
    // Reads the attribute with its concrete class, as libtorch's passes don't follow casts of interfaces.
    auto* module = call.owningGraph()->create(jit::prim::GetAttr, {read->input(0)}, 1);
    module->s_(jit::attr::name, read->s(jit::attr::name));
    module->output()->setType(object->type());
    module->insertBefore(&call);
    call.replaceInput(0, module->output());
    known[module->output()] = object;
  }

  // An archive has Python's check for the fused fast path (which asks for hooks) as a function that returns a constant.
  // With boundaries the run answers instead, so that one program serves all sets of hooks.
  bool replaceFastPath(jit::Node& call, const jit::GraphFunction& callee, const Context& context) {
    if (call.kind() != jit::prim::CallFunction || callee.name() != "get_fastpath_enabled") return false;
    const auto number = static_cast<int64_t>(result_.fusedLayers.size());
    result_.fusedLayers.push_back(context.module);
    if (!options_.unfused && !options_.boundaries) return false;
    auto& graph = *call.owningGraph();
    const jit::WithInsertPoint here(&call);
    auto* answer = graph.insertConstant(false);
    if (!options_.unfused) {
      auto* question = graph.insertNode(graph.create(kMayFuse, {graph.insertConstant(number)}, 1));
      question->output()->setType(c10::BoolType::get());
      if (context.stack) question->setCallStack(*context.stack);
      answer = question->output();
    }
    call.output()->replaceAllUsesWith(answer);
    call.destroy();
    return true;
  }

  // Whether hooks see a call: `forward`, one of the further forwards that tracing gives a module called several times
  // (`forward1`), or an overload (`forward__0`, as in nn.LSTM). A module calling its own method of such a name is an
  // ordinary call.
  static bool isModuleCall(const jit::Node& call, const std::string& name, const Context& context) {
    const auto& method = call.s(jit::attr::name);
    if (method == "forward") return true;
    if (method.rfind("forward", 0) != 0) return false;
    const size_t number = method.rfind("forward__", 0) == 0 ? 9 : 7;
    return method.find_first_not_of("0123456789", number) == std::string::npos && name != context.module;
  }

  // Python hooks that were compiled into the caller follow the call of their module: returns the last of them and the
  // module's output after them. Ours run later, as hooks registered later do.
  static std::pair<jit::Node*, jit::Value*> afterCompiledHooks(jit::Node& call) {
    const auto module = call.input(0)->type()->expect<c10::ClassType>();
    auto* last = &call;
    auto* output = call.output();
    for (auto* node = call.next(); node->kind() == jit::prim::CallFunction; node = node->next()) {
      const auto type = node->input(0)->type()->cast<c10::FunctionType>();
      if (!type || !module->findForwardHook(type->function()->name())) break;
      if (node->inputs().size() < 3 || node->input(1) != call.input(0) || node->inputs().back() != output) break;
      last = node;
      if (node->output()->type() != c10::NoneType::get()) output = node->output();
    }
    return {last, output};
  }

  void addBoundaries(jit::Node& call, const jit::GraphFunction& callee, const std::string& name) {
    auto& graph = *call.owningGraph();
    ModuleCall described{name, call.input(0)->type()->expect<c10::ClassType>()->name()->name(), {}, nullptr};
    const auto& arguments = callee.getSchema().arguments();
    for (size_t i = 1; i < call.inputs().size(); ++i) {
      described.inputTypes.push_back(i < arguments.size() ? arguments[i].type() : call.input(i)->type());
    }
    auto [last, output] = afterCompiledHooks(call);
    described.outputType = output->type();
    const auto number = static_cast<int64_t>(result_.calls.size());
    result_.calls.push_back(described);

    const jit::WithInsertPoint here(&call);
    auto* constant = graph.insertConstant(number);
    auto* inputs = graph.insertNode(graph.createList(c10::AnyType::get(), call.inputs().slice(1)));
    auto* enter = graph.insertNode(graph.create(kEnter, {constant, inputs->output()}, 2));
    enter->output(0)->setType(c10::ListType::create(c10::AnyType::get()));
    enter->output(1)->setType(c10::AnyType::get());
    if (!described.inputTypes.empty()) {
      auto* unpacked = graph.insertNode(graph.createListUnpack(enter->output(0), described.inputTypes.size()));
      for (size_t i = 0; i < described.inputTypes.size(); ++i) {
        call.replaceInput(i + 1, graph.insertUncheckedCast(unpacked->output(i), described.inputTypes[i]));
      }
    }
    auto* leave = graph.create(kLeave, {constant, enter->output(0), enter->output(1), output}, 1);
    leave->output()->setType(c10::AnyType::get());
    leave->insertAfter(last);
    auto* cast = graph.create(jit::prim::unchecked_cast, {leave->output()}, 1);
    cast->output()->setType(output->type());
    cast->insertAfter(leave);
    output->replaceAllUsesAfterNodeWith(leave, cast->output());
  }

  static jit::GraphFunction* calleeOf(jit::Node& node) {
    if (node.kind() == jit::prim::CallFunction) {
      const auto type = node.input(0)->type()->cast<c10::FunctionType>();
      if (!type || node.input(0)->node()->kind() != jit::prim::Constant) return nullptr;
      return defined(type->function());
    }
    if (node.kind() == jit::prim::CallMethod) {
      const auto type = node.input(0)->type()->cast<c10::ClassType>();
      return type ? defined(&type->getMethod(node.s(jit::attr::name))) : nullptr;
    }
    return nullptr;
  }

  static jit::GraphFunction* defined(jit::Function* function) {
    auto* graph = jit::tryToGraphFunction(*function);
    if (graph) graph->ensure_defined();
    return graph;
  }

  // Replaces a call by the callee's nodes, with the call's stack and the callee's name. Returns the first of them.
  static jit::Node* inlineCall(jit::Node& call, jit::GraphFunction& callee, const std::optional<std::string>& name,
                               const Context& context) {
    jit::Node* before = call.prev();
    jit::Node* after = call.next();
    jit::Value* receiver = nullptr;
    jit::Node* named = nullptr;
    if (call.kind() == jit::prim::CallFunction) {
      call.removeInput(0);
    } else if (name) {
      // libtorch records the attribute the receiver is read from: for the inlining, read it from one with the full
      // name.
      receiver = call.input(0);
      named = call.owningGraph()->create(jit::prim::GetAttr, {receiver}, 1);
      named->s_(jit::attr::name, kNameBegin + *name + kNameEnd);
      named->output()->setType(receiver->type());
      named->insertBefore(&call);
      call.replaceInput(0, named->output());
    }
    jit::inlineCallTo(&call, &callee, callee.graph().get());
    if (named) {
      named->output()->replaceAllUsesWith(receiver);
      named->destroy();
    }
    const auto stack = stackOf(before->next(), after);
    for (auto* node = before->next(); node != after; node = node->next()) {
      if (stack) shareStack(*node, *stack);
      if (context.stack) prependStack(*node, *context.stack);
    }
    return before->next();
  }

  std::optional<std::string> nameOf(const jit::Value* receiver, const KnownObjects& known) const {
    const auto object = objectOf(receiver, known);
    if (!object) return std::nullopt;
    const auto name = names_.find(object.get());
    return name == names_.end() ? std::nullopt : std::optional(name->second);
  }

  // Constants may lack a call stack; all nodes that have one share it.
  static Stack stackOf(jit::Node* first, jit::Node* end) {
    for (auto* node = first; node != end; node = node->next()) {
      if (node->callstack()) return node->callstack();
    }
    return std::nullopt;
  }

  // Call stacks are linked lists, outermost call first.
  static jit::InlinedCallStackPtr append(const jit::InlinedCallStackPtr& outer, const jit::InlinedCallStackPtr& inner) {
    const auto callee = outer->callee() ? append(*outer->callee(), inner) : inner;
    return c10::make_intrusive<jit::InlinedCallStack>(callee, outer->function(), outer->source_range(),
                                                      outer->module_instance());
  }

  // libtorch gives no stack to nodes without results and to those in loops and branches. Calls get theirs once they are
  // inlined.
  static void shareStack(jit::Node& node, const jit::InlinedCallStackPtr& stack) {
    const bool calls = node.kind() == jit::prim::CallFunction || node.kind() == jit::prim::CallMethod;
    if (!calls && !node.callstack()) node.setCallStack(stack);
    for (auto* block : node.blocks()) {
      for (auto* inner : block->nodes()) shareStack(*inner, stack);
    }
  }

  static void prependStack(jit::Node& node, const jit::InlinedCallStackPtr& stack) {
    node.setCallStack(node.callstack() ? append(stack, *node.callstack()) : stack);
    for (auto* block : node.blocks()) {
      for (auto* inner : block->nodes()) prependStack(*inner, stack);
    }
  }

  const jit::Module& root_;
  const ModuleNames& names_;
  const InlineOptions& options_;
  InlinedMethod& result_;
  const std::unordered_set<std::string> assigned_;
};

void collect(const std::string& name, const jit::Module& module, std::unordered_set<const void*>& seen,
             std::vector<NamedModule>& modules) {
  if (!seen.insert(module._ivalue().get()).second) return;
  modules.push_back({name, module});
  for (const auto& child : module.named_children()) {
    collect(name.empty() ? child.name : name + "." + child.name, child.value, seen, modules);
  }
}

}  // namespace

std::vector<NamedModule> namedModules(const jit::Module& root) {
  std::vector<NamedModule> modules;
  std::unordered_set<const void*> seen;
  collect("", root, seen, modules);
  return modules;
}

ModuleNames moduleNames(const std::vector<NamedModule>& modules) {
  ModuleNames names;
  for (const auto& entry : modules) names.emplace(entry.module._ivalue().get(), entry.name);
  return names;
}

InlinedMethod inlineWithNames(const jit::Module& root, const jit::Method& method, const ModuleNames& names,
                              const InlineOptions& options) {
  auto& function = jit::toGraphFunction(method.function());
  function.ensure_defined();
  InlinedMethod result;
  result.graph = function.graph()->copy();
  Inliner(root, names, options, result).run(*result.graph);
  return result;
}

std::string currentModuleName() {
  const auto hierarchy = jit::currentModuleHierarchy();
  for (auto frame = hierarchy.rbegin(); frame != hierarchy.rend(); ++frame) {
    const auto end = frame->rfind(kNameEnd);
    if (end == std::string::npos) continue;
    const auto begin = frame->rfind(kNameBegin, end);
    return frame->substr(begin + 1, end - begin - 1);
  }
  return {};
}

}  // namespace lta::script
