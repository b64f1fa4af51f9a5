#include "hooks/recorder.h"

namespace lta {

void Recorder::keep(Record record) {
  std::lock_guard<std::mutex> lock(mutex_);
  record_ = std::move(record);
}

std::optional<Recorder::Record> Recorder::last() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return record_;
}

std::optional<std::vector<c10::IValue>> Recorder::onInputs(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                                           const CancellationPtr&) {
  keep({inputs, std::nullopt});
  return std::nullopt;
}

std::optional<c10::IValue> Recorder::onOutput(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                              const c10::IValue& output, const CancellationPtr&) {
  keep({inputs, std::vector<c10::IValue>{output}});
  return std::nullopt;
}

std::optional<std::vector<at::Tensor>> Recorder::onGradients(const ModuleCall&,
                                                             const std::vector<at::Tensor>& gradInputs,
                                                             const std::vector<at::Tensor>& gradOutputs) {
  keep({{gradInputs.begin(), gradInputs.end()}, std::vector<c10::IValue>{gradOutputs.begin(), gradOutputs.end()}});
  return std::nullopt;
}

}  // namespace lta
