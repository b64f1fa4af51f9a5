#include "exported/control.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <optional>
#include <utility>

#include "exported/interpreter.h"
#include "runtime/cancellation.h"
#include "runtime/error.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Values = std::vector<IValue>;

// Values that an argument lists, or the one that it is, behind others.
void append(Values& to, const IValue& value) {
  if (!value.isList()) return to.push_back(value);
  for (const auto& each : value.toListRef()) to.push_back(each);
}

Values valuesFrom(const Values& arguments, size_t first) {
  Values values;
  for (size_t i = first; i < arguments.size(); ++i) append(values, arguments[i]);
  return values;
}

Values valuesIn(const Values& arguments, size_t place) {
  Values values;
  if (place < arguments.size()) append(values, arguments[place]);
  return values;
}

Values joined(Values first, const Values& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

bool isTrue(const IValue& value) { return value.isTensor() ? value.toTensor().item().toBool() : value.toBool(); }

void checkLoop() {
  if (auto* run = Cancellation::current()) run->checkLoop();
}

// While one lives, the calling thread's operators are cast as torch.autocast does.
class AutocastScope {
 public:
  AutocastScope(c10::DeviceType type, bool enabled, std::optional<at::ScalarType> dtype, bool caches)
      : type_(type),
        enabled_(at::autocast::is_autocast_enabled(type)),
        dtype_(at::autocast::get_autocast_dtype(type)),
        caches_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_enabled(type, enabled);
    at::autocast::set_autocast_dtype(type, dtype.value_or(dtype_));
    at::autocast::set_autocast_cache_enabled(caches);
    at::autocast::increment_nesting();
  }
  ~AutocastScope() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, enabled_);
    at::autocast::set_autocast_dtype(type_, dtype_);
    at::autocast::set_autocast_cache_enabled(caches_);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  const c10::DeviceType type_;
  const bool enabled_;
  const at::ScalarType dtype_;
  const bool caches_;
};

// (device type, dtype or none, enabled, caches or none, graph, inputs…)
Values runAutocast(const Node& node, const Values& arguments) {
  const auto type = c10::Device(arguments[0].toStringRef()).type();
  const auto dtype = arguments[1].isNone() ? std::nullopt : std::optional(arguments[1].toScalarType());
  const AutocastScope scope(type, arguments[2].toBool(), dtype, arguments[3].isNone() || arguments[3].toBool());
  return callGraph(*node.graphs[0], valuesFrom(arguments, 5));
}

// (condition, body, carried, others)
Values runWhile(const Node& node, const Values& arguments) {
  auto carried = valuesIn(arguments, 2);
  const auto others = valuesIn(arguments, 3);
  const auto holds = [&] {
    const auto result = callGraph(*node.graphs[0], joined(carried, others));
    if (result.size() != 1) throw Error("ERR_MODEL_RUN", "the condition of a loop gives more than one value, or none");
    return isTrue(result.front());
  };
  while (holds()) {
    checkLoop();
    carried = callGraph(*node.graphs[1], joined(std::move(carried), others));
  }
  return carried;
}

// Calls `step` with each row of what is gone over, and stacks what it gives by rows.
template <typename Step>
Values overRows(const Values& over, Step step) {
  if (over.empty() || !over[0].isTensor() || over[0].toTensor().dim() == 0) {
    throw Error("ERR_MODEL_RUN", "a loop goes over no tensor");
  }
  std::vector<std::vector<at::Tensor>> columns;
  for (int64_t row = 0, rows = over[0].toTensor().size(0); row < rows; ++row) {
    checkLoop();
    Values inputs;
    for (const auto& value : over) inputs.emplace_back(value.toTensor().select(0, row));
    const auto given = step(std::move(inputs));
    columns.resize(given.size());
    for (size_t i = 0; i < given.size(); ++i) columns[i].push_back(given[i].toTensor());
  }
  Values stacked;
  for (const auto& column : columns) stacked.emplace_back(at::stack(column));
  return stacked;
}

// (body, over, others)
Values runMap(const Node& node, const Values& arguments) {
  const auto others = valuesIn(arguments, 2);
  return overRows(valuesIn(arguments, 1),
                  [&](Values inputs) { return callGraph(*node.graphs[0], joined(std::move(inputs), others)); });
}

// (body, carried, over, others)
Values runScan(const Node& node, const Values& arguments) {
  auto carried = valuesIn(arguments, 1);
  const auto others = valuesIn(arguments, 3);
  auto stacked = overRows(valuesIn(arguments, 2), [&](Values inputs) {
    auto given = callGraph(*node.graphs[0], joined(joined(carried, inputs), others));
    if (given.size() < carried.size()) throw Error("ERR_MODEL_RUN", "the body of a loop gives too few values");
    const auto rest = given.begin() + static_cast<int64_t>(carried.size());
    std::move(given.begin(), rest, carried.begin());
    return Values(rest, given.end());
  });
  return joined(std::move(carried), stacked);
}

}  // namespace

Values runControl(const Node& node, Values arguments) {
  switch (node.control) {
    case ControlOperator::SetGradEnabled: {  // (enabled, graph, inputs…)
      // A run that records no gradients records none anywhere.
      const c10::AutoGradMode mode(arguments[0].toBool() && c10::GradMode::is_enabled());
      return callGraph(*node.graphs[0], valuesFrom(arguments, 2));
    }
    case ControlOperator::Autocast:
      return runAutocast(node, arguments);
    case ControlOperator::Condition:  // (predicate, graph if so, graph if not, inputs)
      return callGraph(*node.graphs[isTrue(arguments[0]) ? 0 : 1], valuesFrom(arguments, 3));
    case ControlOperator::WhileLoop:
      return runWhile(node, arguments);
    case ControlOperator::Map:
      return runMap(node, arguments);
    case ControlOperator::Scan:
      return runScan(node, arguments);
    case ControlOperator::InvokeSubgraph:  // (graph, its name, inputs…)
      return callGraph(*node.graphs[0], valuesFrom(arguments, 2));
    case ControlOperator::Wrapper:  // (graph, inputs, hints to compilers)
      return callGraph(*node.graphs[0], valuesIn(arguments, 1));
  }
  return {};
}

}  // namespace lta::exported
