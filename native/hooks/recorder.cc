#include "hooks/recorder.h"

#include "runtime/release_value.h"

namespace lta {

Recorder::~Recorder() { keep(std::nullopt); }

void Recorder::keep(std::optional<Record> record) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    record_.swap(record);
  }
  if (!record) return;
  for (auto& value : record->input) releaseValue(std::move(value));
  if (!record->output) return;
  for (auto& value : *record->output) releaseValue(std::move(value));
}

std::optional<Recorder::Record> Recorder::last() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return record_;
}

std::optional<std::vector<c10::IValue>> Recorder::onInputs(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                                           const CancellationPtr&) {
  keep(Record{inputs, std::nullopt});
  return std::nullopt;
}

std::optional<c10::IValue> Recorder::onOutput(const ModuleCall&, const std::vector<c10::IValue>& inputs,
                                              const c10::IValue& output, const CancellationPtr&) {
  keep(Record{inputs, std::vector<c10::IValue>{output}});
  return std::nullopt;
}

std::optional<std::vector<at::Tensor>> Recorder::onGradients(const ModuleCall&,
                                                             const std::vector<at::Tensor>& gradInputs,
                                                             const std::vector<at::Tensor>& gradOutputs) {
  keep(
      Record{{gradInputs.begin(), gradInputs.end()}, std::vector<c10::IValue>{gradOutputs.begin(), gradOutputs.end()}});
  return std::nullopt;
}

}  // namespace lta
