#include "script/script_module.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/serialization/import.h>

#include <filesystem>
#include <istream>
#include <mutex>
#include <shared_mutex>
#include <streambuf>
#include <unordered_map>
#include <unordered_set>

#include "attention/probe.h"
#include "script/call_sites.h"

namespace lta {
namespace {

namespace jit = torch::jit;

// The last part of a class's qualified name: "__torch__.torch.nn.modules.linear.___torch_mangle_3.Linear" → "Linear".
std::string shortTypeName(const jit::Module& module) {
  const auto name = module.type()->name();
  return name ? name->name() : module.type()->str();
}

class Loaded final : public ScriptModule {
 public:
  explicit Loaded(jit::Module module) : module_(std::move(module)) {
    named_ = script::namedModules(module_);
    names_ = std::make_shared<script::ModuleNames>(script::moduleNames(named_));
    std::unordered_set<const void*> seen;
    auto owners = std::make_shared<Owners>();
    for (const auto& [moduleName, module] : named_) {
      for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
        if (!seen.insert(parameter.value.unsafeGetTensorImpl()).second) continue;
        owners->emplace(parameter.value.unsafeGetTensorImpl(), moduleName);
        parameters_.push_back({moduleName.empty() ? parameter.name : moduleName + "." + parameter.name,
                               parameter.value});
      }
    }
    resolver_ = std::make_shared<Resolver>(owners);
  }

  std::vector<std::string> methods() const override {
    std::vector<std::string> names;
    for (const auto& method : module_.get_methods()) names.push_back(method.name());
    return names;
  }

  const c10::FunctionSchema& schema(const std::string& method) const override {
    const auto found = module_.find_method(method);
    if (found) return found->function().getSchema();
    std::string known;
    for (const auto& name : methods()) known += (known.empty() ? "" : ", ") + name;
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected one of the checkpoint's methods (" + known + ") for method but received '" + method + "'");
  }

  std::vector<ModuleInfo> modules() const override {
    std::vector<ModuleInfo> infos;
    for (const auto& entry : named_) infos.push_back({entry.name, shortTypeName(entry.module)});
    return infos;
  }

  std::vector<ParameterInfo> parameters() const override {
    std::shared_lock<std::shared_mutex> lock(moving_);
    return parameters_;
  }

  c10::IValue run(std::vector<c10::IValue> inputs, const RunOptions& options) override {
    std::shared_lock<std::shared_mutex> lock(moving_);
    return runLocked(inputs, options);
  }

  CaptureResult capture(std::vector<c10::IValue> inputs, const RunOptions& run,
                        const CaptureOptions& options) override {
    std::shared_lock<std::shared_mutex> lock(moving_);
    try {
      return captureLocked(inputs, run, options);
    } catch (const Overwritten&) {
      // This model writes into what was kept by reference: once more, with copies.
      CaptureOptions copying = options;
      copying.copyWhatIsHeld = true;
      return captureLocked(inputs, run, copying);
    }
  }

  void to(c10::Device device) override {
    std::unique_lock<std::shared_mutex> lock(moving_);
    module_.to(device);
  }

 private:
  using Owners = std::unordered_map<const c10::TensorImpl*, std::string>;

  class Resolver final : public ModuleResolver {
   public:
    explicit Resolver(std::shared_ptr<const Owners> owners) : owners_(std::move(owners)) {}
    std::string current() const override { return script::currentModuleName(); }
    std::string ownerOf(const at::Tensor& parameter) const override {
      const auto found = owners_->find(parameter.unsafeGetTensorImpl());
      return found == owners_->end() ? std::string() : found->second;
    }

   private:
    std::shared_ptr<const Owners> owners_;
  };

  // The method's graph with names in it, compiled once: plain runs and captures run the same code, so that a capture
  // neither compiles anything again nor can change a bit of the output.
  jit::GraphFunction& program(const std::string& method) {
    std::lock_guard<std::mutex> lock(compiling_);
    auto& slot = programs_[method];
    if (!slot) {
      const auto found = module_.get_method(method);
      slot = std::make_unique<jit::GraphFunction>(found.function().qualname(),
                                                  script::inlineWithNames(module_, found, *names_), nullptr);
    }
    return *slot;
  }

  c10::IValue runLocked(const std::vector<c10::IValue>& inputs, const RunOptions& options) {
    if (options.cancellation) options.cancellation->check();
    c10::AutoGradMode grad(options.grad);
    jit::Stack stack;
    stack.reserve(inputs.size() + 1);
    stack.emplace_back(module_._ivalue());
    stack.insert(stack.end(), inputs.begin(), inputs.end());
    program(options.method).run(stack);
    return std::move(stack.front());
  }

  CaptureResult captureLocked(const std::vector<c10::IValue>& inputs, const RunOptions& run,
                              const CaptureOptions& options) {
    auto watching = std::make_shared<Capture>(options, resolver_, run.cancellation);
    CaptureResult result;
    {
      ProbeScope probe(watching);
      try {
        result.output = runLocked(inputs, run);
      } catch (...) {
        if (const auto failure = watching->failure()) std::rethrow_exception(failure);
        throw;
      }
    }
    result.attentions = watching->finish();
    return result;
  }

  jit::Module module_;
  std::vector<script::NamedModule> named_;
  std::shared_ptr<script::ModuleNames> names_;
  std::vector<ParameterInfo> parameters_;
  std::shared_ptr<const Resolver> resolver_;
  mutable std::shared_mutex moving_;  // runs share it, moving the parameters to another device excludes them
  std::mutex compiling_;
  std::unordered_map<std::string, std::unique_ptr<jit::GraphFunction>> programs_;
};

// Reads a string without copying it.
class Bytes final : public std::streambuf {
 public:
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {
    setg(bytes_.data(), bytes_.data(), bytes_.data() + bytes_.size());
  }

 protected:
  pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode) override {
    char* base = from == std::ios_base::beg ? eback() : from == std::ios_base::cur ? gptr() : egptr();
    setg(eback(), base + offset, egptr());
    return gptr() - eback();
  }
  pos_type seekpos(pos_type position, std::ios_base::openmode mode) override {
    return seekoff(position, std::ios_base::beg, mode);
  }

 private:
  std::string bytes_;
};

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// What kept an archive from loading, in words that say what to do.
Error loadError(const std::string& source, std::exception_ptr exception) {
  const Error cause = describe(std::move(exception), "ERR_MODEL_LOAD");
  const std::string what = cause.what();
  std::string reason = what;
  if (contains(what, "not a ZIP archive") || contains(what, "invalid header or archive is corrupted") ||
      contains(what, "failed finding central directory")) {
    reason = "expected a TorchScript archive (what torch.jit.save writes) but the file is no zip archive, or is truncated";
  } else if (contains(what, "constants.pkl") || contains(what, "locating file")) {
    reason =
        "expected a TorchScript archive (what torch.jit.save writes) but the archive holds no TorchScript program; a "
        "file of torch.save or torch.export has to be exported first with torch.jit.trace or torch.jit.script";
  } else if (contains(what, "Unknown builtin op") || contains(what, "unknown builtin op")) {
    reason = what + ". The checkpoint uses an operator that this libtorch doesn't have (a custom operator?)";
  }
  return Error("ERR_MODEL_LOAD", "Cannot load " + source + ": " + reason,
               cause.nativeStack().empty() ? what : cause.nativeStack());
}

std::shared_ptr<ScriptModule> finishLoading(jit::Module module, const LoadOptions& options) {
  module.eval();
  if (options.dtype) module.to(*options.dtype);
  if (options.optimize) {
    if (module.hasattr("training")) module = jit::freeze(module);
    module = jit::optimize_for_inference(module);
  }
  return std::make_shared<Loaded>(std::move(module));
}

}  // namespace

std::shared_ptr<ScriptModule> ScriptModule::loadFile(const std::string& path, const LoadOptions& options) {
  const auto source = "'" + path + "'";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error("ERR_MODEL_LOAD", "Cannot load " + source + ": no such file");
  }
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error("ERR_MODEL_LOAD", "Cannot load " + source + ": expected a TorchScript archive but it is a folder");
  }
  try {
    return finishLoading(jit::load(path, options.device), options);
  } catch (...) {
    throw loadError(source, std::current_exception());
  }
}

std::shared_ptr<ScriptModule> ScriptModule::loadBytes(std::string bytes, const LoadOptions& options) {
  try {
    Bytes buffer(std::move(bytes));
    std::istream stream(&buffer);
    return finishLoading(jit::load(stream, options.device), options);
  } catch (...) {
    throw loadError("the given bytes", std::current_exception());
  }
}

}  // namespace lta
