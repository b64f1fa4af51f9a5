// Compiles each method once for each set of options.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "script/call_sites.h"

namespace lta::script {

// An executable graph and what its operators refer to.
struct Program {
  InlinedMethod method;
  std::unique_ptr<torch::jit::GraphFunction> function;
  bool assigns = false;               // it may put other tensors in place of buffers
  std::vector<at::Tensor> constants;  // tensors in the graph that no input changes: a frozen file's parameters
  mutable std::atomic<int> runs{0};   // so far, at least while libtorch still compiles
};

struct ProgramOptions {
  InlineOptions inlining;
  bool frozen = false;  // parameters are folded constants
  bool layers = false;  // frozen, and layers are single operators (layer_fusion.h)
  bool fused = false;   // optimized by oneDNN as well
};

// The programs of a checkpoint. Plain, limited and captured runs share one, so that a capture recompiles nothing and
// stays bit-identical; runs with hooks use one with boundaries. Thread-safe.
class ProgramCache {
 public:
  // `dtype`: the type that the checkpoint was cast to, if any.
  ProgramCache(torch::jit::Module module, std::shared_ptr<const ModuleNames> names,
               std::optional<at::ScalarType> dtype);

  std::shared_ptr<const Program> program(const std::string& method, const ProgramOptions& options);
  void clear();

 private:
  void checkLoopsOfCallees();

  torch::jit::Module module_;
  const std::shared_ptr<const ModuleNames> names_;
  const std::optional<at::ScalarType> dtype_;
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Program>> programs_;
  bool calleesChecked_ = false;
};

}  // namespace lta::script
