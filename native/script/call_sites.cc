#include "script/call_sites.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <optional>
#include <unordered_set>

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Marks a module's full name inside the instance name of a call stack entry, where libtorch itself would put the bare
// attribute name.
constexpr char kNameBegin = '\x01';
constexpr char kNameEnd = '\x02';

class Inliner {
 public:
  Inliner(const jit::Module& root, const ModuleNames& names) : root_(root), names_(names) {}

  void run(jit::Graph& graph) {
    std::unordered_map<const jit::Value*, Object> known;
    if (!graph.inputs().empty()) known[graph.inputs()[0]] = root_._ivalue();
    inlineBlock(*graph.block(), std::nullopt, known);
  }

 private:
  using Object = c10::intrusive_ptr<c10::ivalue::Object>;
  using Known = std::unordered_map<const jit::Value*, Object>;
  using Stack = std::optional<jit::InlinedCallStackPtr>;

  // The object behind a value, followed through attributes of the module itself. Attributes that a graph assigns while
  // it runs hold tensors or numbers: TorchScript has no assignment of modules, except behind interfaces, whose calls
  // stay calls.
  Object objectOf(const jit::Value* value, const Known& known) const {
    if (const auto found = known.find(value); found != known.end()) return found->second;
    const auto* node = value->node();
    if (node->kind() != jit::prim::GetAttr) return {};
    const auto owner = objectOf(node->input(0), known);
    if (!owner) return {};
    const auto slot = owner->type()->findAttributeSlot(node->s(jit::attr::name));
    if (!slot || !owner->getSlot(*slot).isObject()) return {};
    return owner->getSlot(*slot).toObject();
  }

  // Inlines the calls between two nodes (both excluded). `stack` is the call stack of the code they belong to.
  void inlineNodes(jit::Node* first, jit::Node* end, const Stack& stack, Known& known) {
    for (jit::Node* node = first; node != end;) {
      jit::Node* next = node->next();
      for (auto* block : node->blocks()) inlineBlock(*block, stack, known);
      if (node->kind() == jit::prim::fork || node->kind() == jit::prim::awaitable) {
        inlineSubgraph(*node, stack, known);
      }
      if (auto* callee = calleeOf(*node)) {
        auto* first = inlineCall(*node, *callee, next, stack, known);
        inlineNodes(first, next, stackOf(first, next), known);
      }
      node = next;
    }
  }

  void inlineBlock(jit::Block& block, const Stack& stack, Known& known) {
    auto nodes = block.nodes();
    inlineNodes(*nodes.begin(), *nodes.end(), stack, known);
  }

  void inlineSubgraph(jit::Node& node, const Stack& stack, Known& known) {
    const auto graph = node.g(jit::attr::Subgraph);
    Known inside;
    for (size_t i = 0; i < node.inputs().size() && i < graph->inputs().size(); ++i) {
      if (auto object = objectOf(node.input(i), known)) inside[graph->inputs()[i]] = std::move(object);
    }
    inlineBlock(*graph->block(), std::nullopt, inside);
    if (stack) {
      for (auto* inner : graph->nodes()) prependStack(*inner, *stack);
    }
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

  // Replaces a call by the callee's nodes, which get the call's stack and the callee's name. Returns the first of them.
  jit::Node* inlineCall(jit::Node& call, jit::GraphFunction& callee, jit::Node* next, const Stack& stack,
                        const Known& known) const {
    jit::Node* before = call.prev();
    jit::Value* receiver = nullptr;
    jit::Node* named = nullptr;
    if (call.kind() == jit::prim::CallFunction) {
      call.removeInput(0);
    } else if (const auto name = nameOf(call.input(0), known)) {
      // libtorch notes the attribute that the receiver was read from: for the time of the call, one with the full name.
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
    if (stack) {
      for (auto* node = before->next(); node != next; node = node->next()) prependStack(*node, *stack);
    }
    return before->next();
  }

  std::optional<std::string> nameOf(const jit::Value* receiver, const Known& known) const {
    const auto object = objectOf(receiver, known);
    if (!object) return std::nullopt;
    const auto name = names_.find(object.get());
    return name == names_.end() ? std::nullopt : std::optional(name->second);
  }

  // Not every node gets a call stack (constants may go without): the first that there is, is that of all.
  static Stack stackOf(jit::Node* first, jit::Node* end) {
    for (auto* node = first; node != end; node = node->next()) {
      if (node->callstack()) return node->callstack();
    }
    return std::nullopt;
  }

  // Call stacks are lists from the outermost call inwards.
  static jit::InlinedCallStackPtr append(const jit::InlinedCallStackPtr& outer, const jit::InlinedCallStackPtr& inner) {
    const auto callee = outer->callee() ? append(*outer->callee(), inner) : inner;
    return c10::make_intrusive<jit::InlinedCallStack>(callee, outer->function(), outer->source_range(),
                                                      outer->module_instance());
  }

  static void prependStack(jit::Node& node, const jit::InlinedCallStackPtr& stack) {
    node.setCallStack(node.callstack() ? append(stack, *node.callstack()) : stack);
    for (auto* block : node.blocks()) {
      for (auto* inner : block->nodes()) prependStack(*inner, stack);
    }
  }

  const jit::Module& root_;
  const ModuleNames& names_;
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

std::shared_ptr<jit::Graph> inlineWithNames(const jit::Module& root, const jit::Method& method,
                                            const ModuleNames& names) {
  auto& function = jit::toGraphFunction(method.function());
  function.ensure_defined();
  auto graph = function.graph()->copy();
  Inliner(root, names).run(*graph);
  return graph;
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
