#include "exported/control.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "exported/branch_gradients.h"
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
  AutocastScope(c10::DeviceType type, bool enabled, at::ScalarType dtype, bool caches)
      : type_(type),
        enabled_(at::autocast::is_autocast_enabled(type)),
        dtype_(at::autocast::get_autocast_dtype(type)),
        caches_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_enabled(type, enabled);
    at::autocast::set_autocast_dtype(type, dtype);
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
  const auto dtype = arguments[1].isNone() ? at::autocast::get_autocast_dtype(type) : arguments[1].toScalarType();
  // Python warns and doesn't cast to other types.
  const bool isSupported = type == c10::DeviceType::CUDA || dtype == at::kBFloat16 || dtype == at::kHalf;
  const AutocastScope scope(type, isSupported && arguments[2].toBool(), dtype,
                            arguments[3].isNone() || arguments[3].toBool());
  return callGraph(*node.graphs[0], valuesFrom(arguments, 5));
}

// Values by rows: what each round of a loop gave.
Values stacked(const std::vector<Values>& rounds) {
  Values columns;
  for (size_t i = 0; i < rounds.at(0).size(); ++i) {
    if (rounds[0][i].isNone()) {
      columns.emplace_back();
      continue;
    }
    std::vector<at::Tensor> rows;
    for (const auto& round : rounds) rows.push_back(round.at(i).toTensor());
    columns.emplace_back(at::stack(rows));
  }
  return columns;
}

// (condition, body, carried, others)
Values runWhile(const Node& node, const Values& arguments, bool stacks) {
  auto carried = valuesIn(arguments, 2);
  const auto others = valuesIn(arguments, 3);
  const auto holds = [&] {
    const auto result = callGraph(*node.graphs[0], joined(carried, others));
    if (result.size() != 1) throw Error("ERR_MODEL_RUN", "the condition of a loop gives more than one value, or none");
    return isTrue(result.front());
  };
  if (!holds()) {
    // Others may write to what a loop gives, also where it did nothing.
    for (auto& value : carried) {
      if (value.isTensor()) value = (stacks ? value.toTensor().unsqueeze(0) : value.toTensor()).clone();
    }
    return carried;
  }
  std::vector<Values> rounds;
  do {
    checkLoop();
    carried = callGraph(*node.graphs[1], joined(std::move(carried), others));
    if (stacks) rounds.push_back(carried);
  } while (holds());
  return stacks ? stacked(rounds) : carried;
}

// Calls `step` with each row of what is gone over, and stacks what it gives by rows.
template <typename Step>
Values overRows(const Values& over, Step step) {
  const bool isTensor = !over.empty() && over[0].isTensor() && over[0].toTensor().dim() > 0;
  const int64_t rows = isTensor ? over[0].toTensor().size(0) : 0;
  if (rows == 0) throw Error("ERR_MODEL_RUN", "a loop goes over no rows");
  std::vector<Values> rounds;
  for (int64_t row = 0; row < rows; ++row) {
    checkLoop();
    Values inputs;
    for (const auto& value : over) inputs.emplace_back(value.toTensor().select(0, row));
    rounds.push_back(step(std::move(inputs)));
  }
  return stacked(rounds);
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
  auto rows = overRows(valuesIn(arguments, 2), [&](Values inputs) {
    auto given = callGraph(*node.graphs[0], joined(joined(carried, inputs), others));
    if (given.size() < carried.size()) throw Error("ERR_MODEL_RUN", "the body of a loop gives too few values");
    const auto rest = given.begin() + static_cast<int64_t>(carried.size());
    std::move(given.begin(), rest, carried.begin());
    return Values(rest, given.end());
  });
  return joined(std::move(carried), rows);
}

// Every second row, from one on.
at::Tensor alternate(const at::Tensor& rows, int64_t first) { return rows.slice(0, first, std::nullopt, 2); }

template <typename Take>
Values ofEach(const Values& values, Take take) {
  Values taken;
  for (const auto& value : values) taken.emplace_back(take(value.toTensor()));
  return taken;
}

// The rows of two tensors in turns; the first has as many, or one more.
at::Tensor interleaved(const at::Tensor& first, at::Tensor second) {
  const int64_t rows = first.size(0) + second.size(0);
  if (first.size(0) > second.size(0)) {
    std::vector<int64_t> padding(static_cast<size_t>(2 * second.dim()), 0);
    padding.back() = 1;
    second = at::constant_pad_nd(second, padding);
  }
  return at::stack({first, second}, 1).flatten(0, 1).slice(0, 0, rows);
}

// What `combine` makes of each row and all before it. Neighbours are combined in the order in which Python does it, so
// that the bits are the same.
template <typename Combine>
Values scanned(const Values& rows, const Combine& combine) {
  checkLoop();
  const int64_t count = rows.at(0).toTensor().size(0);
  if (count < 2) return rows;
  const auto but = [](const at::Tensor& each) { return each.slice(0, 0, -1); };
  const auto firsts = ofEach(rows, [&](const at::Tensor& each) { return alternate(but(each), 0); });
  const auto odd =
      scanned(combine(firsts, ofEach(rows, [](const at::Tensor& each) { return alternate(each, 1); })), combine);
  const auto seconds = ofEach(rows, [](const at::Tensor& each) { return alternate(each, 2); });
  const auto even = combine(count % 2 == 0 ? ofEach(odd, but) : odd, seconds);
  Values all;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto first = rows[i].toTensor().slice(0, 0, 1);
    const auto rest = even.at(i).toTensor();
    all.emplace_back(interleaved(rest.numel() > 0 ? at::cat({first, rest}) : first, odd.at(i).toTensor()));
  }
  return all;
}

// (combine, over, others)
Values runAssociativeScan(const Node& node, const Values& arguments) {
  const auto others = valuesIn(arguments, 2);
  const auto over = valuesIn(arguments, 1);
  if (over.empty()) throw Error("ERR_MODEL_RUN", "a loop goes over no rows");
  return scanned(over, [&](const Values& first, const Values& second) {
    return callGraph(*node.graphs[0], joined(joined(first, second), others));
  });
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
    case ControlOperator::Condition: {  // (predicate, graph if so, graph if not, inputs)
      const auto operands = valuesFrom(arguments, 3);
      auto outputs = callGraph(*node.graphs[isTrue(arguments[0]) ? 0 : 1], operands);
      reachOperands(outputs, operands);
      return outputs;
    }
    case ControlOperator::WhileLoop:
      return runWhile(node, arguments, /*stacks=*/false);
    case ControlOperator::StackingLoop:
      return runWhile(node, arguments, /*stacks=*/true);
    case ControlOperator::Map:
      return runMap(node, arguments);
    case ControlOperator::Scan:
      return runScan(node, arguments);
    case ControlOperator::AssociativeScan:
      return runAssociativeScan(node, arguments);
    case ControlOperator::InvokeSubgraph:  // (graph, its name, inputs…)
      return callGraph(*node.graphs[0], valuesFrom(arguments, 2));
    case ControlOperator::Wrapper:  // (graph, inputs, hints to compilers)
      return callGraph(*node.graphs[0], valuesIn(arguments, 1));
  }
  return {};
}

}  // namespace lta::exported
