#include "torch/threads.h"

#include <ATen/Parallel.h>

namespace lta {

void initialiseIntraOpThreads() {
  at::internal::lazy_init_num_threads();  // the flag of this addon: the function is inline
  at::get_num_threads();                  // libtorch's own
}

}  // namespace lta
