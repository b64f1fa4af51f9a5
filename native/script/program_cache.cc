#include "script/program_cache.h"

#include <torch/csrc/jit/ir/constants.h>

#include <utility>

#include "script/freezing.h"
#include "script/layer_fusion.h"
#include "script/loop_checks.h"
#include "script/one_type.h"
#include "script/scalar_tensors.h"
#include "script/self_containing.h"

namespace lta::script {
namespace {

std::string keyOf(const std::string& method, const ProgramOptions& options) {
  std::string key = method;  // an identifier
  if (options.inlining.boundaries) key += " boundaries";
  if (options.inlining.unfused) key += " unfused";
  if (options.frozen) key += " frozen";
  if (options.layers) key += " layers";
  if (options.fused) key += " fused";
  return key;
}

void collectConstants(torch::jit::Block& block, std::vector<at::Tensor>& into) {
  for (auto* node : block.nodes()) {
    for (auto* inner : node->blocks()) collectConstants(*inner, into);
    if (node->kind() != torch::jit::prim::Constant || node->outputs().size() != 1) continue;
    if (!node->output()->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto value = torch::jit::toIValue(node->output());
    if (value && value->isTensor() && value->toTensor().dim() > 0) into.push_back(value->toTensor());
  }
}

}  // namespace

ProgramCache::ProgramCache(torch::jit::Module module, std::shared_ptr<const ModuleNames> names,
                           std::optional<at::ScalarType> dtype)
    : module_(std::move(module)), names_(std::move(names)), dtype_(dtype) {}

std::shared_ptr<const Program> ProgramCache::program(const std::string& method, const ProgramOptions& options) {
  const auto key = keyOf(method, options);
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& slot = programs_[key];
  if (slot) return slot;
  const auto found = module_.get_method(method);
  const auto compiled = std::make_shared<Program>();
  compiled->method = inlineWithNames(module_, found, *names_, options.inlining);
  auto& graph = compiled->method.graph;
  refuseSelfContainingLists(*graph);
  if (dtype_) unifyOperandTypes(*graph, *dtype_);
  makeNumbers(graph);
  if (options.frozen) freezeGraph(graph, module_);
  if (options.layers) fuseLayers(graph);
  addLoopChecks(graph);
  if (hasCalls(*graph)) checkLoopsOfCallees();
  compiled->assigns = assigns(*graph);
  collectConstants(*graph->block(), compiled->constants);
  compiled->function = std::make_unique<torch::jit::GraphFunction>(found.function().qualname(), graph, nullptr);
  slot = compiled;
  return slot;
}

void ProgramCache::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  programs_.clear();
}

// Calls that weren't inlined (through interfaces whose module may change) run the callees' own graphs, which need
// checks too, before they first run.
void ProgramCache::checkLoopsOfCallees() {
  if (std::exchange(calleesChecked_, true)) return;
  for (auto* function : module_._ivalue()->compilation_unit()->get_functions()) {
    auto* graph = torch::jit::tryToGraphFunction(*function);
    if (!graph) continue;
    graph->ensure_defined();
    addLoopChecks(graph->graph());
  }
}

}  // namespace lta::script
