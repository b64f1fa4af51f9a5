#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Makes an inlined graph faster for inference, as freezing does with a whole module: what the graph only reads of
// `root` becomes constants, which are folded. Other last bits; but nodes keep the call stacks that tell their modules,
// and the operators of module_boundaries.h stay. What the graph writes to (caches, counters) stays an attribute. Not
// for runs that record gradients: constants have none.
void freezeGraph(std::shared_ptr<torch::jit::Graph>& graph, const torch::jit::Module& root);

// Whether fusing with oneDNN Graph pays on this processor: its kernels beat those of libtorch's own linears where there
// is AVX-512, and lose on others (docs/performance.md).
bool fusionPays();

// Has libtorch's executors ask for the fusion below.
void registerFusionPass();

// While one lives, graphs that the calling thread's runs compile have their linears, activations and norms fused by
// oneDNN Graph, for the shapes of the runs that libtorch watches first; other shapes run unfused. Graphs whose
// attention is made of a softmax and a product are left alone: oneDNN would take both, and nobody could see the weights
// any more.
class FusionScope {
 public:
  explicit FusionScope(bool on);
  ~FusionScope();
  FusionScope(const FusionScope&) = delete;
  FusionScope& operator=(const FusionScope&) = delete;

 private:
  const bool before_;
};

}  // namespace lta::script
