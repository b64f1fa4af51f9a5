// Captures of any value that an operator computes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "capture/capture_budget.h"
#include "capture/module_resolver.h"
#include "runtime/cancellation.h"
#include "runtime/device_copy.h"
#include "runtime/first_failure.h"
#include "runtime/operator_observer.h"

namespace lta {

// Which values of a forward a capture of tensors takes; what is absent selects all.
struct TensorSelector {
  std::optional<std::set<std::string>> modules;  // that call the operator themselves, by dotted name
  std::optional<std::string> operatorName;       // without overload, and without the namespace of libtorch's own
  std::optional<int64_t> occurrence;             // among the calls of that operator by that module
};

struct TensorCaptureOptions {
  TensorSelector selector;
  bool toCpu = true;
  bool toFloat = true;  // floating-point values, that is
  std::optional<int64_t> maxBytes;
};

struct CapturedTensor {
  std::string name;  // dotted name of the module
  std::string operatorName;
  int64_t occurrence = 0;
  int64_t output = 0;  // its place among the tensors that the operator gave
  at::Tensor tensor;   // a dense copy
};

// One capture of any values of one forward: what the operators that the model calls give, copied as soon as it exists.
// What they are made of isn't seen. Told by RunScope, from all threads of the run.
class TensorCapture final : public OperatorObserver {
 public:
  TensorCapture(TensorCaptureOptions options, std::shared_ptr<const ModuleResolver> modules);

  void onOperator(const c10::OperatorHandle& op, const torch::jit::Stack& stack) override;

  // What this capture threw into the model's run, if anything.
  std::exception_ptr failure() const { return failure_.get(); }

  // What was kept, in execution order. Throws ERR_UNKNOWN_MODULE where the selected modules called no operator,
  // ERR_INVALID_ARGUMENT where they called others. To be called once, after the forward.
  std::vector<CapturedTensor> finish();

 private:
  using Calls = std::map<std::string, int64_t>;  // by operator

  bool selects(const std::string& module) const;
  void keep(CapturedTensor place, const at::Tensor& tensor);
  [[noreturn]] void refuseSelector() const;

  const TensorCaptureOptions options_;
  const std::shared_ptr<const ModuleResolver> modules_;
  CaptureBudget budget_;
  FirstFailure failure_;

  std::mutex mutex_;                    // of what follows
  std::map<std::string, Calls> calls_;  // by module
  std::vector<CapturedTensor> tensors_;
  DeviceCopies copies_;
  bool finished_ = false;  // what a task that nobody waited for computes later is no part of the capture
};

}  // namespace lta
