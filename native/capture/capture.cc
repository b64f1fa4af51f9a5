#include "capture/capture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "capture/materialise.h"
#include "capture/weight_gradients.h"
#include "runtime/error.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

// The module that both names lie in: where a softmax has a module of its own, it is its parent that attends.
std::string commonModule(const std::string& a, const std::string& b) {
  if (isBelow(a, b)) return b;
  if (isBelow(b, a)) return a;
  size_t length = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()) && a[i] == b[i]; ++i) {
    if (a[i] == '.') length = i;
  }
  return a.substr(0, length);
}

std::shared_ptr<PendingAttention> pendingAt(const char* operatorName, const std::string& module, AttentionShape shape,
                                            const at::Tensor& tensor) {
  auto pending = std::make_shared<PendingAttention>();
  pending->site.name = module;
  pending->site.operatorName = operatorName;
  pending->site.shape = shape;
  pending->site.dtype = tensor.scalar_type();
  pending->site.device = tensor.device();
  return pending;
}

}  // namespace

Capture::Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation)
    : options_(std::move(options)),
      modules_(std::move(modules)),
      cancellation_(std::move(cancellation)),
      fixed_(modules_),
      retained_(options_.hooked || options_.onAttention != nullptr),
      budget_(options_.maxBytes),
      sink_(options_.onAttention),
      selection_(options_.layers) {}

void Capture::beforeWrite(const at::Tensor& tensor) {
  if (retainsTensors()) failure_.noting([&] { retained_.beforeWrite(tensor); });
}

Capture::RetainedScores Capture::retainScores(const at::Tensor& scores) {
  return takesScores() ? retained_.retain(scores) : nullptr;
}

void Capture::onSoftmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, RetainedScores scores) {
  auto module = modules_->current();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (scores) scores_.softmax(std::move(scores), result);
  softmaxes_.softmax(input, result, dim, std::move(module));
  following_ = !softmaxes_.empty() || !heads_.empty();
}

void Capture::onDerived(const at::Tensor& source, const at::Tensor& result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  softmaxes_.derive(source, result);
  if (takesScores()) scores_.derive(source, result);
  if (!heads_.empty()) heads_.derive(source, result);
}

void Capture::onView(const at::Tensor& source, at::IntArrayRef shape) {
  std::optional<HeadSplit::Split> split;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!heads_.empty()) split = heads_.view(source, shape);
  }
  if (split) split->resolved(split->batch, split->heads);
}

std::optional<SoftmaxTracker::Consumed> Capture::weightsIn(const at::Tensor& a, const at::Tensor& b) {
  if (!following()) return std::nullopt;
  const bool fixedA = fixed_.contains(a), fixedB = fixed_.contains(b);
  const std::lock_guard<std::mutex> lock(mutex_);
  return softmaxes_.product(a, b, {!fixedB, !fixedA});
}

std::optional<SoftmaxTracker::Consumed> Capture::weightsIn(const at::Tensor& operand, const at::Tensor& other,
                                                           int64_t dim, SoftmaxTracker::Arrange arrange) {
  if (!following() || fixed_.contains(other)) return std::nullopt;
  const std::lock_guard<std::mutex> lock(mutex_);
  return softmaxes_.product(operand, dim, std::move(arrange));
}

at::Tensor Capture::operandOf(SoftmaxTracker::Consumed& consumed) const {
  if (options_.gradients) consumed.operand = requireGrad(consumed.operand);
  return consumed.operand;
}

void Capture::onProduct(const SoftmaxTracker::Consumed& consumed, const at::Tensor& output) {
  // [B · H, Q, K] that was [B, H, Q, K] when the softmax saw it.
  auto arrange = [arrange = consumed.arrange, sizes = consumed.softmaxSizes](const at::Tensor& operand) {
    auto weights = arrange(operand);
    if (weights.dim() == 3 && sizes.size() == 4 && sizes[0] * sizes[1] == weights.size(0) &&
        sizes[2] == weights.size(1)) {
      weights = weights.unflatten(0, {sizes[0], sizes[1]});
    }
    return weights;
  };
  auto weights = arrange(consumed.operand.detach());
  const auto pending =
      pendingAt("softmax", commonModule(consumed.module, modules_->current()), shapeOf(weights.sizes()), weights);
  pending->weights = std::move(weights);
  if (takesScores()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (auto scores = scores_.behind(consumed.operand)) {
      pending->scores = [scores = std::move(scores), arrange] { return arrange(scores()); };
    }
  }
  pending->arrange = std::move(arrange);
  if (options_.gradients) pending->gradientPoint = consumed.operand;
  add(pending, output);
}

at::Tensor Capture::onFusedKernel(const char* operatorName, const std::string& module, SdpaArguments call,
                                  const at::Tensor& value, const at::Tensor& output) {
  const auto pending = pendingAt(operatorName, module, shapeOf(call), call.query);
  pending->call = std::move(call);
  auto result = output;
  if (options_.gradients) {
    // The model may write into what it continues with: the gradient is asked for at a point that it doesn't have.
    pending->gradientPoint = output.requires_grad() ? output : requireGrad(output);
    pending->output = result = requireGrad(pending->gradientPoint);
    pending->value = value;
  }
  add(pending, result);
  return result;
}

at::Tensor Capture::onReturnedWeights(const at::Tensor& output, const at::Tensor& weights) {
  if (!options_.gradients) return weights;
  const auto result = requireGrad(weights);
  const std::lock_guard<std::mutex> lock(mutex_);
  sink_.forEachWithOutput(output, [&](Attention& attention) {
    attention.gradient.push_back(gradientPointOfReturned(result, attention, options_));
  });
  for (const auto& pending : pending_) {
    if (pending->output.is_same(output)) pending->returnedWeights = result;
  }
  return result;
}

void Capture::onVisibleWeights(const char* operatorName, const std::string& module, const at::Tensor& weights,
                               const RetainedScores& scores) {
  if (options_.gradients) {
    throw Error("ERR_MODEL_RUN", std::string("Expected a model whose attention takes part in gradients, but '") +
                                     module + "' computes " + "it inside " + operatorName +
                                     ", which has none. A frozen checkpoint keeps that fused path; load "
                                     "the unfrozen one");
  }
  const auto pending = pendingAt(operatorName, module, shapeOf(weights.sizes()), weights);
  pending->arrange = [](const at::Tensor& operand) { return operand; };
  pending->weights = weights;
  if (scores) pending->scores = [scores] { return scores->get(); };
  add(pending, {});
}

void Capture::add(const PendingPtr& pending, const at::Tensor& output) {
  failure_.noting([&] {
    checkCancelled();
    if (note(pending, output)) deliver(*pending);
  });
}

// Numbers an attention among those of the forward. Whether its weights can be computed now; where they may be later,
// what they come from is retained.
bool Capture::note(const PendingPtr& pending, const at::Tensor& output) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return false;
  pending->site.index = static_cast<int64_t>(sites_.size());
  sites_.push_back(pending->site);
  pending->selected = selection_.selects(pending->site);
  const bool splitLater = !pending->site.shape.headsKnown;
  if (options_.sitesOnly) {
    pending->call.reset();
    pending->weights.reset();
  }
  if (splitLater) {
    // The model tells soon how many heads there are; where it never does, there is one.
    heads_.follow(output, [this, pending](int64_t batch, int64_t heads) { onHeadsKnown(pending, batch, heads); });
    following_ = true;
  }
  if (options_.sitesOnly) return false;
  if (pending->selected && !splitLater) return true;
  if (pending->selected || selection_.reachFromEnd() > 0) {
    pending->retain(retained_);
    pending_.push_back(pending);
    const auto first = static_cast<int64_t>(sites_.size()) - selection_.reachFromEnd();
    std::erase_if(pending_, [&](const auto& other) {
      if (other->selected || other->site.index >= first) return false;
      other->drop();
      return true;
    });
  }
  return false;
}

void Capture::onHeadsKnown(const PendingPtr& pending, int64_t batch, int64_t heads) {
  failure_.noting([&] {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_) return;
      auto& shape = sites_[static_cast<size_t>(pending->site.index)].shape;
      shape.batch = batch;
      shape.heads = heads;
      shape.headsKnown = true;
      pending->site.shape = shape;
      if (options_.sitesOnly || !pending->selected) return;
      std::erase(pending_, pending);
    }
    deliver(*pending);
  });
}

void Capture::deliver(PendingAttention& pending) {
  sink_.deliver(complete(pending), [this] {
    checkCancelled();
    budget_.reset();  // what was handed over is held by someone else
  });
}

// Computes what is kept of an attention.
AttentionSink::Delivery Capture::complete(PendingAttention& pending) {
  const OwnComputation own;
  const auto kept = keptOf(pending.site, options_);
  budget_.reserve(pending.site, bytesOf(pending.site, kept, options_));
  AttentionSink::Delivery delivery;
  auto& attention = delivery.attention;
  attention.site = pending.site;
  attention.heads = kept.heads;
  attention.queries = kept.queries;
  auto reading = retained_.reading();
  pending.restore();
  const auto& source = pending.call ? pending.call->query : pending.weights;
  const bool moves = options_.toCpu && !source.is_cpu();
  auto made = materialise(pending, kept, options_, moves || options_.hooked || options_.onAttention);
  attention.keys = std::move(made.result.keys);
  attention.scores = std::move(made.result.scores);
  attention.logSumExp = std::move(made.result.logSumExp);
  attention.received = std::move(made.result.received);
  attention.entropy = std::move(made.result.entropy);
  if (options_.gradients) attention.gradient.push_back(gradientPointOf(pending, kept, attention.keys, options_));
  reading.unlock();
  if (made.borrowed) {
    delivery.retainedWeights = retained_.retain(made.result.weights);
  } else {
    attention.weights = std::move(made.result.weights);
  }
  for (auto* tensor : {&attention.weights, &attention.keys, &attention.scores, &attention.logSumExp,
                       &attention.received, &attention.entropy}) {
    if (moves && tensor->defined()) *tensor = sink_.toCpu(*tensor);
  }
  delivery.output = pending.output;
  if (pending.returnedWeights.defined()) {
    attention.gradient.push_back(gradientPointOfReturned(pending.returnedWeights, attention, options_));
  }
  pending.call.reset();
  pending.weights.reset();
  pending.drop();
  return delivery;
}

std::vector<Attention> Capture::sitesAsAttentions() const {
  std::vector<Attention> attentions;
  for (const auto& site : sites_) {
    auto kept = keptOf(site, options_);
    Attention attention;
    attention.site = site;
    attention.heads = std::move(kept.heads);
    attention.queries = std::move(kept.queries);
    attentions.push_back(std::move(attention));
  }
  return attentions;
}

// Resolves positions from the end, and has the forward checked for what was selected.
void Capture::checkSelection() {
  if (sites_.empty() && !options_.mayMiss) {
    throw Error("ERR_NO_ATTENTION",
                "This forward computed no attention that can be seen: no scaled_dot_product_attention, no fused "
                "encoder layer, no softmax whose result is multiplied with values. Check that the checkpoint has "
                "attention layers and that these inputs reach them; attention written without a softmax operator has "
                "no weights to show");
  }
  const auto total = static_cast<int64_t>(sites_.size());
  for (const auto index : selection_.selectedFromEnd(total)) {
    for (const auto& pending : pending_) {
      if (pending->site.index == index) pending->selected = true;
    }
  }
  missing_ = selection_.unmatched();
  if (missing_.empty() || options_.mayMiss) return;
  std::ostringstream message;
  message << "No attention was computed in layer " << missing_.front() << ". This forward computed " << total
          << ", at positions 0 to " << total - 1 << ":";
  for (int64_t site = 0; site < std::min<int64_t>(total, 20); ++site) {
    const auto& name = sites_[static_cast<size_t>(site)].name;
    message << (site ? ", " : " ") << (name.empty() ? "(no name)" : "'" + name + "'");
  }
  if (total > 20) message << ", …";
  throw Error("ERR_UNKNOWN_MODULE", message.str());
}

std::vector<Attention> Capture::finish() {
  checkCancelled();
  std::deque<PendingPtr> last;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    checkSelection();
    if (options_.sitesOnly) {
      finished_ = true;
      return sitesAsAttentions();
    }
    last = std::exchange(pending_, {});
  }
  for (const auto& pending : last) {
    if (!pending->selected) continue;
    pending->site.shape.headsKnown = true;
    deliver(*pending);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
  }
  return sink_.close(retained_);
}

}  // namespace lta
