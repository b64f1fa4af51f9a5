#include "runtime/fork_threads.h"

#include <ATen/Parallel.h>
#include <c10/core/thread_pool.h>
#include <c10/util/thread_name.h>

#include <memory>

#include "runtime/deep_stack.h"

namespace lta {
namespace {

// Like libtorch's own creator of this pool, which the registration replaces: a single pool with a fixed number of
// threads.
std::shared_ptr<c10::TaskThreadPoolBase> createForkThreads(int device, int size, bool createNew) {
  TORCH_CHECK(device == 0 && createNew, "the pool of inter-op threads is asked for once, and by itself");
  const auto create = [size] {
    return std::make_shared<c10::ThreadPool>(size, /*numa_node_id=*/-1, [] {
      c10::setThreadName("pt_inter_op");
      at::init_num_threads();
    });
  };
  std::shared_ptr<c10::TaskThreadPoolBase> pool;
  withDeepStacks([&] { pool = create(); });
  return pool;
}

}  // namespace

void registerForkThreads() { c10::ThreadPoolRegistry()->Register("C10", createForkThreads, c10::REGISTRY_PREFERRED); }

}  // namespace lta
