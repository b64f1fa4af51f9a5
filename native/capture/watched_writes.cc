#include "capture/watched_writes.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "torch/dispatcher.h"

namespace lta {
namespace {

Capture* (*currentCapture)() = nullptr;

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

void tell(Capture& capture, const c10::IValue& value) {
  if (value.isTensor()) {
    capture.beforeWrite(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) tell(capture, element);
  }
}

void tellOfWrites(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  auto* const capture = currentCapture();
  if (capture && capture->retainsTensors()) {
    const auto& arguments = op.schema().arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (isWritten(arguments[i])) tell(*capture, torch::jit::peek(*stack, i, arguments.size()));
    }
  }
  redispatchBelow(kProbeKey, op, keys, stack);
}

// The same for an operator that writes a tensor's elements elsewhere, one by one: what is written is derived from it.
void tellOfCopy(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  auto* const capture = currentCapture();
  const bool following = capture && capture->following();
  std::vector<at::Tensor> sources, written;
  if (following) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto& value = torch::jit::peek(*stack, i, arguments.size());
      if (value.isTensor()) (isWritten(arguments[i]) ? written : sources).push_back(value.toTensor());
    }
  }
  tellOfWrites(op, keys, stack);
  for (const auto& result : written) {
    for (const auto& source : sources) capture->onDerived(source, result);
  }
}

const std::set<std::string>& copies() {
  static const std::set<std::string> names{"aten::copy_",
                                           "aten::clone.out",
                                           "aten::_to_copy.out",
                                           "aten::mul.out",
                                           "aten::div.out",
                                           "aten::masked_fill.Scalar_out",
                                           "aten::masked_fill.Tensor_out",
                                           "aten::where.self_out",
                                           "aten::nan_to_num.out",
                                           "aten::native_dropout.out"};
  return names;
}

// Operators whose own kernels of the probe tell of what they write.
std::set<std::string>& leftOut() {
  static auto* const names = new std::set<std::string>();
  return *names;
}

// Kernels stay for good: a thread may be in one at any time.
void watch(const c10::OperatorHandle& op) {
  const auto& arguments = op.schema().arguments();
  if (std::none_of(arguments.begin(), arguments.end(), isWritten)) return;
  const auto name = c10::toString(op.operator_name());
  if (leftOut().count(name)) return;
  if (copies().count(name)) {
    registerBoxedKernel<&tellOfCopy>(op.operator_name(), kProbeKey);
  } else {
    registerBoxedKernel<&tellOfWrites>(op.operator_name(), kProbeKey);
  }
}

OperatorWatcher& operators() {
  static auto* const watcher = new OperatorWatcher(watch);
  return *watcher;
}

}  // namespace

void watchWrites(std::initializer_list<const char*> except, Capture* (*current)()) {
  currentCapture = current;
  leftOut().insert(except.begin(), except.end());
  watchNewOperators();
}

void watchNewOperators() { operators().visitNew(); }

}  // namespace lta
