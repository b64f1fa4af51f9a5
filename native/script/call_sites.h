#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "hooks/hook.h"

namespace lta::script {

// A module of a checkpoint under the name that Python's named_modules() gives it: dotted, '' for the checkpoint itself,
// the first name where several lead to one object.
struct NamedModule {
  std::string name;
  torch::jit::Module module;
};

std::vector<NamedModule> namedModules(const torch::jit::Module& root);

// Module names by object: one class serves many modules, so types never tell them apart.
using ModuleNames = std::unordered_map<const c10::ivalue::Object*, std::string>;

ModuleNames moduleNames(const std::vector<NamedModule>& modules);

// A method's graph, ready to run, and what its operators refer to.
struct InlinedMethod {
  std::shared_ptr<torch::jit::Graph> graph;
  std::vector<ModuleCall> calls;         // what the operators of module_boundaries.h refer to by number
  std::vector<std::string> fusedLayers;  // modules that ask whether they may take a fused fast path, by number
  bool forks = false;                    // whether it starts tasks that run beside it
};

// The graph of `method` with all calls of modules and functions inlined, as libtorch's own inliner does before it runs
// a graph, but call by call, so that every inlined node carries the dotted name of the module it came from (in the
// call stack that libtorch keeps for error messages). Without boundaries nothing is added to the graph: what is
// optimized and run is what libtorch would run. With boundaries, every module call gets an `enter` before it and a
// `leave` after it, and modules ask the run whether they may take their fused fast path: where a hook sits below one,
// it may not, so that the modules below it are called. `unfused` tells all of them no, for good.
struct InlineOptions {
  bool boundaries = false;
  bool unfused = false;
};

InlinedMethod inlineWithNames(const torch::jit::Module& root, const torch::jit::Method& method,
                              const ModuleNames& names, const InlineOptions& options);

// Name of the module that the node being run by the calling thread's interpreter came from.
std::string currentModuleName();

}  // namespace lta::script
