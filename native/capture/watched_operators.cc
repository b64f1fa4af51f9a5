#include "capture/watched_operators.h"

#include <ATen/core/boxing/OperatorKernel.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "capture/flow/rules.h"
#include "torch/dispatcher.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

Capture* (*currentCapture)() = nullptr;
bool (*insideFused)() = nullptr;

using Stack = torch::jit::Stack;

bool isWrite(const c10::AliasInfo* alias) {
  if (!alias) return false;
  if (alias->isWrite()) return true;
  return std::any_of(alias->containedTypes().begin(), alias->containedTypes().end(),
                     [](const c10::AliasInfo& inner) { return isWrite(&inner); });
}

// In training these keep statistics, which their schemas don't say.
bool isRunningStatistic(const c10::Argument& argument) {
  return argument.name() == "running_mean" || argument.name() == "running_var";
}

bool isWritten(const c10::Argument& argument) { return isWrite(argument.alias_info()) || isRunningStatistic(argument); }

// Calls `tell` for each tensor in a value, until it says false.
template <typename Tell>
bool forTensors(const c10::IValue& value, Tell tell) {
  if (value.isTensor()) return !value.toTensor().defined() || tell(value.toTensor());
  if (!value.isList()) return true;
  for (const c10::IValue& element : value.toListRef()) {
    if (!forTensors(element, tell)) return false;
  }
  return true;
}

// The operator that the running ones are parts of, where those are followed under its name.
thread_local const std::string* outerName = nullptr;

class NameScope {
 public:
  explicit NameScope(const std::string& name) : before_(outerName) {
    if (!outerName) outerName = &name;
  }
  ~NameScope() { outerName = before_; }
  NameScope(const NameScope&) = delete;
  NameScope& operator=(const NameScope&) = delete;

 private:
  const std::string* before_;
};

// Whether an operator that isn't libtorch's may compute attention: it says so, or takes queries, keys and values.
bool maybeAttention(const std::string& name, c10::ArrayRef<c10::IValue> arguments, FixedTensors& fixed) {
  if (name.find("attention") != std::string::npos || name.find("attn") != std::string::npos) return true;
  std::vector<at::Tensor> activations;
  for (const auto& argument : arguments) {
    if (!argument.isTensor() || !argument.toTensor().defined()) continue;
    const auto& tensor = argument.toTensor();
    if (tensor.dim() > 2 && tensor.is_floating_point() && !fixed.contains(tensor)) activations.push_back(tensor);
  }
  if (activations.size() < 3) return false;
  const auto &q = activations[0], &k = activations[1], &v = activations[2];
  return q.dim() == k.dim() && k.dim() == v.dim() && q.size(-1) == k.size(-1) &&
         k.sizes().slice(0, k.dim() - 1) == v.sizes().slice(0, v.dim() - 1);
}

class Watched final : public c10::OperatorKernel {
 public:
  Watched(const flow::Rule* rule, std::string name, std::vector<bool> written, bool unknown)
      : rule_(rule),
        unknown_(unknown),
        name_(std::move(name)),
        written_(std::move(written)),
        writes_(std::find(written_.begin(), written_.end(), true) != written_.end()) {}

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
    auto* const capture = currentCapture();
    if (!capture) return redispatchBelow(kProbeKey, op, keys, stack);
    const auto arguments = torch::jit::last(*stack, written_.size());
    const auto written = writes_ ? tellOfWrites(*capture, arguments) : std::nullopt;
    if (unknown_ && !insideFused()) return unknown(*capture, op, keys, stack);
    if (!rule_ || insideFused()) return redispatchBelow(kProbeKey, op, keys, stack);
    const auto& name = outerName ? *outerName : name_;
    if (flow::isProduct(rule_->does)) return product(*capture, name, op, keys, stack);
    if (rule_->does == flow::Does::Contains) {
      const std::vector<c10::IValue> given(arguments.begin(), arguments.end());
      {
        const NameScope scope(name_);
        redispatchBelow(kProbeKey, op, keys, stack);
      }
      return degenerateEinsum(*capture, given, resultOf(op, *stack));
    }
    const bool fixed = written ? *written : isFixed(*capture, arguments);
    if ((rule_->does == flow::Does::Fourier || rule_->does == flow::Does::InverseFourier) && !fixed) {
      const auto forward = op.schema().argumentIndexWithName("forward");
      const bool inverse =
          rule_->does == flow::Does::InverseFourier || (forward && !arguments[static_cast<size_t>(*forward)].toBool());
      redispatchBelow(kProbeKey, op, keys, stack);
      return capture->onTransform(name, inverse, resultOf(op, *stack));
    }
    const bool picks = !fixed && !arguments.empty() && arguments[0].isTensor() && arguments[0].toTensor().defined() &&
                       flow::Flow::picksMatrices(rule_->does, arguments[0].toTensor()) &&
                       capture->fixedTensors().contains(arguments[0].toTensor());
    // What layers and stacking make is told from positions.
    const bool recurs = rule_->does == flow::Does::Recurs;
    const bool makesFeatures = recurs || rule_->does == flow::Does::Convolves || rule_->does == flow::Does::Unfolds ||
                               rule_->does == flow::Does::Stacks || rule_->does == flow::Does::Concatenates ||
                               rule_->does == flow::Does::Layers || (rule_->does == flow::Does::Embeds && !fixed) ||
                               picks;
    // Softmaxes as well, of whatever they are.
    const bool makesWeights = rule_->does == flow::Does::LogSoftmax || rule_->does == flow::Does::Exponentiates;
    const bool concerned = makesFeatures || makesWeights || capture->concerns(arguments) ||
                           (!fixed && flow::Flow::mayPair(rule_->does, arguments));
    if (!concerned && !fixed) return redispatchBelow(kProbeKey, op, keys, stack);
    std::vector<c10::IValue> given;
    if (concerned) {
      given.assign(arguments.begin(), arguments.end());
      if (rule_->does == flow::Does::Scales) {
        // Weights may be multiplied with values here, and summed later.
        for (size_t place = 0; place < given.size(); ++place) {
          if (!given[place].isTensor()) continue;
          auto tensor = capture->multiplied(given[place].toTensor());
          if (tensor.is_same(given[place].toTensor())) continue;
          given[place] = tensor;
          torch::jit::peek(*stack, place, given.size()) = std::move(tensor);
        }
      }
    }
    {
      std::optional<ProbeSuspended> suspended;  // a softmax in it isn't another one, nor are a recurrence's layers
      if (recurs || rule_->does == flow::Does::LogSoftmax) suspended.emplace();
      redispatchBelow(kProbeKey, op, keys, stack);
    }
    const auto result = resultOf(op, *stack);
    if (!result.defined()) return;
    if (fixed) capture->fixedTensors().add(result);
    if (concerned) capture->onOperator({*rule_, name, op.schema(), given}, result);
  }

 private:
  // The first of what an operator returned; undefined where that is no tensor.
  static at::Tensor resultOf(const c10::OperatorHandle& op, const Stack& stack) {
    const auto count = op.schema().returns().size();
    if (count == 0 || stack.size() < count) return {};
    const auto& first = stack[stack.size() - count];
    return first.isTensor() ? first.toTensor() : at::Tensor();
  }

  // Whether what is written depends on no input, where that was asked.
  std::optional<bool> tellOfWrites(Capture& capture, c10::ArrayRef<c10::IValue> arguments) const {
    auto& fixed = capture.fixedTensors();
    if (!capture.retainsTensors() && !fixed.any()) return std::nullopt;
    const bool constant = fixed.any() && isFixed(capture, arguments);
    for (size_t place = 0; place < arguments.size(); ++place) {
      if (!written_[place]) continue;
      forTensors(arguments[place], [&](const at::Tensor& tensor) {
        capture.beforeWrite(tensor);
        if (!constant) fixed.remove(tensor);
        return true;
      });
    }
    return constant;
  }

  // Whether what the operator gives depends on no input: it takes tensors that don't, and single numbers, alone.
  bool isFixed(Capture& capture, c10::ArrayRef<c10::IValue> arguments) const {
    if (rule_ && rule_->does == flow::Does::Makes) return true;
    bool any = false;
    for (const auto& argument : arguments) {
      const bool all = forTensors(argument, [&](const at::Tensor& tensor) {
        const bool here = capture.fixedTensors().contains(tensor);
        any = any || here;
        return here || tensor.dim() == 0;
      });
      if (!all) return false;
    }
    return any;
  }

  // An operator of others: what it computes inside is seen where it is made of libtorch's.
  void unknown(Capture& capture, const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) const {
    const auto arguments = torch::jit::last(*stack, written_.size());
    const bool suspicious = maybeAttention(name_, arguments, capture.fixedTensors());
    const std::vector<c10::IValue> given(arguments.begin(), arguments.end());
    const auto before = capture.seen();
    redispatchBelow(kProbeKey, op, keys, stack);
    if (capture.seen() != before) return;
    const auto result = resultOf(op, *stack);
    capture.onUnknownOperator(name_, given, result, suspicious && result.defined());
  }

  // An einsum over a dimension of size one, or without elements, computes no product that could be seen.
  static void degenerateEinsum(Capture& capture, const std::vector<c10::IValue>& arguments, const at::Tensor& result) {
    static constexpr flow::Rule kProduct{"matmul", flow::Does::Matmul};
    if (!result.defined() || arguments.size() < 2 || !arguments[0].isString() || !arguments[1].isTensorList()) return;
    const auto operands = arguments[1].toTensorVector();
    auto equation = arguments[0].toStringRef();
    std::erase(equation, ' ');
    const auto arrow = equation.find("->");
    if (arrow == std::string::npos || operands.size() != 2) return;
    const auto output = equation.substr(arrow + 2);
    const auto comma = equation.find(',');
    for (size_t i = 0; i < 2; ++i) {
      const auto& operand = operands[i];
      const auto end = i == 0 ? comma : arrow;
      if (operand.dim() == 0 || end == 0 || output.find(equation[end - 1]) != std::string::npos) continue;
      if (operand.size(-1) != 1 && operand.numel() != 0 && operands[1 - i].numel() != 0) continue;
      if (capture.fixedTensors().contains(operands[1 - i])) continue;
      const ProbeSuspended suspended;
      auto consumed = capture.weightsIn(kProduct, operand, at::empty({operand.size(-1), 1}, operand.options()));
      if (!consumed) continue;
      capture.operandOf(*consumed);
      return capture.onProduct(*consumed, result);
    }
  }

  void product(Capture& capture, const std::string& name, const c10::OperatorHandle& op, c10::DispatchKeySet keys,
               Stack* stack) const {
    const auto count = written_.size();
    const auto place = [&](int8_t which) -> c10::IValue& {
      return torch::jit::peek(*stack, static_cast<size_t>(which), count);
    };
    const auto a = place(rule_->operand).toTensor(), b = place(rule_->other).toTensor();
    const auto& last = torch::jit::peek(*stack, count - 1, count);
    const bool hasBias = count > 2 && last.isTensor() && last.toTensor().defined();
    auto consumed = capture.weightsIn(*rule_, a, b);
    if (consumed) {
      const auto which = consumed->operand.is_same(a) ? rule_->operand : rule_->other;
      place(which) = capture.operandOf(*consumed);
    }
    {
      const ProbeSuspended suspended;
      redispatchBelow(kProbeKey, op, keys, stack);
    }
    const auto result = resultOf(op, *stack);
    if (!result.defined()) return;
    const bool biased = rule_->does == flow::Does::Linear && hasBias;
    if (consumed) {
      if (consumed->operand.is_quantized()) {
        const ProbeSuspended suspended;
        consumed->operand = consumed->operand.dequantize();
      }
      capture.onProduct(*consumed, result);
    }
    static constexpr flow::Rule kBiased{"linear", flow::Does::Linear, 0, 1, true};
    capture.productRan(biased ? kBiased : *rule_, name, a, b, result, consumed.has_value());
  }

  const flow::Rule* const rule_;
  const bool unknown_;  // not libtorch's
  const std::string name_;
  const std::vector<bool> written_;  // by argument
  const bool writes_;
};

// The name that attentions tell: that of "aten::_softmax.out" is softmax.
std::string plainName(const std::string& operatorName) {
  auto name = operatorName.substr(operatorName.find("::") + 2);
  if (name == "_to_copy") return "to";
  while (name.size() > 1 && name.back() == '_') name.pop_back();
  name.erase(0, std::min(name.find_first_not_of('_'), name.size() - 1));
  return name.starts_with("native_") ? name.substr(7) : name;
}

// Operators with kernels of their own.
std::set<std::string>& leftOut() {
  static auto* const names = new std::set<std::string>();
  return *names;
}

// Whether an operator that computes one number of each tells yes or no, or one bit from another.
bool isPredicate(const std::string& name) {
  static const std::set<std::string> comparisons{
      "lt", "le", "gt", "ne", "less", "less_equal", "greater", "greater_equal", "not_equal", "signbit"};
  return comparisons.count(name) != 0 || name.starts_with("is") || name.starts_with("logical_") ||
         name.starts_with("bitwise_");
}

// Kernels stay for good: a thread may be in one at any time.
void watch(const c10::OperatorHandle& op) {
  const auto& arguments = op.schema().arguments();
  std::vector<bool> written;
  for (const auto& argument : arguments) written.push_back(isWritten(argument));
  const auto& name = op.operator_name().name;
  const auto* rule = flow::ruleFor(name.starts_with("aten::") ? std::string_view(name).substr(6) : name);
  // Those of libtorch that compute attention and are called by themselves can't be followed either.
  static const std::set<std::string> own{
      "aten", "prim",   "prims",  "lta", "profiler", "quantized", "_quantized", "inductor",
      "c10d", "onednn", "mkldnn", "mkl", "sparse",   "xnnpack",   "debugprims", "static_runtime"};
  const bool libtorchs = own.count(name.substr(0, name.find("::"))) != 0;
  const bool attends = name.find("attention") != std::string::npos && name.find("backward") == std::string::npos &&
                       name != "aten::scaled_dot_product_attention" && name != "aten::_native_multi_head_attention";
  const bool unknown = !libtorchs || attends;
  if (!rule && libtorchs && op.hasTag(at::Tag::pointwise) && !isPredicate(plainName(name))) {
    rule = &flow::ruleOfPointwise();
  }
  if (!rule && !unknown && std::find(written.begin(), written.end(), true) == written.end()) return;
  if (leftOut().count(c10::toString(op.operator_name()))) return;
  registerKernel(op.operator_name(), kProbeKey,
                 c10::KernelFunction::makeFromBoxedFunctor(
                     std::make_unique<Watched>(rule, plainName(name), std::move(written), unknown)));
}

OperatorWatcher& operators() {
  static auto* const watcher = new OperatorWatcher(watch);
  return *watcher;
}

}  // namespace

void watchOperators(std::initializer_list<const char*> except, Capture* (*current)(), bool (*fused)()) {
  currentCapture = current;
  insideFused = fused;
  leftOut().insert(except.begin(), except.end());
  watchNewOperators();
}

void watchNewOperators() { operators().visitNew(); }

}  // namespace lta
