// Computes the weights that a capture keeps.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "capture/attention.h"
#include "capture/attention_sink.h"
#include "capture/capture_budget.h"
#include "capture/materialise.h"
#include "capture/options.h"
#include "capture/pending_attention.h"
#include "capture/retained_tensors.h"
#include "runtime/cancellation.h"
#include "runtime/companion.h"
#include "runtime/first_failure.h"

namespace lta {

// Computes the weights of the attentions that one capture keeps, within its budget, and hands them over or collects
// them. Safe to use from several threads at once.
class WeightComputation {
 public:
  // What is passed belongs to the capture, which lives longer.
  WeightComputation(const CaptureOptions& options, RetainedTensors& retained, FirstFailure& failure,
                    CancellationPtr cancellation);

  // Computes them now. Throws ERR_CAPTURE_TOO_LARGE and what `onAttention` throws.
  void now(PendingAttention& pending);
  // Computes them while the model goes on, where that leaves cores idle; else now.
  void soon(const std::shared_ptr<PendingAttention>& pending);
  // Waits for what is computed beside the model, and throws what failed there.
  void awaitBeside();

  // Calls `change` for what was collected and belongs to a kernel's output.
  void forEachWithOutput(const at::Tensor& output, const std::function<void(Attention&)>& change) {
    sink_.forEachWithOutput(output, change);
  }
  // What was collected, in execution order.
  std::vector<Attention> close() { return sink_.close(retained_); }

 private:
  bool beside(const std::shared_ptr<PendingAttention>& pending);
  void reserve(const PendingAttention& pending, const Kept& kept);
  void deliver(PendingAttention& pending, const Kept& kept);
  AttentionSink::Delivery complete(PendingAttention& pending, const Kept& kept);

  void checkCancelled() const {
    if (cancellation_) cancellation_->check();
  }

  const CaptureOptions& options_;
  RetainedTensors& retained_;
  FirstFailure& failure_;
  const CancellationPtr cancellation_;
  CaptureBudget budget_;
  AttentionSink sink_;

  std::mutex mutex_;  // of what follows
  std::vector<Companion::JobPtr> beside_;
};

}  // namespace lta
