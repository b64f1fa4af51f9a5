#pragma once

#include <ATen/core/function_schema.h>

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/parameter_resolver.h"
#include "exported/constant_folding.h"
#include "exported/hooked_graph.h"
#include "exported/interpreter.h"
#include "exported/program.h"

namespace lta::exported {

// A program of torch.export. Its inputs and output are the leaves of their pytrees, in order; the layer above makes
// values of them.
class ExportedProgram final : public engine::Model {
 public:
  struct Options {
    c10::Device device = c10::Device(c10::DeviceType::CPU);
    std::optional<at::ScalarType> dtype;  // floating-point weights, and what the graph casts to theirs, become this
    // What weights alone decide is computed once, for runs without gradients, hooks and captures.
    bool optimize = false;
  };
  ExportedProgram(Program program, const Options& options);

  const char* kind() const override { return "ExportedProgram"; }
  std::vector<engine::ModuleInfo> modules() const override { return program_.modules; }
  std::vector<engine::NamedTensor> parameters() const override;
  std::vector<engine::NamedTensor> stateDict() const override;
  std::vector<std::string> methods() const override { return {"forward"}; }
  // One argument for each leaf of the inputs.
  const c10::FunctionSchema* schema(const std::string& method) const override;

  const Signature& signature() const { return program_.signature; }
  int64_t schemaMinor() const { return program_.schemaMinor; }
  // What hooks on a module can be given; null for one that isn't called in the graph.
  const ModuleHooks* hooksOf(const std::string& module) const;
  std::vector<NodeInfo> nodes() const { return nodesOf(program_.graph); }

 protected:
  c10::IValue execute(engine::Inputs inputs, const engine::RunOptions& options, const engine::Snapshot& snapshot,
                      bool captureGradients) override;
  std::shared_ptr<const ModuleResolver> resolver() const override { return resolver_; }
  std::vector<at::Tensor> movableTensors() const override;
  void onMoved(c10::Device device) override;
  // Hooks can be on nodes, too.
  void checkHookPlace(const std::string& place) const override;

 private:
  using Resolver = engine::ParameterResolver<currentModuleName>;

  // The graph with nodes for hooks at their places, kept from run to run as long as they are at the same ones.
  struct HookedGraph {
    std::set<std::string> places;
    Graph graph;
  };

  void cast(at::ScalarType dtype);
  std::shared_ptr<const HookedGraph> hookedGraph(const HookSet& hooks);

  Frame frameOfWeights(const Graph& graph) const;

  Program program_;
  const bool optimize_;
  std::optional<Graph> shared_;            // for plain runs on the CPU; none where no masks are shared
  std::unique_ptr<const Graph> fused_;     // null without `optimize`, and on other devices than the CPU
  std::unique_ptr<FoldedProgram> folded_;  // null where nothing is
  const c10::FunctionSchema schema_;
  std::shared_ptr<const engine::ParameterOwners> owners_;
  std::shared_ptr<const Resolver> resolver_;
  std::mutex hookedMutex_;
  std::shared_ptr<const HookedGraph> hooked_;
};

}  // namespace lta::exported
