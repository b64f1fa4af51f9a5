#include "exported/boundary.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>

#include <sstream>
#include <utility>

#include "hooks/backward_state.h"
#include "hooks/hook_run.h"
#include "runtime/error.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Values = std::vector<IValue>;
using State = c10::intrusive_ptr<BackwardState>;

bool isSame(const IValue& a, const IValue& b) {
  if (a.isTensor() && b.isTensor()) return a.toTensor().is_same(b.toTensor());
  return !a.isTensor() && !b.isTensor() && a == b;
}

// Whether one may stand for the other.
bool isEqual(const IValue& a, const IValue& b) {
  if (isSame(a, b)) return true;
  return a.isTensor() && b.isTensor() && at::equal(a.toTensor(), b.toTensor());
}

std::string described(const IValue& value) {
  std::ostringstream text;
  if (value.isTensor()) {
    text << "a tensor of type " << c10::getDtypeNames(value.toTensor().scalar_type()).first << " and shape "
         << value.toTensor().sizes();
  } else {
    text << value;
  }
  return text.str();
}

std::string placeOf(const Boundary& boundary, size_t i) {
  switch (boundary.side) {
    case Boundary::Side::Enter:
      return "input " + std::to_string(i) + " of module '" + boundary.call.module + "'";
    case Boundary::Side::Leave:
      return "output " + std::to_string(i) + " of module '" + boundary.call.module + "'";
    case Boundary::Side::Value:
      return "the value of node '" + boundary.call.module + "'";
  }
  return {};
}

void checkReplaced(const Boundary& boundary, size_t i, const IValue& before, const IValue& after) {
  if (isSame(before, after)) return;
  if (!boundary.isReplaceable[i]) {
    throw Error("ERR_HOOK_FAILED", "Expected " + placeOf(boundary, i) +
                                       " to stay as it is, since the graph doesn't tell who reads it there, but a hook "
                                       "replaced it");
  }
  if (boundary.isLast || !before.isTensor()) return;
  const auto& expected = before.toTensor();
  if (after.isTensor() && after.toTensor().scalar_type() == expected.scalar_type() &&
      after.toTensor().sizes() == expected.sizes()) {
    return;
  }
  throw Error("ERR_HOOK_FAILED", "Expected " + described(before) + ", which the graph was exported for, for " +
                                     placeOf(boundary, i) + " but a hook gave " + described(after));
}

void checkReplaced(const Boundary& boundary, const Values& before, const Values& after) {
  if (before.size() != after.size()) {
    throw Error("ERR_HOOK_FAILED", "Expected " + std::to_string(before.size()) + " values from a hook on '" +
                                       boundary.call.module + "' but received " + std::to_string(after.size()));
  }
  for (size_t i = 0; i < before.size(); ++i) checkReplaced(boundary, i, before[i], after[i]);
}

void enter(HookRun& run, const Boundary& boundary, Values& stack) {
  State state;
  auto after = run.enter(boundary.call, stack, state);
  checkReplaced(boundary, stack, after);
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t first = boundary.sameAs[i];
    if (first == i || isEqual(after[first], after[i])) continue;
    throw Error("ERR_HOOK_FAILED", "Expected one value for inputs " + std::to_string(first) + " and " +
                                       std::to_string(i) + " of module '" + boundary.call.module +
                                       "', which are the same in the graph, but a hook gave two");
  }
  stack = std::move(after);
  stack.push_back(state ? IValue::make_capsule(state) : IValue());
}

void leave(HookRun& run, const Boundary& boundary, Values& stack) {
  State state;
  if (!stack.back().isNone()) state = c10::static_intrusive_pointer_cast<BackwardState>(stack.back().toCapsule());
  stack.pop_back();
  const auto middle = stack.begin() + static_cast<int64_t>(boundary.inputs);
  const Values inputs(stack.begin(), middle);
  const Values before(middle, stack.end());
  const auto output = run.leave(boundary.call, inputs, state, c10::ivalue::Tuple::create(before));
  stack = output.toTupleRef().elements().vec();
  checkReplaced(boundary, before, stack);
}

void passValue(HookRun& run, const Boundary& boundary, Values& stack) {
  const auto before = stack;
  auto output = boundary.isList ? IValue(c10::ivalue::Tuple::create(before)) : before[0];
  output = run.value(boundary.place, boundary.call, std::move(output));
  stack = boundary.isList ? output.toTupleRef().elements().vec() : Values{std::move(output)};
  checkReplaced(boundary, before, stack);
}

}  // namespace

void runBoundary(const Boundary& boundary, Values& stack) {
  auto* const run = HookRun::current();
  if (!run) return;
  switch (boundary.side) {
    case Boundary::Side::Enter:
      return enter(*run, boundary, stack);
    case Boundary::Side::Leave:
      return leave(*run, boundary, stack);
    case Boundary::Side::Value:
      return passValue(*run, boundary, stack);
  }
}

}  // namespace lta::exported
