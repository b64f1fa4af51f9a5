#include "exported/exported_program.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

#include "capture/capture.h"
#include "exported/layer_fusion.h"
#include "exported/shared_masks.h"
#include "hooks/hook_run.h"
#include "runtime/error.h"
#include "runtime/run_scope.h"

namespace lta::exported {
namespace {

using c10::IValue;

c10::TypePtr typeOf(const Leaf& leaf) {
  switch (leaf.kind) {
    case Leaf::Kind::Tensor:
      return c10::TensorType::get();
    case Leaf::Kind::Integer:
      return c10::IntType::get();
    case Leaf::Kind::Float:
      return c10::FloatType::get();
    case Leaf::Kind::Boolean:
      return c10::BoolType::get();
    case Leaf::Kind::Constant:
      return leaf.constant.type();
  }
  return c10::AnyType::get();
}

c10::FunctionSchema schemaOf(const Signature& signature) {
  // Schemas of methods begin with the model itself.
  std::vector<c10::Argument> arguments{c10::Argument("self", c10::AnyType::get())};
  for (const auto& leaf : signature.inputs()) arguments.emplace_back(leaf.name, typeOf(leaf));
  return {"forward", "", std::move(arguments), {c10::Argument("", c10::AnyType::get())}};
}

bool isDtype(const c10::Argument& argument) {
  auto type = argument.real_type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type->kind() == c10::TypeKind::ScalarTypeType;
}

std::vector<IValue> runHooked(const Graph& graph, Frame frame, std::shared_ptr<const HookSet> hooks,
                              const CancellationPtr& cancellation) {
  const auto run = std::make_shared<HookRun>(std::move(hooks), cancellation);
  const HookScope scope(run);
  try {
    return runGraph(graph, std::move(frame));
  } catch (...) {
    if (const auto failure = run->failure()) std::rethrow_exception(failure);
    throw;
  }
}

}  // namespace

ExportedProgram::ExportedProgram(Program program, const Options& options)
    : program_(std::move(program)), optimize_(options.optimize), schema_(schemaOf(program_.signature)) {
  const c10::NoGradGuard noGrad;
  if (options.dtype) cast(*options.dtype);
  for (auto& weight : program_.weights) {
    auto& tensor = weight.tensor;
    if (tensor.device() != options.device) tensor.set_data(tensor.to(options.device));
  }
  onMoved(options.device);
  auto owners = std::make_shared<engine::ParameterOwners>();
  for (const auto& [name, tensor] : parameters()) owners->emplace(tensor.unsafeGetTensorImpl(), ownerOf(name));
  owners_ = std::move(owners);
  resolver_ = std::make_shared<Resolver>(owners_);
}

// The floating-point types that its weights have become another one. So do, in the graph, casts to them and what is
// made in them; others, as a softmax in float32 of a program in bfloat16, stay.
void ExportedProgram::cast(at::ScalarType dtype) {
  std::vector<at::ScalarType> exchanged;
  for (auto& weight : program_.weights) {
    auto& tensor = weight.tensor;
    const auto type = tensor.scalar_type();
    if (!tensor.is_floating_point() || type == dtype) continue;
    if (std::find(exchanged.begin(), exchanged.end(), type) == exchanged.end()) exchanged.push_back(type);
    tensor.set_data(tensor.to(dtype));
  }
  for (const auto type : exchanged) program_.signature.exchangeDtype(type, dtype);
  eachNode(program_.graph, [&](Node& node) {
    if (!node.handle) return;
    const auto& arguments = node.handle->schema().arguments();
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      auto& argument = node.arguments[i];
      if (argument.kind != Argument::Kind::Constant || !argument.constant.isInt() || !isDtype(arguments[i])) continue;
      for (const auto type : exchanged) {
        if (argument.constant.toInt() != static_cast<int64_t>(type)) continue;
        argument.constant = static_cast<int64_t>(dtype);
        break;
      }
    }
  });
}

std::vector<engine::NamedTensor> ExportedProgram::parameters() const {
  std::vector<engine::NamedTensor> parameters;
  for (const auto& [slot, weight] : program_.bound) {
    if (program_.roles[weight] != WeightRole::Parameter) continue;
    parameters.push_back({program_.weights[weight].name, program_.weights[weight].tensor});
  }
  return parameters;
}

std::vector<engine::NamedTensor> ExportedProgram::stateDict() const {
  std::vector<engine::NamedTensor> state;
  for (size_t i = 0; i < program_.weights.size(); ++i) {
    const auto& weight = program_.weights[i];
    if (program_.roles[i] != WeightRole::Constant) state.push_back({weight.name, weight.tensor});
  }
  return state;
}

const c10::FunctionSchema* ExportedProgram::schema(const std::string& method) const {
  if (method == "forward") return &schema_;
  throw Error("ERR_INVALID_ARGUMENT", "Expected 'forward' for method but received '" + method + "'");
}

std::vector<at::Tensor> ExportedProgram::movableTensors() const {
  std::vector<at::Tensor> tensors;
  for (const auto& weight : program_.weights) tensors.push_back(weight.tensor);
  return tensors;
}

// What the graph makes on the device that the program was exported on is made where the weights are.
void ExportedProgram::onMoved(c10::Device device) {
  eachNode(program_.graph, [&](Node& node) {
    for (auto& argument : node.arguments) {
      if (argument.constant.isDevice()) argument.constant = device;
    }
  });
  const auto kept = slotsOfWeights(program_);
  shared_ = device.is_cpu() ? withSharedMasks(program_.graph, kept) : std::nullopt;
  if (optimize_) {
    fused_ = device.is_cpu() ? std::make_unique<const Graph>(fuseLayers(program_)) : nullptr;
    folded_ = std::make_unique<FoldedProgram>(program_, fused_ ? *fused_ : program_.graph);
    if (folded_->isEmpty()) folded_ = nullptr;
  }
  if (owners_) resolver_ = std::make_shared<Resolver>(owners_);  // the storages are others
  const std::lock_guard<std::mutex> lock(hookedMutex_);
  hooked_ = nullptr;  // it has constants of its own
}

const ModuleHooks* ExportedProgram::hooksOf(const std::string& module) const {
  const auto found = program_.hooks.find(module);
  return found == program_.hooks.end() ? nullptr : &found->second;
}

void ExportedProgram::checkHookPlace(const std::string& place) const {
  const auto node = nodeAt(place);
  if (!node) return Model::checkHookPlace(place);
  const auto all = nodes();
  if (std::none_of(all.begin(), all.end(), [&](const NodeInfo& each) { return each.name == *node; })) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected the name of a node of the graph but received '" + *node + "'");
  }
}

std::shared_ptr<const ExportedProgram::HookedGraph> ExportedProgram::hookedGraph(const HookSet& hooks) {
  std::set<std::string> places;
  for (const auto& [place, each] : hooks) places.insert(place);
  const std::lock_guard<std::mutex> lock(hookedMutex_);
  if (!hooked_ || hooked_->places != places) {
    hooked_ = std::make_shared<const HookedGraph>(HookedGraph{std::move(places), graphWithHooks(program_, hooks)});
  }
  return hooked_;
}

Frame ExportedProgram::frameOfWeights(const Graph& graph) const {
  Frame frame(static_cast<size_t>(graph.slotCount));
  for (const auto& [slot, weight] : program_.bound) frame[static_cast<size_t>(slot)] = program_.weights[weight].tensor;
  for (const int slot : program_.tokens) frame[static_cast<size_t>(slot)] = at::empty({0});
  return frame;
}

IValue ExportedProgram::execute(engine::Inputs inputs, const engine::RunOptions& options,
                                const engine::Snapshot& snapshot, bool captureGradients) {
  if (options.cancellation) options.cancellation->check();
  auto& given = inputs.positional;
  program_.signature.check(given);
  auto* const capture = runLocal<Capture>(kCaptureSlot);
  if (capture) {
    // Buffers and constants depend on no input either.
    for (size_t i = 0; i < program_.weights.size(); ++i) {
      if (program_.roles[i] != WeightRole::Parameter) capture->fixedTensors().add(program_.weights[i].tensor);
    }
  }
  const c10::AutoGradMode grad(options.grad || captureGradients);
  const auto hooked = snapshot.hooks ? hookedGraph(*snapshot.hooks) : nullptr;
  // Those who look at single operators, or record gradients, see those of the file.
  const bool mayFuse = !options.grad && !captureGradients && !hooked && !RunScope::isObserved();
  const auto& graph = hooked                           ? hooked->graph
                      : mayFuse && fused_              ? *fused_
                      : mayFuse && shared_ && !capture ? *shared_
                                                       : program_.graph;
  auto frame = frameOfWeights(graph);
  // A capture sees every operator: weights of attention may be what weights alone decide.
  const bool mayFold = folded_ && mayFuse && !capture;
  const auto folded = mayFold ? folded_->values(frame) : nullptr;
  for (size_t i = 0; i < given.size(); ++i) {
    const int slot = program_.inputs[i];
    if (slot != kNoSlot) frame[static_cast<size_t>(slot)] = given[i];
  }
  auto values = hooked   ? runHooked(graph, std::move(frame), snapshot.hooks, options.cancellation)
                : folded ? folded_->run(*folded, std::move(frame))
                         : runGraph(graph, std::move(frame));
  std::vector<IValue> results;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto& output = program_.outputs[i];
    if (output.kind == Output::Kind::User) {
      results.push_back(std::move(values[i]));
      continue;
    }
    if (output.kind == Output::Kind::Token) continue;
    // A functional program gives the new values of what the model writes into.
    const bool ofWeight = output.kind == Output::Kind::Weight;
    const c10::AutoGradMode recorded(!ofWeight && c10::GradMode::is_enabled());
    const auto target = ofWeight ? program_.weights[output.place].tensor : given[output.place].toTensor();
    target.copy_(values[i].toTensor());
  }
  return c10::ivalue::Tuple::create(std::move(results));
}

}  // namespace lta::exported
