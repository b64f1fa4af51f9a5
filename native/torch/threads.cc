#include "torch/threads.h"

#include <ATen/Parallel.h>

namespace lta {

void initialiseIntraOpThreads() {
  at::internal::lazy_init_num_threads();  // inline, so this sets the flag of this addon
  at::get_num_threads();                  // and this the one of libtorch
}

void computeSequentially() {
  initialiseIntraOpThreads();
  at::set_num_threads(1);
}

}  // namespace lta
