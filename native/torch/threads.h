#pragma once

namespace lta {

// Has the number of intra-op threads, which each thread has for itself, decided for the calling one, in this addon and
// in libtorch: their first use would take over the number of other threads.
void initialiseIntraOpThreads();

}  // namespace lta
