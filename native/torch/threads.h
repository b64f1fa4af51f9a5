// Initialization of libtorch's intra-op thread count.
#pragma once

namespace lta {

// Initializes the thread-local intra-op count of the calling thread, in this addon and in libtorch: a lazy first use
// would overwrite a count set before.
void initialiseIntraOpThreads();

// Has libtorch's operators compute on the calling thread alone.
void computeSequentially();

}  // namespace lta
