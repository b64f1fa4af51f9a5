// Inlines a method's calls and records which module each node came from. Changes no semantics: without options the
// graph is what libtorch would run.
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "hooks/hook.h"

namespace lta::script {

// A module under its name in Python's named_modules(): dotted, '' for the root, the first name for an object with
// several.
struct NamedModule {
  std::string name;
  torch::jit::Module module;
};

std::vector<NamedModule> namedModules(const torch::jit::Module& root);

// By object: several modules may share one class.
using ModuleNames = std::unordered_map<const c10::ivalue::Object*, std::string>;

ModuleNames moduleNames(const std::vector<NamedModule>& modules);

// An inlined graph and what its operators refer to by index.
struct InlinedMethod {
  std::shared_ptr<torch::jit::Graph> graph;
  std::vector<ModuleCall> calls;         // for the operators of module_boundaries.h
  std::vector<std::string> fusedLayers;  // modules with a fused fast path, for lta::may_fuse
  bool forks = false;                    // whether it contains prim::fork
};

// Inlines all calls of `method` as libtorch's own inliner does, but call by call, so that each node's call stack (kept
// by libtorch for error messages) has the dotted name of its module. Without boundaries nothing is added to the graph.
// `boundaries` puts `enter` before and `leave` after every module call and makes modules ask the run whether they may
// take their fused fast path: not if a hook sits below them, since that path doesn't call the modules below. `unfused`
// disables the fast paths for good.
struct InlineOptions {
  bool boundaries = false;
  bool unfused = false;
};

InlinedMethod inlineWithNames(const torch::jit::Module& root, const torch::jit::Method& method,
                              const ModuleNames& names, const InlineOptions& options);

// The module of the node that the calling thread's interpreter is executing.
std::string currentModuleName();

}  // namespace lta::script
