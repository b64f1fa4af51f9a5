// Deep stacks for libtorch's inter-op pool. Replaces only how that pool is created.
#pragma once

namespace lta {

// Threads of forked tasks (the pool behind at::launch) get stacks as deep as the executor's (see deep_stack.h), since a
// forked task may build the same values as a run. To be called before the first fork in the process; an existing pool
// is left as it is.
void registerForkThreads();

}  // namespace lta
