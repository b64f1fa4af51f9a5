#include "runtime/fork_threads.h"

#include <ATen/Parallel.h>
#include <c10/core/thread_pool.h>
#include <c10/util/thread_name.h>

#include <functional>
#include <memory>
#include <utility>

#include "runtime/deep_stack.h"

namespace lta {
namespace {

// A task computes with as many intra-op threads as the thread that forks it, so that it gives the same bits wherever it
// runs. The number belongs to a thread and isn't part of at::ThreadLocalState.
class ForkThreads final : public c10::ThreadPool {
 public:
  using c10::ThreadPool::ThreadPool;

  void run(std::function<void()> task) override {
    c10::ThreadPool::run([task = std::move(task), count = at::get_num_threads()] {
      if (at::get_num_threads() != count) at::set_num_threads(count);
      task();
    });
  }
};

// Like libtorch's own creator of this pool, which the registration replaces: a single pool with a fixed number of
// threads.
std::shared_ptr<c10::TaskThreadPoolBase> createForkThreads(int device, int size, bool createNew) {
  TORCH_CHECK(device == 0 && createNew, "the pool of inter-op threads is asked for once, and by itself");
  std::shared_ptr<c10::TaskThreadPoolBase> pool;
  withDeepStacks([&] {
    pool = std::make_shared<ForkThreads>(size, /*numa_node_id=*/-1, [] {
      c10::setThreadName("pt_inter_op");
      at::init_num_threads();
    });
  });
  return pool;
}

}  // namespace

void registerForkThreads() { c10::ThreadPoolRegistry()->Register("C10", createForkThreads, c10::REGISTRY_PREFERRED); }

}  // namespace lta
