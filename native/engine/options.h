// Inputs, options and results of runs and captures, the same for all kinds of models.
#pragma once

#include <ATen/core/ivalue.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "capture/attention.h"
#include "capture/options.h"
#include "capture/tensor_capture.h"
#include "hooks/hook_registry.h"
#include "runtime/cancellation.h"
#include "runtime/release_value.h"

namespace lta {
class Capture;
}

namespace lta::engine {

// The arguments of a method: positional and, for models without a schema, named.
struct Inputs {
  std::vector<c10::IValue> positional = {};
  std::vector<std::string> names = {};  // of positional arguments, for errors; one each if the model has no schema
  std::map<std::string, c10::IValue> named = {};
};

// The state of the model that a run sees: as of its request.
struct Snapshot {
  virtual ~Snapshot() = default;
  std::shared_ptr<const HookSet> hooks;  // null for none
};

struct RunOptions {
  std::string method = "forward";
  bool grad = false;         // records for a backward pass
  bool needWeights = false;  // native attention returns weights, whatever its own flag says
  CancellationPtr cancellation;
  // The calling thread is an event loop's, which alone computes: nothing may wait for another thread, that may need it.
  bool blocking = false;
  std::shared_ptr<const Snapshot> snapshot;  // null: taken when the run begins
};

struct CaptureResult {
  ReleasedValue output;
  std::vector<Attention> attentions;
  std::shared_ptr<Capture> capture;  // referenced by the attentions' gradient points
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
