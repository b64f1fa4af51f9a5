#include "torch/dispatcher.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace lta {
namespace {

// Never destroyed, which would take back what was registered.
torch::Library& retain(std::unique_ptr<torch::Library> library) {
  static std::mutex mutex;
  static auto* const all = new std::vector<std::unique_ptr<torch::Library>>();
  const std::lock_guard<std::mutex> lock(mutex);
  all->push_back(std::move(library));
  return *all->back();
}

}  // namespace

void claimNamespace(const char* operatorNamespace, const char* file) {
  retain(std::make_unique<torch::Library>(torch::Library::DEF, operatorNamespace, std::nullopt, file, 0));
}

torch::Library& operatorsOf(const char* operatorNamespace) {
  return retain(
      std::make_unique<torch::Library>(torch::Library::FRAGMENT, operatorNamespace, std::nullopt, __FILE__, __LINE__));
}

torch::Library& kernelsUnder(c10::DispatchKey key, const char* operatorNamespace) {
  return retain(std::make_unique<torch::Library>(torch::Library::IMPL, operatorNamespace, key, __FILE__, __LINE__));
}

void registerKernel(const c10::OperatorName& name, c10::DispatchKey key, c10::KernelFunction kernel) {
  static std::mutex mutex;
  static auto* const all = new std::vector<c10::RegistrationHandleRAII>();
  auto handle = c10::Dispatcher::singleton().registerImpl(name, key, std::move(kernel), std::nullopt, nullptr,
                                                          "libtorch-attention");
  const std::lock_guard<std::mutex> lock(mutex);
  all->push_back(std::move(handle));
}

// Called under the dispatcher's lock: must not register anything.
class OperatorWatcher::Listener final : public c10::OpRegistrationListener {
 public:
  explicit Listener(std::atomic<bool>& anyNew) : anyNew_(anyNew) {}
  void onOperatorRegistered(const c10::OperatorHandle&) override { anyNew_ = true; }
  void onOperatorDeregistered(const c10::OperatorHandle&) override {}

 private:
  std::atomic<bool>& anyNew_;
};

OperatorWatcher::OperatorWatcher(Visit visit) : visit_(visit) {
  static auto* const listening = new std::vector<c10::RegistrationHandleRAII>();
  listening->push_back(c10::Dispatcher::singleton().addRegistrationListener(std::make_unique<Listener>(anyNew_)));
}

void OperatorWatcher::visitNew() {
  if (!anyNew_.load(std::memory_order_acquire)) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!anyNew_.exchange(false)) return;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findSchema(name);
    if (op && visited_.insert(name).second) visit_(*op);
  }
}

}  // namespace lta
