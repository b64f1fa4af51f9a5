#include "capture/watched_writes.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "torch/own_computation.h"

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
  if (capture && capture->keepsTensors()) {
    const auto& arguments = op.schema().arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (isWritten(arguments[i])) tell(*capture, torch::jit::peek(*stack, i, arguments.size()));
    }
  }
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kProbeKey), stack);
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
    for (const auto& source : sources) capture->derive(source, result);
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

class Watched {
 public:
  static Watched& instance() {
    static auto* const watched = new Watched();
    return *watched;
  }

  void leaveOut(const std::string& name) { seen_.insert(name); }
  void listen() {
    auto& dispatcher = c10::Dispatcher::singleton();
    static auto* const listening =
        new c10::RegistrationHandleRAII(dispatcher.addRegistrationListener(std::make_unique<Listener>()));
    (void)listening;
  }

  void watchNew() {
    if (!anyNew_.load(std::memory_order_acquire)) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!anyNew_.exchange(false)) return;
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const auto& name : dispatcher.getAllOpNames()) {
      const auto op = dispatcher.findSchema(name);
      if (!op) continue;
      const auto& arguments = op->schema().arguments();
      if (std::none_of(arguments.begin(), arguments.end(), isWritten)) continue;
      const auto full = c10::toString(name);
      if (!seen_.insert(full).second) continue;
      // Kernels stay for good: a thread may be in one at any time.
      kept_.push_back(std::make_unique<c10::RegistrationHandleRAII>(
          dispatcher.registerImpl(name, kProbeKey,
                                  copies().count(full) ? c10::KernelFunction::makeFromBoxedFunction<&tellOfCopy>()
                                                       : c10::KernelFunction::makeFromBoxedFunction<&tellOfWrites>(),
                                  std::nullopt, nullptr, "libtorch-attention: watched writes")));
    }
  }

 private:
  // Called under the dispatcher's lock, where nothing can be registered.
  class Listener final : public c10::OpRegistrationListener {
   public:
    void onOperatorRegistered(const c10::OperatorHandle&) override { instance().anyNew_ = true; }
    void onOperatorDeregistered(const c10::OperatorHandle&) override {}
  };

  std::atomic<bool> anyNew_{true};
  std::mutex mutex_;
  std::set<std::string> seen_;
  std::vector<std::unique_ptr<c10::RegistrationHandleRAII>> kept_;
};

}  // namespace

void watchWrites(std::initializer_list<const char*> except, Capture* (*current)()) {
  currentCapture = current;
  auto& watched = Watched::instance();
  for (const auto* name : except) watched.leaveOut(name);
  watched.listen();
  watched.watchNew();
}

void watchNewOperators() { Watched::instance().watchNew(); }

}  // namespace lta
