// One capture of one forward.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "capture/fixed_tensors.h"
#include "capture/flow/flow.h"
#include "capture/head_split.h"
#include "capture/layer_selection.h"
#include "capture/module_resolver.h"
#include "capture/options.h"
#include "capture/pending_attention.h"
#include "capture/retained_tensors.h"
#include "capture/score_tracker.h"
#include "capture/taken_weights.h"
#include "capture/unseen.h"
#include "capture/weight_computation.h"
#include "runtime/cancellation.h"
#include "runtime/first_failure.h"
#include "torch/run_local.h"

namespace lta {

// One capture of one forward: is told by the probe what the model computes, decides what of it is attention and what to
// keep, and when its weights can be computed (`weights_` does that). All threads that work for the run tell it, hence
// the lock.
class Capture : public RunLocal {
 public:
  using RetainedScores = std::shared_ptr<RetainedTensor>;

  Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation);

  const CaptureOptions& options() const { return options_; }
  const ModuleResolver& modules() const { return *modules_; }
  FixedTensors& fixedTensors() { return fixed_; }

  enum class FusedKernel : uint8_t { Libtorchs, Attends };  // the latter gives the bits of `attend` (weights.h)
  // A fused kernel, whose weights have to be computed beside it: `kernel` runs it. The model continues with what this
  // returns (bit-identical, unless the option `exact` is false).
  at::Tensor onFusedKernel(const char* operatorName, const std::string& module, SdpaArguments call,
                           const at::Tensor& value, double dropout, const std::function<at::Tensor()>& kernel,
                           FusedKernel which = FusedKernel::Libtorchs);
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

  // What operators do with scores and weights (see flow::Flow, HeadSplit).
  void onSoftmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, RetainedScores scores);
  // Whether an operator that takes these has anything to do with what is followed; told of with what it gave.
  bool concerns(c10::ArrayRef<c10::IValue> arguments);
  // Whether a tensor holds scores or weights that are followed.
  bool follows(const at::Tensor& tensor);
  void onOperator(const flow::Call& call, const at::Tensor& result);
  // The tensor that a multiplication is to take in place of one that may be weights (bit-identical).
  at::Tensor multiplied(const at::Tensor& tensor);
  // Whether an operand of a product holds attention weights: asked before the product runs, and finished by
  // `onProduct`. Every product is told of by `productRan`.
  std::optional<flow::Consumed> weightsIn(const flow::Rule& rule, const at::Tensor& a, const at::Tensor& b);
  // The operand that the product is to take (bit-identical).
  at::Tensor operandOf(flow::Consumed& consumed) const;
  void onProduct(const flow::Consumed& consumed, const at::Tensor& output);
  void productRan(const flow::Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                  const at::Tensor& result, bool consumed);
  // A transform of Fourier, or an inverse one, of something that depends on an input.
  void onTransform(const std::string& operatorName, bool inverse, const at::Tensor& result);
  // An operator that isn't followed took these and gave `result`. `attends`: it may have computed attention.
  void onUnknownOperator(const std::string& name, const std::vector<c10::IValue>& arguments, const at::Tensor& result,
                         bool attends);
  // How many attentions were seen so far.
  size_t seen();
  // A padded batch [B, T, …] became `nested`.
  void onNested(const at::Tensor& padded, const at::Tensor& nested);

  // What this capture threw into the model's run, if anything.
  std::exception_ptr failure() const { return failure_.get(); }

  // What was kept, in execution order. Throws ERR_UNKNOWN_MODULE where a selected layer wasn't among it. To be called
  // once, after the forward.
  std::vector<Attention> finish();

  // Once finished: what looked like attention and isn't among it.
  const std::vector<Unseen>& unseen() const { return unseen_; }

  // Once finished: what to say where no attention was seen at all, which only one forward of several may do; else
  // empty.
  const std::string& noAttention() const { return noAttention_; }

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
  bool mayAttend(FusedKernel which) const;
  at::Tensor addAttending(const PendingPtr& pending, const at::Tensor& value);
  bool note(const PendingPtr& pending, const at::Tensor& output);
  Assembly::Part partOf(const flow::Consumed& consumed);
  void addPart(const flow::Consumed& consumed);
  void completeParts(const PendingPtr& pending);
  void deliverDead();
  void decided();
  PendingPtr pendingOf(const flow::Consumed& consumed) const;
  void onHeadsKnown(const PendingPtr& pending, int64_t batch, int64_t heads);
  void checkSelection();
  std::vector<Attention> sitesAsAttentions() const;

  const CaptureOptions options_;
  const std::shared_ptr<const ModuleResolver> modules_;
  const CancellationPtr cancellation_;
  FixedTensors fixed_;
  RetainedTensors retained_;
  FirstFailure failure_;
  WeightComputation weights_;

  // Of what follows. Never held while weights are computed or handed over, nor asked for while `retained_` is locked
  // for reading: whoever holds it may be waiting for that.
  std::mutex mutex_;
  ScoreTracker scores_;
  flow::Flow flow_;
  bool transformed_ = false;  // into a spectrum, and not back so far
  TakenWeights taken_;
  std::vector<std::array<int64_t, 3>> nested_;  // padded batches that were nested: batch, longest, padded length
  std::vector<Unseen> unseen_;
  std::string noAttention_;
  HeadSplit heads_;
  std::vector<Site> sites_;
  LayerSelection selection_;
  std::vector<std::string> missing_;
  std::deque<PendingPtr> pending_;
  bool finished_ = false;  // what a task that nobody waited for computes later is no part of the capture
};

}  // namespace lta
