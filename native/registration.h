// What this package registers with libtorch: graph operators, kernels, a JIT pass. Knows no Node-API.
#pragma once

namespace lta {

// Registers everything once per process, before anything is loaded or captured; later calls are no-ops. Two copies of
// this code can't share a process: they would hook the same operators under the same dispatch key and read each other's
// thread-local slots, whose layout may differ between versions. The second copy throws ERR_ADDON_LOAD and leaves the
// first untouched.
void registerOperators();

}  // namespace lta
