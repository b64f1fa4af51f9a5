// Attentions whose weights are still to be computed.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "capture/assembly.h"
#include "capture/attention.h"
#include "capture/retained_tensors.h"
#include "capture/score_tracker.h"
#include "weights/weights.h"

namespace lta {

// An attention whose weights aren't computed yet, or aren't final: what they come from.
struct PendingAttention {
  PendingAttention() = default;
  PendingAttention(const PendingAttention&) = delete;
  PendingAttention& operator=(const PendingAttention&) = delete;

  Site site;
  std::optional<SdpaArguments> call;  // of a fused kernel
  at::Tensor weights;                 // of others: they exist, in the model's own memory
  ScoreTracker::Scores scores;        // what those were computed from, in the same view; null where that isn't known
  // Views their gradient as [..., Q, K], and what a fused call is given likewise.
  std::function<at::Tensor(const at::Tensor&)> arrange;
  std::shared_ptr<Assembly> assembly;  // of others that products take in parts
  int64_t paddedTo = 0;                // of a nested batch: the length that it was padded to
  bool selected = false;
  bool attends = false;  // of a fused call that didn't run: its output is computed with the weights

  // With the option `gradients`, or where it attends:
  at::Tensor value;   // of a fused call
  at::Tensor output;  // of a fused call: what the model continues with
  // With the option `gradients`:
  at::Tensor gradientPoint;    // whose gradient tells that of the weights
  at::Tensor returnedWeights;  // weights that the model returned beside the output

  // Has `tensors` keep what the weights are computed from while the model goes on; `restore` puts it back, for which
  // `tensors` has to be locked for reading; `drop` lets go of it.
  void retain(RetainedTensors& tensors);
  void restore();
  void drop() {
    retained_.clear();
    scores = nullptr;
  }

 private:
  std::vector<std::pair<at::Tensor*, std::shared_ptr<RetainedTensor>>> retained_;
};

}  // namespace lta
