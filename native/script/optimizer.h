// Freezing and oneDNN fusion of inlined graphs. Keeps call stacks, so that nodes keep their module names.
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Freezes an inlined graph for inference: attributes of `root` that the graph only reads become constants and are
// folded. Results may differ in the last bits; call stacks and the operators of module_boundaries.h stay. What the
// graph writes to (caches, counters) stays an attribute. Not for runs that record gradients, which constants don't
// have.
void freezeGraph(std::shared_ptr<torch::jit::Graph>& graph, const torch::jit::Module& root);

// Whether oneDNN Graph is faster than libtorch's own linears on this processor: with AVX-512, yes; otherwise no
// (docs/performance.md).
bool fusionPays();

// Registers the fusion as a pass of libtorch's executors, active in a FusionScope only.
void registerFusionPass();

// While one lives, graphs that the calling thread compiles have their linears, activations and norms fused by oneDNN
// Graph, for the shapes that libtorch profiles; other shapes run unfused. Graphs with attention made of a softmax and a
// product are left alone: oneDNN would fuse both and hide the weights.
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
