#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/capture.h"
#include "hooks/hook_registry.h"
#include "runtime/activity.h"
#include "runtime/cancellation.h"
#include "runtime/release_value.h"

namespace lta {

struct LoadOptions {
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  std::optional<at::ScalarType> dtype;  // floating-point parameters and buffers are cast to it
  bool optimize = false;                // freeze what is run: faster, other last bits
  std::optional<bool> fuse;             // with oneDNN Graph as well; default: where that pays, with `optimize`
  bool untrusted = false;               // refuses what could do more than compute, with ERR_UNTRUSTED
  bool verify = false;                  // compares each record to its checksum; `untrusted` does as well
};

struct RunOptions {
  std::string method = "forward";
  bool grad = false;
  CancellationPtr cancellation;
  // The hooks that the run sees, as `hooks` gave them when it was asked for: none registered later. Without it, those
  // that there are when the run begins.
  std::optional<std::shared_ptr<const HookSet>> hooks;
};

struct ModuleInfo {
  std::string name;
  std::string type;
};

struct ParameterInfo {
  std::string name;
  at::Tensor tensor;
};

struct CaptureResult {
  ReleasedValue output;
  std::vector<Attention> attentions;
  std::shared_ptr<Capture> capture;  // what the attentions' gradient points refer to
};

// A TorchScript checkpoint. Safe to use from several threads at once; `to` waits for runs under way.
class ScriptModule {
 public:
  static std::shared_ptr<ScriptModule> loadFile(const std::string& path, const LoadOptions& options);
  static std::shared_ptr<ScriptModule> loadBytes(std::string bytes, const LoadOptions& options);
  virtual ~ScriptModule() = default;

  // Names of the methods that can be run, and the signature of one. `schema` throws ERR_INVALID_ARGUMENT for a method
  // that the checkpoint doesn't have.
  virtual std::vector<std::string> methods() const = 0;
  virtual const c10::FunctionSchema& schema(const std::string& method) const = 0;
  virtual std::vector<ModuleInfo> modules() const = 0;
  // Neither waits for what is under way: the tensors are the model's own, which `to` exchanges as its caller says.
  virtual std::vector<ParameterInfo> parameters() const = 0;
  // Parameters and buffers, those of a module with several names under each of them: Python's state_dict().
  virtual std::vector<ParameterInfo> stateDict() const = 0;

  // Runs a method on inputs that fit its schema.
  virtual c10::IValue run(std::vector<c10::IValue> inputs, const RunOptions& options) = 0;
  virtual CaptureResult capture(std::vector<c10::IValue> inputs, const RunOptions& run,
                                const CaptureOptions& options) = 0;
  // `exchange` is told what puts the moved parameters in place of the old ones, at once for all of them, and runs it
  // where nobody looks at them.
  using Exchange = std::function<void(const std::function<void()>&)>;
  virtual void to(c10::Device device, const Exchange& exchange) = 0;
  // What is going on with the model, as far as callers say (see Activity).
  virtual const std::shared_ptr<Activity>& activity() const = 0;

  // Hooks on modules by dotted name ('' is the model itself). `addHook` throws ERR_UNKNOWN_MODULE.
  virtual void addHook(const std::string& module, HookPtr hook) = 0;
  virtual void removeHook(const std::string& module, const HookPtr& hook) = 0;
  virtual std::shared_ptr<const HookSet> hooks() const = 0;
};

}  // namespace lta
