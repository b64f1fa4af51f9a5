#pragma once

#include <ATen/core/ivalue.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "capture/capture.h"
#include "capture/tensor_capture.h"
#include "hooks/hook_registry.h"
#include "runtime/cancellation.h"
#include "runtime/release_value.h"

// What runs and captures of all models take and give.
namespace lta::engine {

// What a method is called with: values by position, and those that have names (of models without a schema).
struct Inputs {
  std::vector<c10::IValue> positional = {};
  std::vector<std::string> names = {};  // of those by position, for errors; as many where the model has no schema
  std::map<std::string, c10::IValue> named = {};
};

// What a run sees of its model: as it was when the run was asked for.
struct Snapshot {
  virtual ~Snapshot() = default;
  std::shared_ptr<const HookSet> hooks;  // none: null
};

struct RunOptions {
  std::string method = "forward";
  bool grad = false;         // records what a backward pass needs
  bool needWeights = false;  // native attentions return their weights in this run, whatever their own flag says
  CancellationPtr cancellation;
  std::shared_ptr<const Snapshot> snapshot;  // absent: taken when the run begins
};

struct CaptureResult {
  ReleasedValue output;
  std::vector<Attention> attentions;
  std::shared_ptr<Capture> capture;  // what the attentions' gradient points refer to
};

struct TensorCaptureResult {
  ReleasedValue output;
  std::vector<CapturedTensor> tensors;
};

struct ModuleInfo {
  std::string name;
  std::string type;
};

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

}  // namespace lta::engine
