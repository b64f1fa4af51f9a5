// A hook that records values natively; nothing crosses into JavaScript until they are read.
#pragma once

#include <mutex>
#include <optional>

#include "hooks/hook.h"

namespace lta {

// Keeps the inputs and outputs of the last call.
class Recorder final : public Hook {
 public:
  struct Record {
    std::vector<c10::IValue> input;
    std::optional<std::vector<c10::IValue>> output;  // one element (forward) or one per gradient (backward)
  };

  explicit Recorder(HookKind kind) : Hook(kind) {}
  ~Recorder() override;

  std::optional<std::vector<c10::IValue>> onInputs(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                                   const CancellationPtr&) override;
  std::optional<c10::IValue> onOutput(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                      const c10::IValue& output, const CancellationPtr&) override;
  std::optional<std::vector<at::Tensor>> onGradients(const ModuleCall&, const std::vector<at::Tensor>& gradInputs,
                                                     const std::vector<at::Tensor>& gradOutputs) override;

  std::optional<Record> last() const;

 private:
  void keep(std::optional<Record> record);
  mutable std::mutex mutex_;
  std::optional<Record> record_;
};

}  // namespace lta
