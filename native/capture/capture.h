#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "capture/attention_sink.h"
#include "capture/capture_budget.h"
#include "capture/fixed_tensors.h"
#include "capture/head_split.h"
#include "capture/layer_selection.h"
#include "capture/module_resolver.h"
#include "capture/options.h"
#include "capture/pending_attention.h"
#include "capture/retained_tensors.h"
#include "capture/score_tracker.h"
#include "capture/softmax_tracker.h"
#include "runtime/cancellation.h"
#include "runtime/first_failure.h"
#include "torch/run_local.h"

namespace lta {

// One capture of one forward: is told by the probe what the model computes, decides what of it is attention and what to
// keep, and when its weights can be computed. All threads that work for the run tell it, hence the lock.
class Capture : public RunLocal {
 public:
  using RetainedScores = std::shared_ptr<RetainedTensor>;

  Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation);

  const CaptureOptions& options() const { return options_; }
  const ModuleResolver& modules() const { return *modules_; }
  FixedTensors& fixedTensors() { return fixed_; }

  // A fused kernel, whose weights have to be computed beside it. `output` is what it returned; the model continues with
  // what this returns (bit-identical).
  at::Tensor onFusedKernel(const char* operatorName, const std::string& module, SdpaArguments call,
                           const at::Tensor& value, const at::Tensor& output);
  // Such a kernel's weights, which the model computed beside its `output` and returns, [B, H, Q, K]: with the option
  // `gradients` their gradient is a part of the attention's. The model continues with what this returns
  // (bit-identical).
  at::Tensor onReturnedWeights(const at::Tensor& output, const at::Tensor& weights);
  // Weights that a kernel computed as an operator of its own, [B, H, Q, K], and what they were computed from.
  void onVisibleWeights(const char* operatorName, const std::string& module, const at::Tensor& weights,
                        const RetainedScores& scores);

  // Whether it takes what softmaxes are of; has it keep that of one, which may be about to be written over (null where
  // it doesn't take it).
  bool takesScores() const { return (options_.scores || options_.logSumExp) && !options_.sitesOnly; }
  RetainedScores retainScores(const at::Tensor& scores);

  // An operator is about to write into a tensor.
  void beforeWrite(const at::Tensor& tensor);
  bool retainsTensors() const { return !retained_.empty(); }

  // What the operators around a softmax do (see SoftmaxTracker, HeadSplit). `following`: whether any is followed.
  bool following() const { return following_.load(std::memory_order_relaxed); }
  void onSoftmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, RetainedScores scores);
  void onDerived(const at::Tensor& source, const at::Tensor& result);
  void onView(const at::Tensor& source, at::IntArrayRef shape);
  // Whether an operand of a product holds attention weights: asked before the product runs, and finished by
  // `onProduct`.
  std::optional<SoftmaxTracker::Consumed> weightsIn(const at::Tensor& a, const at::Tensor& b);
  std::optional<SoftmaxTracker::Consumed> weightsIn(const at::Tensor& operand, const at::Tensor& other, int64_t dim,
                                                    SoftmaxTracker::Arrange arrange);
  // The operand that the product is to take (bit-identical).
  at::Tensor operandOf(SoftmaxTracker::Consumed& consumed) const;
  void onProduct(const SoftmaxTracker::Consumed& consumed, const at::Tensor& output);

  // What this capture threw into the model's run, if anything.
  std::exception_ptr failure() const { return failure_.get(); }

  // What was kept, in execution order. Throws ERR_NO_ATTENTION where the forward computed none, ERR_UNKNOWN_MODULE
  // where a selected layer wasn't among it. To be called once, after the forward.
  std::vector<Attention> finish();

  // Once finished: the labels of selected layers that computed no attention, and the query positions of the last
  // attention of the forward, selected or not (none where there was no attention).
  const std::vector<std::string>& missing() const { return missing_; }
  int64_t lastQueries() const { return sites_.empty() ? 0 : sites_.back().shape.queries; }

 private:
  using PendingPtr = std::shared_ptr<PendingAttention>;

  void checkCancelled() const {
    if (cancellation_) cancellation_->check();
  }
  void add(const PendingPtr& pending, const at::Tensor& output);
  bool note(const PendingPtr& pending, const at::Tensor& output);
  void onHeadsKnown(const PendingPtr& pending, int64_t batch, int64_t heads);
  void deliver(PendingAttention& pending);
  AttentionSink::Delivery complete(PendingAttention& pending);
  void checkSelection();
  std::vector<Attention> sitesAsAttentions() const;

  const CaptureOptions options_;
  const std::shared_ptr<const ModuleResolver> modules_;
  const CancellationPtr cancellation_;
  FixedTensors fixed_;
  RetainedTensors retained_;
  CaptureBudget budget_;
  AttentionSink sink_;
  FirstFailure failure_;
  std::atomic<bool> following_{false};

  // Of what follows. Never held while weights are computed or handed over, nor asked for while `retained_` is locked
  // for reading: whoever holds it may be waiting for that.
  std::mutex mutex_;
  SoftmaxTracker softmaxes_;
  ScoreTracker scores_;
  HeadSplit heads_;
  std::vector<Site> sites_;
  LayerSelection selection_;
  std::vector<std::string> missing_;
  std::deque<PendingPtr> pending_;
  bool finished_ = false;  // what a task that nobody waited for computes later is no part of the capture
};

}  // namespace lta
