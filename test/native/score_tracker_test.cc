#include "capture/score_tracker.h"

#include <ATen/ATen.h>

#include "check.h"

namespace {

struct Softmax {
  lta::RetainedTensors retained{false};
  lta::ScoreTracker tracker;
  at::Tensor scores = at::randn({2, 3, 4, 5});
  at::Tensor weights = at::softmax(scores, -1);
  Softmax() { tracker.softmax(retained.retain(scores), weights); }
};

// Whether the scores of a tensor that the weights became give it back.
bool give(const Softmax& softmax, const at::Tensor& became, int64_t dim = -1) {
  const auto scores = softmax.tracker.behind(became);
  return scores && at::allclose(at::softmax(scores(), dim), became);
}

}  // namespace

TEST("scores follow weights through views and copies of every layout") {
  Softmax softmax;
  const auto& weights = softmax.weights;
  EXPECT(give(softmax, weights));
  EXPECT(give(softmax, weights.view({6, 4, 5})));
  EXPECT(give(softmax, weights.permute({2, 0, 1, 3})));
  EXPECT(give(softmax, weights.transpose(-1, -2), -2));
  EXPECT(give(softmax, weights.select(1, 2)));
  const auto turned = weights.permute({2, 0, 1, 3}).contiguous();
  softmax.tracker.derive(weights.permute({2, 0, 1, 3}), turned);
  EXPECT(give(softmax, turned));
  EXPECT(give(softmax, turned.view({4, 6, 5}).transpose(0, 1)));
  const auto half = turned.view({4, 6, 5}).transpose(0, 1).to(at::kHalf);
  softmax.tracker.derive(turned.view({4, 6, 5}).transpose(0, 1), half);
  EXPECT(at::equal(softmax.tracker.behind(half)(), softmax.scores.view({6, 4, 5})));
}

TEST("scores are those that the softmax saw, whatever was written since") {
  lta::RetainedTensors retained(false);
  lta::ScoreTracker tracker;
  const auto scores = at::randn({3, 4});
  const auto before = scores.clone();
  const auto kept = retained.retain(scores);
  retained.beforeWrite(scores);
  at::_softmax_out(const_cast<at::Tensor&>(scores), scores, -1, false);
  tracker.softmax(kept, scores);
  EXPECT(at::equal(tracker.behind(scores)(), before));
}

TEST("what weren't made of weights element by element has no scores") {
  Softmax softmax;
  const auto sum = softmax.weights + 1;
  EXPECT(!softmax.tracker.behind(sum));
  const auto longer = at::cat({softmax.weights, softmax.weights}, -1);
  softmax.tracker.derive(softmax.weights, longer);
  EXPECT(!softmax.tracker.behind(longer));
  // A softmax into a part of something larger says nothing of the rest.
  lta::RetainedTensors retained(false);
  lta::ScoreTracker tracker;
  const auto whole = at::zeros({2, 4, 5});
  tracker.softmax(retained.retain(softmax.scores.select(0, 0).select(0, 0)), whole.select(0, 1));
  EXPECT(tracker.behind(whole.select(0, 1)));
  EXPECT(!tracker.behind(whole) && !tracker.behind(whole.select(0, 0)));
}
