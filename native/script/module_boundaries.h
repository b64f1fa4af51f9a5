// The operators around module calls in graphs with boundaries. They pass calls to the thread's HookRun and know nothing
// of hooks.
#pragma once

#include <ATen/core/symbol.h>

namespace lta::script {

//   lta::enter(int call, Any[] inputs) -> (Any[] inputs, Any state)
//   lta::leave(int call, Any[] inputs, Any state, Any output) -> Any output
//   lta::may_fuse(int layer) -> bool
// The run may replace inputs and outputs, and decides whether a layer may take its fused fast path. Conservative alias
// analysis keeps libtorch from moving code across them.
extern const c10::Symbol kEnter;
extern const c10::Symbol kLeave;
extern const c10::Symbol kMayFuse;

void registerBoundaries();

}  // namespace lta::script
