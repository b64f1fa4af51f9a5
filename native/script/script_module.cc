#include "script/script_module.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>

#include <algorithm>
#include <functional>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "capture/capture.h"
#include "hooks/backward_state.h"
#include "hooks/hook_run.h"
#include "runtime/error.h"
#include "runtime/executor.h"
#include "runtime/run_scope.h"
#include "script/fusion.h"
#include "torch/error_text.h"
#include "torch/own_computation.h"
#include "torch/thread_state.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// The unqualified class name: "__torch__.torch.nn.modules.linear.___torch_mangle_3.Linear" → "Linear".
std::string shortTypeName(const jit::Module& module) {
  const auto name = module.type()->name();
  return name ? name->name() : module.type()->str();
}

// Runs forked tasks on the executor, whose threads yield their slot while they wait: libtorch's pool has a fixed size,
// and hooks that wait for a model that forks in turn could exhaust it.
void launchForked(std::function<void()> task) {
  Executor::instance().submit(
      [task = std::move(task), state = ThreadState()] {
        const ThreadStateScope scope(state);
        try {
          task();
        } catch (...) {  // the task's future has the error
        }
      },
      Executor::Kind::Urgent);
}

// Runs a forked task at once, on the thread that forks it.
void runForked(std::function<void()> task) { task(); }

void collectState(const jit::Module& module, const std::string& prefix, std::vector<engine::NamedTensor>& into) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    into.push_back({prefix + parameter.name, parameter.value});
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    if (buffer.value.defined()) into.push_back({prefix + buffer.name, buffer.value});
  }
  for (const auto& child : module.named_children()) collectState(child.value, prefix + child.name + ".", into);
}

// Sets whether the calling thread's executors optimize, while one lives.
class OptimizeGuard {
 public:
  explicit OptimizeGuard(bool on) : before_(jit::getGraphExecutorOptimize()) { jit::setGraphExecutorOptimize(on); }
  ~OptimizeGuard() { jit::setGraphExecutorOptimize(before_); }
  OptimizeGuard(const OptimizeGuard&) = delete;
  OptimizeGuard& operator=(const OptimizeGuard&) = delete;

 private:
  const bool before_;
};

// The calling thread computes alone while one lives.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { set(1); }
  ~OneThread() { set(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  static void set(int count) {
    if (at::get_num_threads() != count) at::set_num_threads(count);
  }
  const int before_;
};

// Libtorch compiles in the first runs of a program. Its passes compare the constants two by two, of frozen programs
// each weight with each other of its shape, on all threads: where cores are busy, they wait for one another thousands
// of times.
void compileAlone(const Program& program, jit::Stack& stack) {
  constexpr int kCompiling = 4;
  const bool compiled = program.runs.load(std::memory_order_relaxed) >= kCompiling;
  if (compiled || stack.size() < program.method.graph->inputs().size()) return;
  ++program.runs;
  const OneThread alone;
  const ProbeSuspended folding;  // what is folded isn't what a capture watches
  program.function->get_executor().getPlanFor(stack);
}

// For each fusible layer, whether a hook sits below it.
std::vector<bool> hookedLayers(const std::vector<std::string>& layers, const HookSet& hooks) {
  std::vector<bool> hooked;
  for (const auto& layer : layers) {
    hooked.push_back(std::any_of(hooks.begin(), hooks.end(), [&](const auto& entry) {
      const auto& module = entry.first;
      return !module.empty() && (layer.empty() || module.rfind(layer + ".", 0) == 0);
    }));
  }
  return hooked;
}

// Returns run(), or otherwise() if libtorch throws, which may rethrow. Our own errors, those of hooks and cancellations
// propagate.
template <typename Run, typename Otherwise>
std::invoke_result_t<Run> onLibtorchError(Run run, Otherwise otherwise) {
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

// Adds advice to type errors: the program may cast to, or create tensors of, the type it was exported with.
c10::IValue explainingDtype(const std::function<c10::IValue()>& run) {
  return onLibtorchError(run, []() -> c10::IValue {
    const auto cause = describe(std::current_exception(), "ERR_MODEL_RUN");
    const std::string what = cause.what();
    if (!mentionsType(what)) throw;
    throw Error(cause.code(),
                what +
                    ". The checkpoint was loaded with another `dtype`, which converts its parameters, buffers and "
                    "constants; its program casts to, or makes tensors of, the type that it was exported with: "
                    "export it in the other type, or load it without `dtype`",
                cause.nativeStack());
  });
}

}  // namespace

ScriptModule::ScriptModule(jit::Module module, const Options& options)
    : module_(std::move(module)), devices_(module_), options_(options), named_(namedModules(module_)) {
  devices_.place(options.device);
  std::unordered_set<const void*> seen;
  auto owners = std::make_shared<engine::ParameterOwners>();
  for (const auto& [moduleName, module] : named_) {
    for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
      if (!seen.insert(parameter.value.unsafeGetTensorImpl()).second) continue;
      owners->emplace(parameter.value.unsafeGetTensorImpl(), moduleName);
      parameters_.push_back({moduleName.empty() ? parameter.name : moduleName + "." + parameter.name, parameter.value});
    }
  }
  owners_ = std::move(owners);
  resolver_ = std::make_shared<Resolver>(owners_);
  programs_ =
      std::make_unique<ProgramCache>(module_, std::make_shared<ModuleNames>(moduleNames(named_)), options.dtype);
  readState();
}

std::vector<std::string> ScriptModule::methods() const {
  std::vector<std::string> names;
  for (const auto& method : module_.get_methods()) names.push_back(method.name());
  return names;
}

const c10::FunctionSchema* ScriptModule::schema(const std::string& method) const {
  const auto found = module_.find_method(method);
  if (found) return &found->function().getSchema();
  std::string known;
  for (const auto& name : methods()) known += (known.empty() ? "" : ", ") + name;
  throw Error("ERR_INVALID_ARGUMENT",
              "Expected one of the checkpoint's methods (" + known + ") for method but received '" + method + "'");
}

std::vector<engine::ModuleInfo> ScriptModule::modules() const {
  std::vector<engine::ModuleInfo> infos;
  for (const auto& entry : named_) infos.push_back({entry.name, shortTypeName(entry.module)});
  return infos;
}

std::vector<engine::NamedTensor> ScriptModule::stateDict() const {
  const std::lock_guard<std::mutex> lock(stateMutex_);
  return state_;
}

// Reads parameters and buffers anew: a method may have assigned others.
void ScriptModule::readState() {
  std::vector<engine::NamedTensor> state;
  collectState(module_, "", state);
  const std::lock_guard<std::mutex> lock(stateMutex_);
  state_ = std::move(state);
}

std::vector<at::Tensor> ScriptModule::movableTensors() const {
  std::vector<at::Tensor> tensors;
  for (const auto& parameter : module_.parameters()) tensors.push_back(parameter);
  for (const auto& buffer : module_.buffers()) tensors.push_back(buffer);
  return tensors;
}

void ScriptModule::onMoved(c10::Device device) {
  resolver_ = std::make_shared<Resolver>(owners_);  // the parameters' storages changed
  const bool named = devices_.place(device);
  if (named || options_.optimize) programs_->clear();  // their constants are on the old device
}

c10::IValue ScriptModule::execute(engine::Inputs inputs, const engine::RunOptions& options,
                                  const engine::Snapshot& snapshot, bool captureGradients) {
  const auto run = [&] { return runProgram(std::move(inputs.positional), options, snapshot.hooks, captureGradients); };
  return options_.dtype ? explainingDtype(run) : run();
}

// Cancellation is checked before operators and on back edges (see run_scope.h, loop_checks.h). Gradients of attention
// need layers to avoid fused paths, which aren't differentiable, and the optimizer off: it would move operators into
// differentiable subgraphs, where the probe can't see them.
c10::IValue ScriptModule::runProgram(std::vector<c10::IValue> inputs, const engine::RunOptions& options,
                                     const std::shared_ptr<const HookSet>& hooks, bool captureGradients) {
  if (options.cancellation) options.cancellation->check();
  const bool recordsGrad = options.grad || captureGradients;
  const c10::AutoGradMode grad(recordsGrad);
  const OptimizeGuard optimizing(!captureGradients);
  ProgramOptions wanted;
  wanted.inlining.unfused = captureGradients;
  wanted.inlining.boundaries = hooks != nullptr;
  wanted.frozen = options_.optimize && !recordsGrad;
  wanted.fused = options_.fuse && wanted.frozen;
  // Hooks and those who look at single operators see the modules and operators of the file; oneDNN fuses those itself.
  wanted.layers = wanted.frozen && !wanted.fused && !hooks && !RunScope::isObserved();
  const FusionScope fusion(wanted.fused);
  const auto program = [&] {
    const ProbeSuspended folding;  // what is folded isn't what a capture watches
    return programs_->program(options.method, wanted);
  }();
  if (auto* const capture = runLocal<Capture>(kCaptureSlot)) {
    for (const auto& constant : program->constants) capture->fixedTensors().add(constant);
    const std::lock_guard<std::mutex> lock(stateMutex_);
    for (const auto& [name, tensor] : state_) capture->fixedTensors().add(tensor);
  }
  if (!hooks) return call(*program, inputs, options.blocking);

  // Shares ownership of the program: forked tasks that nobody awaits may outlive the cache's entry.
  const std::shared_ptr<const std::vector<ModuleCall>> calls(program, &program->method.calls);
  const auto run = std::make_shared<HookRun>(hooks, options.cancellation, calls);
  run->forbidFusing(hookedLayers(program->method.fusedLayers, *hooks));
  const HookScope scope(run);
  try {
    // The root is a module like any other, called here.
    const auto rootModuleCall = rootCall(options.method);
    if (!rootModuleCall) return call(*program, inputs, options.blocking);
    c10::intrusive_ptr<BackwardState> state;
    inputs = run->enter(*rootModuleCall, std::move(inputs), state);
    return run->leave(*rootModuleCall, inputs, state, call(*program, inputs, options.blocking));
  } catch (...) {
    if (const auto failure = run->failure()) std::rethrow_exception(failure);
    throw;
  }
}

std::optional<ModuleCall> ScriptModule::rootCall(const std::string& method) const {
  if (method != "forward") return std::nullopt;
  const auto& schema = *this->schema(method);
  ModuleCall rootModuleCall{"", shortTypeName(module_), {}, schema.returns().at(0).type()};
  for (size_t i = 1; i < schema.arguments().size(); ++i)
    rootModuleCall.inputTypes.push_back(schema.arguments()[i].type());
  return rootModuleCall;
}

c10::IValue ScriptModule::call(const Program& program, const std::vector<c10::IValue>& inputs, bool blocking) {
  if (!program.assigns) return interpret(program, inputs, blocking);
  auto output = interpret(program, inputs, blocking);
  readState();
  return output;
}

c10::IValue ScriptModule::interpret(const Program& program, const std::vector<c10::IValue>& inputs, bool blocking) {
  jit::Stack stack;
  stack.reserve(inputs.size() + 1);
  stack.emplace_back(module_._ivalue());
  stack.insert(stack.end(), inputs.begin(), inputs.end());
  compileAlone(program, stack);
  const auto* hooks = HookRun::current();
  const bool hooked = hooks && hooks->hasHooks();
  if (!program.method.forks || !(hooked || blocking)) {
    program.function->run(stack);
    return std::move(stack.front());
  }
  const auto future = program.function->runAsync(stack, blocking ? runForked : launchForked);
  if (!future->completed()) {
    const Executor::Waiting waiting;
    future->wait();
  }
  if (future->hasError()) std::rethrow_exception(future->exception_ptr());
  return future->value();
}

}  // namespace lta::script
