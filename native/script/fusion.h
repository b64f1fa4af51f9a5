// Fusion of the operators of inlined graphs by oneDNN Graph: fusion_onednn.cc, or fusion_absent.cc in a build for a
// libtorch without it.
#pragma once

namespace lta::script {

// Whether this build can fuse at all.
bool hasFusion();

// Registers the fusion as a pass of libtorch's executors, active in a FusionScope only, and the operators of fused
// graphs.
void registerFusion();

// Whether graphs that the calling thread compiles are fused. Returns what was set before.
bool setFusing(bool on);

// While one lives, graphs that the calling thread compiles have their linears, activations and norms fused by oneDNN
// Graph, for the shapes that libtorch profiles; other shapes run unfused. Graphs with attention made of single
// operators are left alone (eager_attention.h): oneDNN would fuse them and hide the weights.
class FusionScope {
 public:
  explicit FusionScope(bool on) : before_(setFusing(on)) {}
  ~FusionScope() { setFusing(before_); }
  FusionScope(const FusionScope&) = delete;
  FusionScope& operator=(const FusionScope&) = delete;

 private:
  const bool before_;
};

}  // namespace lta::script
