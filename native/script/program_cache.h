#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "script/call_sites.h"

namespace lta::script {

// A method's graph as it is run, with what its operators refer to.
struct Program {
  InlinedMethod method;
  std::unique_ptr<torch::jit::GraphFunction> function;
  bool assigns = false;               // it may put other tensors in place of buffers
  std::vector<at::Tensor> constants;  // tensors in the graph that no input changes: a frozen file's parameters
};

struct ProgramOptions {
  InlineOptions inlining;
  bool frozen = false;  // parameters are constants, and folded
  bool fused = false;   // oneDNN's pass takes the graph as well
};

// The programs of a checkpoint. Each graph is compiled once: plain runs and captures run the same one, so that a
// capture neither compiles anything again nor can change a bit of the output, and the same goes for what may have to
// stop; runs with hooks run one with boundaries. Safe to use from several threads at once.
class ProgramCache {
 public:
  // `dtype`: the type that the checkpoint was cast to, if it was.
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
