#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "capture/attention_gradient.h"
#include "capture/head_split.h"
#include "capture/kept_tensors.h"
#include "capture/module_resolver.h"
#include "capture/softmax_tracker.h"
#include "runtime/cancellation.h"
#include "runtime/device_copy.h"
#include "torch/run_local.h"
#include "torch/storage.h"
#include "weights/weights.h"

namespace lta {

// One entry of the option `layers`: modules by name (each with everything below it), or a position in execution order,
// negative from the end. `label` is what the caller wrote.
struct LayerSelector {
  std::vector<std::string> names;
  std::optional<int64_t> position;
  std::string label;
};

// A span of rows that is known only once the number of queries is.
struct QueryRange {
  int64_t start;
  int64_t end;
};

struct Attention;

struct CaptureOptions {
  std::vector<LayerSelector> layers;  // empty: all
  std::optional<std::vector<int64_t>> heads;
  std::optional<std::vector<int64_t>> queries;
  std::optional<QueryRange> queryRange;
  bool averageHeads = false;
  std::optional<int64_t> topK;
  bool toCpu = true;
  bool toFloat = true;
  std::optional<int64_t> maxBytes;
  // Takes each attention as soon as it exists, on the thread that computed it, which goes on when this returns; absent:
  // they are collected. One at a time: those of one thread in execution order, those of tasks that the model forked in
  // the order in which they come. What it throws ends the run.
  std::function<void(Attention)> onAttention;
  // One forward of several that belong together: that it computes no attention, or none in a selected layer, is no
  // error (see Capture::missing).
  bool mayMiss = false;
  bool sitesOnly = false;  // note what there is, keep no weights
  bool gradients = false;  // keep what tells d(scalar)/d(weights) later
  // Hooks run while the model does: they can write into tensors without any operator, so what is kept is copied at once
  // (as it is with onAttention).
  bool hooked = false;
};

// A place in a forward where attention was computed.
struct Site {
  int64_t index = 0;
  std::string name;
  std::string operatorName;
  AttentionShape shape;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
};

struct Attention {
  Site site;
  at::Tensor weights;  // [B, H, Q, K], or [B, Q, K] averaged; undefined where only sites were asked for
  at::Tensor keys;     // with topK: the key positions of the weights
  std::vector<int64_t> heads;
  std::vector<int64_t> queries;
  GradientPoints gradient;  // with the option `gradients`
};

// One capture of one forward: is told by the probe what the model computes, decides what to keep, and keeps it within
// its budget. All threads that work for the run tell it, hence the lock.
class Capture : public RunLocal {
 public:
  Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation);

  const CaptureOptions& options() const { return options_; }
  const ModuleResolver& modules() const { return *modules_; }
  void checkCancelled() const {
    if (cancellation_) cancellation_->check();
  }

  // A fused kernel, whose weights have to be computed beside it. `output` is what it returned; what this returns goes
  // on in its place (the same bits).
  at::Tensor fused(const char* operatorName, const std::string& module, SdpaArguments call, const at::Tensor& value,
                   const at::Tensor& output);
  // Such a kernel's weights, which the model computed beside its `output` and returns, [B, H, Q, K]: with the option
  // `gradients` their gradient is a part of the attention's. What this returns goes on in their place (the same bits).
  at::Tensor returned(const at::Tensor& output, const at::Tensor& weights);
  // Weights that a kernel computed and lets see, [B, H, Q, K].
  void computed(const char* operatorName, const std::string& module, const at::Tensor& weights);

  // An operator is about to write into a tensor.
  void beforeWrite(const at::Tensor& tensor);
  bool keepsTensors() const { return !tensors_.empty(); }

  // What the operators around a softmax do (see SoftmaxTracker, HeadSplit).
  bool following() const { return following_.load(std::memory_order_relaxed); }
  void softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim);
  void derive(const at::Tensor& source, const at::Tensor& result);
  void view(const at::Tensor& source, at::IntArrayRef shape);
  // Whether a tensor is a parameter of the model, or was made of parameters alone; and what an operator made of such.
  bool isFixed(const at::Tensor& tensor);
  void fix(const at::Tensor& result);
  // Whether an operand of a product holds attention weights; told before the product runs, finished by `produced`.
  std::optional<SoftmaxTracker::Consumed> product(const at::Tensor& a, const at::Tensor& b);
  std::optional<SoftmaxTracker::Consumed> product(const at::Tensor& operand, const at::Tensor& other, int64_t dim,
                                                  SoftmaxTracker::Arrange arrange);
  // The operand that the product is to take (the same bits).
  at::Tensor operandOf(SoftmaxTracker::Consumed& consumed) const;
  void produced(const SoftmaxTracker::Consumed& consumed, const at::Tensor& output);

  // What this capture threw into the model's run, if anything. The interpreter makes other exceptions of what passes
  // it; this is the one to report.
  std::exception_ptr failure();

  // What was kept, in execution order. Throws ERR_NO_ATTENTION where the forward computed none, ERR_UNKNOWN_MODULE
  // where a selected layer wasn't among it. To be called once, after the forward.
  std::vector<Attention> finish();

  // Once finished: the labels of selected layers that computed no attention, and the query positions of the last
  // attention of the forward, selected or not (none where there was no attention).
  const std::vector<std::string>& missing() const { return missing_; }
  int64_t lastQueries() const { return sites_.empty() ? 0 : sites_.back().shape.queries; }

 private:
  // An attention whose weights aren't final yet: its heads aren't known, or its position from the end isn't.
  struct Pending {
    Site site;
    std::optional<SdpaArguments> call;
    at::Tensor weights;
    at::Tensor value;                 // of a fused call, where gradients are asked for
    at::Tensor output;                // the same: what the model goes on with
    at::Tensor gradientPoint;         // whose gradient tells that of the weights
    at::Tensor returned;              // weights that the model returned beside it
    SoftmaxTracker::Arrange arrange;  // for weights that exist: from the operand to [..., Q, K]
    bool selected = false;
    // What of the above is kept while the model goes on, and is put back when the weights are computed.
    std::vector<std::pair<at::Tensor*, std::shared_ptr<KeptTensor>>> kept;
  };
  // An attention that is collected. Its weights may still be the model's own.
  struct Collected {
    Attention attention;
    std::shared_ptr<KeptTensor> weights;
    at::Tensor output;
  };

  template <typename Body>
  void keepingFailure(Body body);
  void add(const std::shared_ptr<Pending>& pending, const at::Tensor& output);
  bool note(const std::shared_ptr<Pending>& pending, const at::Tensor& output);
  void headsKnown(const std::shared_ptr<Pending>& pending, int64_t batch, int64_t heads);
  bool selectedNow(const Site& site);
  bool mayBeSelectedFromTheEnd() const { return window_ > 0; }
  void keep(Pending& pending);
  static void describe(Pending& pending, const std::string& module, const char* operatorName, AttentionShape shape,
                       const at::Tensor& tensor);
  static void splitHeads(Pending& pending);
  static at::Tensor pickRows(at::Tensor weights, const AttentionShape& shape, const Rows& rows);
  at::Tensor settle(at::Tensor weights, at::ScalarType dtype) const;
  at::Tensor settleGradient(at::Tensor gradient, at::ScalarType dtype, const at::Tensor& keys) const;
  void deliver(Pending& pending);
  Collected materialise(Pending& pending);
  void addReturned(Attention& attention, const at::Tensor& weights) const;
  void handOver(Collected collected);
  void reserve(const Site& site, int64_t bytes);
  Rows rowsOf(const Site& site) const;
  std::vector<Attention> sitesAsAttentions() const;

  const CaptureOptions options_;
  const std::shared_ptr<const ModuleResolver> modules_;
  const CancellationPtr cancellation_;

  // Of what follows. Never held while weights are computed or handed over.
  std::mutex mutex_;
  SoftmaxTracker softmaxes_;
  HeadSplit heads_;
  std::atomic<bool> following_{false};
  std::unordered_map<const c10::StorageImpl*, WeakStorage> madeOfParameters_;
  std::atomic<bool> anyMadeOfParameters_{false};
  std::vector<Site> sites_;
  std::vector<bool> matched_;  // per entry of options_.layers
  std::vector<std::string> missing_;
  int64_t window_ = 0;  // how far positions from the end reach back
  int64_t bytes_ = 0;
  std::exception_ptr failure_;
  std::vector<Collected> collected_;
  std::deque<std::shared_ptr<Pending>> pending_;
  bool finished_ = false;  // what a task that nobody waited for computes later is no part of the capture
  DeviceCopies copies_;    // of what goes to the CPU while the model goes on

  KeptTensors tensors_;
  std::mutex handingOver_;  // held while an attention is handed over
};

}  // namespace lta
