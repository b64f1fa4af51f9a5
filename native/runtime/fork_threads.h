#pragma once

namespace lta {

// Gives the threads that libtorch runs forked tasks on (its inter-op pool, which at::launch fills) stacks as deep as
// those of the executor (see deep_stack.h): a forked task may build what a run may. To be called before the first fork
// of the process; a pool that is there already stays as it is.
void registerForkThreads();

}  // namespace lta
