#pragma once

namespace lta {

// Registers with libtorch what this package adds to it: operators for graphs, kernels, a pass. Once a process, before
// anything is loaded or captured; later calls do nothing. Two copies of this code can't share a process: they would
// watch the same operators under the same dispatch key and find each other's state in the same thread-local slots, laid
// out otherwise where their versions differ. The second one throws ERR_ADDON_LOAD, which leaves the first as it is.
void registerOperators();

}  // namespace lta
