#pragma once

#include <ATen/core/symbol.h>

namespace lta::script {

// The operators that stand around module calls in graphs with boundaries:
//   lta::enter(int call, Any[] inputs) -> (Any[] inputs, Any state)
//   lta::leave(int call, Any[] inputs, Any state, Any output) -> Any output
//   lta::may_fuse(int layer) -> bool
// They hand the call to the run that the thread takes part in, which may replace inputs and output, and which tells
// whether a layer may take its fused fast path. libtorch has to
// assume anything of them (conservative alias analysis), so it moves nothing across.
extern const c10::Symbol kEnter;
extern const c10::Symbol kLeave;
extern const c10::Symbol kMayFuse;

void registerBoundaries();

}  // namespace lta::script
