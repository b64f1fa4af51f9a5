#include "script/module_boundaries.h"

#include <torch/csrc/jit/runtime/custom_operator.h>

#include "hooks/backward_state.h"
#include "hooks/hook_run.h"

namespace lta::script {

const c10::Symbol kEnter = c10::Symbol::fromQualString("lta::enter");
const c10::Symbol kLeave = c10::Symbol::fromQualString("lta::leave");
const c10::Symbol kMayFuse = c10::Symbol::fromQualString("lta::may_fuse");

namespace {

namespace jit = torch::jit;

c10::IValue anyList(std::vector<c10::IValue> values) {
  c10::impl::GenericList list(c10::AnyType::get());
  list.reserve(values.size());
  for (auto& value : values) list.push_back(std::move(value));
  return list;
}

void enter(jit::Stack& stack) {
  auto inputs = jit::pop(stack);
  const auto number = jit::pop(stack).toInt();
  auto* run = HookRun::current();
  c10::intrusive_ptr<BackwardState> state;
  if (run) {
    auto entered = run->enter(run->call(number), inputs.toListRef().vec(), state);
    inputs = anyList(std::move(entered));
  }
  stack.push_back(std::move(inputs));
  stack.push_back(state ? c10::IValue::make_capsule(std::move(state)) : c10::IValue());
}

void leave(jit::Stack& stack) {
  auto output = jit::pop(stack);
  const auto state = jit::pop(stack);
  const auto inputs = jit::pop(stack);
  const auto number = jit::pop(stack).toInt();
  if (auto* run = HookRun::current()) {
    output = run->leave(run->call(number), inputs.toListRef().vec(),
                        state.isCapsule() ? c10::static_intrusive_pointer_cast<BackwardState>(state.toCapsule())
                                          : c10::intrusive_ptr<BackwardState>(),
                        std::move(output));
  }
  stack.push_back(std::move(output));
}

void mayFuse(jit::Stack& stack) {
  const auto layer = jit::pop(stack).toInt();
  const auto* run = HookRun::current();
  stack.push_back(!run || run->mayFuse(layer));
}

}  // namespace

void registerBoundaries() {
  static const jit::RegisterOperators registration({
      jit::Operator("lta::enter(int call, Any[] inputs) -> (Any[], Any)", enter, c10::AliasAnalysisKind::CONSERVATIVE),
      jit::Operator("lta::leave(int call, Any[] inputs, Any state, Any output) -> Any", leave,
                    c10::AliasAnalysisKind::CONSERVATIVE),
      jit::Operator("lta::may_fuse(int layer) -> bool", mayFuse, c10::AliasAnalysisKind::CONSERVATIVE),
  });
}

}  // namespace lta::script
