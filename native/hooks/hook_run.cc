#include "hooks/hook_run.h"

#include <c10/core/GradMode.h>

#include <algorithm>

#include "hooks/backward_state.h"

namespace lta {
namespace {

// JavaScript hooks compute on the event loop, which records gradients even if the run that waits for them doesn't:
// detaches what they return then, as if the run itself had computed it.
c10::IValue detachIfNoGrad(c10::IValue value) {
  if (c10::GradMode::is_enabled()) return value;
  if (value.isTensor()) return value.toTensor().grad_fn() ? value.toTensor().detach() : value;
  if (value.isList()) {
    auto list = value.toList();
    for (size_t i = 0; i < list.size(); ++i) list.set(i, detachIfNoGrad(list.get(i)));
  } else if (value.isGenericDict()) {
    for (auto& entry : value.toGenericDict()) entry.setValue(detachIfNoGrad(entry.value()));
  } else if (value.isTuple()) {
    auto& tuple = value.toTupleRef();
    for (size_t i = 0; i < tuple.size(); ++i) tuple.unsafeSetElement(i, detachIfNoGrad(tuple.elements()[i]));
  }
  return value;
}

}  // namespace

HookScope::HookScope(std::shared_ptr<HookRun> run)
    : info_(kHookSlot, std::static_pointer_cast<RunLocal>(std::move(run))) {}

HookRun* HookRun::current() { return runLocal<HookRun>(kHookSlot); }

const std::vector<HookPtr>* HookRun::hooksOf(const std::string& module) const {
  if (!hooks_) return nullptr;
  const auto found = hooks_->find(module);
  return found == hooks_->end() ? nullptr : &found->second;
}

std::vector<c10::IValue> HookRun::enter(const ModuleCall& call, std::vector<c10::IValue> inputs,
                                        c10::intrusive_ptr<BackwardState>& state) {
  return failure_.noting([&] {
    if (cancellation_) cancellation_->check();
    const auto* hooks = hooksOf(call.module);
    if (!hooks) return std::move(inputs);
    for (const auto& hook : *hooks) {
      if (hook->kind() != HookKind::Pre || hook->removed()) continue;
      hook->count();
      if (auto replaced = hook->onInputs(call, inputs, cancellation_)) {
        inputs = std::move(*replaced);
        for (auto& input : inputs) input = detachIfNoGrad(std::move(input));
      }
    }
    std::vector<HookPtr> backward;
    std::copy_if(hooks->begin(), hooks->end(), std::back_inserter(backward),
                 [](const HookPtr& hook) { return hook->kind() == HookKind::Backward && !hook->removed(); });
    if (!backward.empty() && c10::GradMode::is_enabled()) {
      for (const auto& hook : backward) hook->reach();
      state = c10::make_intrusive<BackwardState>(call, std::move(backward));
      state->watchInputs(inputs);
    }
    return std::move(inputs);
  });
}

c10::IValue HookRun::leave(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                           const c10::intrusive_ptr<BackwardState>& state, c10::IValue output) {
  return failure_.noting([&] {
    if (const auto* hooks = hooksOf(call.module)) {
      for (const auto& hook : *hooks) {
        if (hook->kind() != HookKind::Forward || hook->removed()) continue;
        hook->count();
        if (auto replaced = hook->onOutput(call, inputs, output, cancellation_))
          output = detachIfNoGrad(std::move(*replaced));
      }
    }
    if (state) state->watchOutput(output);
    if (cancellation_) cancellation_->check();
    return std::move(output);
  });
}

c10::IValue HookRun::value(const std::string& place, const ModuleCall& node, c10::IValue output) {
  return failure_.noting([&] {
    if (const auto* hooks = hooksOf(place)) {
      for (const auto& hook : *hooks) {
        if (hook->kind() != HookKind::Node || hook->removed()) continue;
        hook->count();
        if (auto replaced = hook->onOutput(node, {}, output, cancellation_))
          output = detachIfNoGrad(std::move(*replaced));
      }
    }
    if (cancellation_) cancellation_->check();
    return std::move(output);
  });
}

}  // namespace lta
