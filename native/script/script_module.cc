#include "script/script_module.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <unordered_set>

#include "archive/byte_source.h"
#include "capture/probe.h"
#include "hooks/backward_state.h"
#include "hooks/hook_run.h"
#include "runtime/executor.h"
#include "runtime/patient_lock.h"
#include "runtime/run_scope.h"
#include "script/call_sites.h"
#include "script/checkpoint.h"
#include "script/loop_checks.h"
#include "script/one_type.h"
#include "script/optimizer.h"
#include "script/self_containing.h"
#include "torch/error_text.h"
#include "torch/thread_state.h"

namespace lta {
namespace {

namespace jit = torch::jit;

// The last part of a class's qualified name: "__torch__.torch.nn.modules.linear.___torch_mangle_3.Linear" → "Linear".
std::string shortTypeName(const jit::Module& module) {
  const auto name = module.type()->name();
  return name ? name->name() : module.type()->str();
}

// Runs what a model forks on threads of ours, which make place for others while they wait: libtorch's own are a fixed
// number, and hooks may hold them all while they wait for a model that forks in turn.
void launchForked(std::function<void()> task) {
  Executor::instance().submit(
      [task = std::move(task), state = ThreadState()] {
        const ThreadStateScope scope(state);
        try {
          task();
        } catch (...) {  // what failed is told by the task's future
        }
      },
      Executor::Kind::Urgent);
}

void collectState(const jit::Module& module, const std::string& prefix, std::vector<ParameterInfo>& into) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    into.push_back({prefix + parameter.name, parameter.value});
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    if (buffer.value.defined()) into.push_back({prefix + buffer.name, buffer.value});
  }
  for (const auto& child : module.named_children()) collectState(child.value, prefix + child.name + ".", into);
}

// Whether the calling thread's executors optimize, for as long as one lives.
class Optimizing {
 public:
  explicit Optimizing(bool on) : before_(jit::getGraphExecutorOptimize()) { jit::setGraphExecutorOptimize(on); }
  ~Optimizing() { jit::setGraphExecutorOptimize(before_); }
  Optimizing(const Optimizing&) = delete;
  Optimizing& operator=(const Optimizing&) = delete;

 private:
  const bool before_;
};

class Loaded final : public ScriptModule {
 public:
  Loaded(jit::Module module, const LoadOptions& options)
      : module_(std::move(module)),
        optimize_(options.optimize),
        fuse_(options.optimize && options.fuse.value_or(script::fusionPays())),
        dtype_(options.dtype) {
    named_ = script::namedModules(module_);
    names_ = std::make_shared<script::ModuleNames>(script::moduleNames(named_));
    std::unordered_set<const void*> seen;
    auto owners = std::make_shared<Owners>();
    for (const auto& [moduleName, module] : named_) {
      for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
        if (!seen.insert(parameter.value.unsafeGetTensorImpl()).second) continue;
        owners->emplace(parameter.value.unsafeGetTensorImpl(), moduleName);
        parameters_.push_back(
            {moduleName.empty() ? parameter.name : moduleName + "." + parameter.name, parameter.value});
      }
    }
    owners_ = std::move(owners);
    resolver_ = std::make_shared<Resolver>(owners_);
    readState();
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

  std::vector<ParameterInfo> parameters() const override { return parameters_; }

  std::vector<ParameterInfo> stateDict() const override {
    const std::lock_guard<std::mutex> lock(reading_);
    return state_;
  }

  c10::IValue run(std::vector<c10::IValue> inputs, const RunOptions& options) override {
    const auto lock = patientLock<std::shared_lock<std::shared_mutex>>(moving_);
    return namingDtype([&] { return runLocked(inputs, options, Purpose::Run); });
  }

  CaptureResult capture(std::vector<c10::IValue> inputs, const RunOptions& run,
                        const CaptureOptions& options) override {
    const auto lock = patientLock<std::shared_lock<std::shared_mutex>>(moving_);
    return namingDtype([&] { return captureLocked(inputs, run, options); });
  }

  void to(c10::Device device, const Exchange& exchange) override {
    const auto lock = patientLock<std::unique_lock<std::shared_mutex>>(moving_);
    std::vector<std::pair<at::Tensor, at::Tensor>> moved;
    for (const auto& parameter : module_.parameters()) moved.emplace_back(parameter, parameter.to(device));
    for (const auto& buffer : module_.buffers()) moved.emplace_back(buffer, buffer.to(device));
    exchange([&] {
      for (auto& [tensor, data] : moved) tensor.set_data(data);
    });
    resolver_ = std::make_shared<Resolver>(owners_);  // parameters have other storages now
    // Their constants stay where they were.
    std::lock_guard<std::mutex> compiling(compiling_);
    if (optimize_) programs_.clear();
  }

  void addHook(const std::string& module, HookPtr hook) override {
    for (const auto& entry : named_) {
      if (entry.name == module) return hooks_.add(module, std::move(hook));
    }
    throw Error("ERR_UNKNOWN_MODULE", "Expected the name of a module of this checkpoint but received '" + module + "'");
  }

  void removeHook(const std::string& module, const HookPtr& hook) override { hooks_.remove(module, hook); }
  std::shared_ptr<const HookSet> hooks() const override { return hooks_.snapshot(); }
  const std::shared_ptr<Activity>& activity() const override { return activity_; }

 private:
  using Owners = std::unordered_map<const c10::TensorImpl*, std::string>;

  class Resolver final : public ModuleResolver {
   public:
    explicit Resolver(std::shared_ptr<const Owners> owners) : owners_(std::move(owners)) {
      for (const auto& [parameter, owner] : *owners_) {
        if (parameter->has_storage()) storages_.insert(parameter->storage().unsafeGetStorageImpl());
      }
    }
    std::string current() const override { return script::currentModuleName(); }
    std::string ownerOf(const at::Tensor& parameter) const override {
      const auto found = owners_->find(parameter.unsafeGetTensorImpl());
      return found == owners_->end() ? std::string() : found->second;
    }
    bool isParameter(const at::Tensor& tensor) const override {
      return tensor.has_storage() && storages_.count(tensor.storage().unsafeGetStorageImpl()) != 0;
    }

   private:
    std::shared_ptr<const Owners> owners_;
    std::unordered_set<const c10::StorageImpl*> storages_;
  };

  // A method's graph as it is run, with what its operators refer to.
  struct Program {
    script::InlinedMethod method;
    std::unique_ptr<jit::GraphFunction> function;
    bool assigns = false;  // it may put other tensors in place of buffers
  };

  // Each graph is compiled once. Plain runs and captures run the same one, so that a capture neither compiles anything
  // again nor can change a bit of the output, and the same goes for what may have to stop; runs with hooks run one with
  // boundaries.
  std::shared_ptr<const Program> program(const std::string& method, const script::InlineOptions& options,
                                         bool frozen = false, bool fused = false) {
    std::string key = method;
    if (options.boundaries) key += '\n';
    if (frozen) key += '\t';
    if (fused) key += '\v';
    if (options.unfused) key += '\f';
    std::lock_guard<std::mutex> lock(compiling_);
    auto& slot = programs_[key];
    if (!slot) {
      const auto found = module_.get_method(method);
      const auto made = std::make_shared<Program>();
      made->method = script::inlineWithNames(module_, found, *names_, options);
      auto& graph = made->method.graph;
      script::refuseListsInThemselves(*graph);
      if (dtype_) script::demandOneType(*graph, *dtype_);
      if (frozen) script::freezeGraph(graph, module_);
      script::addLoopChecks(graph);
      if (script::hasCalls(*graph)) checkLoopsOfCallees();
      made->assigns = script::assigns(*graph);
      made->function = std::make_unique<jit::GraphFunction>(found.function().qualname(), graph, nullptr);
      slot = made;
    }
    return slot;
  }

  // Parameters and buffers as they are now: a method may assign others.
  void readState() {
    std::vector<ParameterInfo> state;
    collectState(module_, "", state);
    const std::lock_guard<std::mutex> lock(reading_);
    state_ = std::move(state);
  }

  // What stays a call (through an interface whose module may change) runs the callee's own graph, and whatever that
  // calls: with checks in its loops as well. Before any of them has run.
  void checkLoopsOfCallees() {
    if (std::exchange(calleesChecked_, true)) return;
    for (auto* function : module_._ivalue()->compilation_unit()->get_functions()) {
      auto* graph = jit::tryToGraphFunction(*function);
      if (!graph) continue;
      graph->ensure_defined();
      script::addLoopChecks(graph->graph());
    }
  }

  // Of the layers that ask for a fused fast path, those that have a hook below them.
  static std::vector<bool> hookedLayers(const std::vector<std::string>& layers, const HookSet& hooks) {
    std::vector<bool> hooked;
    for (const auto& layer : layers) {
      hooked.push_back(std::any_of(hooks.begin(), hooks.end(), [&](const auto& entry) {
        const auto& module = entry.first;
        return !module.empty() && (layer.empty() || module.rfind(layer + ".", 0) == 0);
      }));
    }
    return hooked;
  }

  c10::IValue call(const Program& program, const std::vector<c10::IValue>& inputs) {
    if (!program.assigns) return callProgram(program, inputs);
    auto output = callProgram(program, inputs);
    readState();
    return output;
  }

  c10::IValue callProgram(const Program& program, const std::vector<c10::IValue>& inputs) {
    jit::Stack stack;
    stack.reserve(inputs.size() + 1);
    stack.emplace_back(module_._ivalue());
    stack.insert(stack.end(), inputs.begin(), inputs.end());
    const auto* hooks = HookRun::current();
    if (!program.method.forks || !hooks || !hooks->hasHooks()) {
      program.function->run(stack);
      return std::move(stack.front());
    }
    const auto future = program.function->runAsync(stack, launchForked);
    if (!future->completed()) {
      const Executor::Waiting waiting;
      future->wait();
    }
    if (future->hasError()) std::rethrow_exception(future->exception_ptr());
    return future->value();
  }

  enum class Purpose { Run, Capture, Gradients };

  // Runs; where libtorch fails, what `otherwise` gives, which may throw the failure on. What is thrown otherwise is
  // ours, a hook's, or a run that was cancelled.
  template <typename Run, typename Otherwise>
  static std::invoke_result_t<Run> orWhereLibtorchFails(Run run, Otherwise otherwise) {
    try {
      return run();
    } catch (const Error&) {
      throw;
    } catch (const Cancelled&) {
      throw;
    } catch (const std::exception&) {
      const auto* const stoppable = Cancellation::current();
      if (stoppable && stoppable->stopped()) throw;
      return otherwise();
    }
  }

  // A program that was exported in one type may make tensors of it, and cast to it, wherever it likes.
  template <typename Run>
  std::invoke_result_t<Run> namingDtype(Run run) {
    if (!dtype_) return run();
    return orWhereLibtorchFails(run, []() -> std::invoke_result_t<Run> {
      const auto cause = describe(std::current_exception(), "ERR_MODEL_RUN");
      const std::string what = cause.what();
      if (!tellsOfType(what)) throw;
      throw Error(cause.code(),
                  what +
                      ". The checkpoint was loaded with another `dtype`, which converts its parameters, buffers and "
                      "constants; its program casts to, or makes tensors of, the type that it was exported with: "
                      "export it in the other type, or load it without `dtype`",
                  cause.nativeStack());
    });
  }

  // A run that is to stop does so at the next operator or round of a loop (see run_scope.h, loop_checks.h). For
  // gradients of attention no layer may take a fused path that has none, and the optimizer may not gather operators
  // into subgraphs that differentiate themselves: nothing in those can be watched.
  c10::IValue runLocked(std::vector<c10::IValue> inputs, const RunOptions& options, Purpose purpose) {
    if (options.cancellation) options.cancellation->check();
    const bool records = options.grad || purpose == Purpose::Gradients;
    const c10::AutoGradMode grad(records);
    const Optimizing optimizing(purpose != Purpose::Gradients);
    const auto hooks = options.hooks ? *options.hooks : hooks_.snapshot();
    script::InlineOptions inlining;
    inlining.unfused = purpose == Purpose::Gradients;
    inlining.boundaries = hooks != nullptr;
    const bool frozen = optimize_ && !records;
    const bool fused = fuse_ && frozen;
    const script::FusionScope fusion(fused);
    const auto instrumented = program(options.method, inlining, frozen, fused);
    if (!inlining.boundaries) return call(*instrumented, inputs);

    // Tasks that the model forked and nobody awaits may go on when this program is gone.
    const std::shared_ptr<const std::vector<ModuleCall>> calls(instrumented, &instrumented->method.calls);
    const auto run = std::make_shared<HookRun>(hooks, options.cancellation, calls);
    if (hooks) run->forbidFusing(hookedLayers(instrumented->method.fusedLayers, *hooks));
    const HookScope scope(run);
    try {
      // The model itself is a module like any other; its call is this one.
      const auto itself = rootCall(options.method);
      if (!itself) return call(*instrumented, inputs);
      c10::intrusive_ptr<BackwardState> state;
      inputs = run->enter(*itself, std::move(inputs), state);
      return run->leave(*itself, inputs, state, call(*instrumented, inputs));
    } catch (...) {
      if (const auto failure = run->failure()) std::rethrow_exception(failure);
      throw;
    }
  }

  std::optional<ModuleCall> rootCall(const std::string& method) const {
    if (method != "forward") return std::nullopt;
    const auto& schema = this->schema(method);
    ModuleCall itself{"", shortTypeName(module_), {}, schema.returns().at(0).type()};
    for (size_t i = 1; i < schema.arguments().size(); ++i) itself.inputTypes.push_back(schema.arguments()[i].type());
    return itself;
  }

  CaptureResult captureLocked(const std::vector<c10::IValue>& inputs, RunOptions run, CaptureOptions options) {
    if (!run.hooks) run.hooks = hooks_.snapshot();
    options.hooked = *run.hooks != nullptr;
    auto watching = std::make_shared<Capture>(options, resolver_, run.cancellation);
    CaptureResult result;
    {
      ProbeScope probe(watching);
      try {
        result.output = runLocked(inputs, run, options.gradients ? Purpose::Gradients : Purpose::Capture);
      } catch (...) {
        if (const auto failure = watching->failure()) std::rethrow_exception(failure);
        throw;
      }
    }
    result.attentions = watching->finish();
    result.capture = std::move(watching);
    return result;
  }

  jit::Module module_;
  const bool optimize_;
  const bool fuse_;
  const std::optional<at::ScalarType> dtype_;
  std::vector<script::NamedModule> named_;
  std::shared_ptr<script::ModuleNames> names_;
  std::vector<ParameterInfo> parameters_;
  std::shared_ptr<const Owners> owners_;
  mutable std::mutex reading_;
  std::vector<ParameterInfo> state_;  // as of the last run that was over
  std::shared_ptr<const Resolver> resolver_;
  mutable std::shared_mutex moving_;  // runs share it, moving the parameters to another device excludes them
  std::mutex compiling_;
  std::unordered_map<std::string, std::shared_ptr<const Program>> programs_;
  bool calleesChecked_ = false;
  HookRegistry hooks_;
  const std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
};

// What kept an archive from loading, in words that say what to do.
Error loadError(const std::string& source, std::exception_ptr exception) {
  const Error cause = describe(std::move(exception), "ERR_MODEL_LOAD");
  const std::string what = cause.what();
  std::string reason = what;
  if (tellsOfUnknownOperator(what)) {
    reason = what + ". The checkpoint uses an operator that this libtorch doesn't have (a custom operator?)";
  }
  return Error(cause.code(), "Cannot load " + source + ": " + reason,
               cause.nativeStack().empty() ? what : cause.nativeStack());
}

// What isn't floating point keeps its type, as in Python: positions and masks are looked up with it.
void castFloatingPoint(const jit::Module& module, at::ScalarType dtype) {
  const auto cast = [dtype](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.is_floating_point()) tensor.set_data(tensor.to(dtype));
  };
  for (const auto& parameter : module.parameters()) cast(parameter);
  for (const auto& buffer : module.buffers()) cast(buffer);
  // A frozen file has its parameters as constants. Single numbers decide no operator's type and keep theirs.
  const std::function<void(jit::Block&)> castConstants = [&](jit::Block& block) {
    for (auto* node : block.nodes()) {
      for (auto* inner : node->blocks()) castConstants(*inner);
      if (node->kind() != jit::prim::Constant || node->outputs().size() != 1) continue;
      const auto value = jit::toIValue(node->output());
      if (!value || !value->isTensor() || value->toTensor().dim() == 0) continue;
      cast(value->toTensor());
      node->output()->inferTypeFrom(value->toTensor());
    }
  };
  for (const auto& each : module.modules()) {
    for (const auto& method : each.get_methods()) castConstants(*method.graph()->block());
  }
}

template <typename Open>
std::shared_ptr<ScriptModule> loadFrom(const std::string& source, const LoadOptions& options, Open open) {
  try {
    auto module = script::readCheckpoint(open(), {options.device, options.untrusted, options.verify});
    module.eval();
    if (options.dtype) castFloatingPoint(module, *options.dtype);
    return std::make_shared<Loaded>(std::move(module), options);
  } catch (...) {
    throw loadError(source, std::current_exception());
  }
}

}  // namespace

std::shared_ptr<ScriptModule> ScriptModule::loadFile(const std::string& path, const LoadOptions& options) {
  return loadFrom("'" + path + "'", options, [&] { return archive::openFile(path); });
}

std::shared_ptr<ScriptModule> ScriptModule::loadBytes(std::string bytes, const LoadOptions& options) {
  return loadFrom("the given bytes", options, [&] { return archive::ofMemory(std::move(bytes)); });
}

}  // namespace lta
