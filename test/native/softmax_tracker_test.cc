#include "capture/softmax_tracker.h"

#include <ATen/ATen.h>

#include "check.h"
#include "runtime/error.h"

namespace {

struct Followed {
  lta::SoftmaxTracker tracker;
  at::Tensor scores = at::randn({2, 3, 4, 5});
  at::Tensor weights = scores.softmax(-1);
  Followed() { tracker.softmax(scores, weights, -1, "attention"); }
};

}  // namespace

TEST("a softmax that multiplies values is attention, once") {
  Followed f;
  const auto consumed = f.tracker.product(f.weights, at::randn({2, 3, 5, 6}));
  EXPECT(consumed && consumed->module == "attention");
  EXPECT(!f.tracker.product(f.weights, at::randn({2, 3, 5, 6})));
}

TEST("views, casts and copies between are followed") {
  Followed f;
  const auto flat = f.weights.view({6, 4, 5});
  const auto cast = flat.to(at::kDouble);
  f.tracker.derive(flat, cast);
  const auto consumed = f.tracker.product(cast, at::randn({6, 5, 6}, at::kDouble));
  EXPECT(consumed && consumed->softmaxSizes == (std::vector<int64_t>{2, 3, 4, 5}));
}

TEST("weights as the second operand are turned to rows of queries") {
  Followed f;
  const auto consumed = f.tracker.product(at::randn({2, 3, 6, 5}), f.weights.transpose(-1, -2));
  EXPECT(consumed && at::equal(consumed->arrange(consumed->operand), f.weights));
}

TEST("a product over another dimension, or with a vector, is none") {
  Followed f;
  EXPECT(!f.tracker.product(f.weights.transpose(-1, -2), at::randn({2, 3, 4, 6})));
  EXPECT(!f.tracker.product(f.weights, at::randn({5})));
  EXPECT(!f.tracker.product(at::randn({2, 3, 4, 5}), at::randn({2, 3, 5, 6})));
}

TEST("nothing is kept alive, and what took a dead one's place isn't followed") {
  lta::SoftmaxTracker tracker;
  c10::weak_intrusive_ptr<c10::StorageImpl> storage{c10::intrusive_ptr<c10::StorageImpl>()};
  {
    const auto weights = at::randn({2, 3, 4, 5}).softmax(-1);
    tracker.softmax(weights, weights, -1, "");
    storage = c10::weak_intrusive_ptr<c10::StorageImpl>(
        c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(weights.storage().unsafeGetStorageImpl()));
  }
  EXPECT(storage.expired());
  EXPECT(!tracker.product(at::randn({2, 3, 4, 5}), at::randn({2, 3, 5, 6})));
}
