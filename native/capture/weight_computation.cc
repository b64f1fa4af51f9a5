#include "capture/weight_computation.h"

#include <ATen/ATen.h>

#include <exception>
#include <utility>

#include "capture/weight_gradients.h"
#include "torch/own_computation.h"
#include "torch/thread_state.h"

namespace lta {
namespace {

// Fewer weights than these (about 0.1 ms) aren't worth handing over.
constexpr int64_t kLeastBeside = int64_t{1} << 18;

}  // namespace

WeightComputation::WeightComputation(const CaptureOptions& options, RetainedTensors& retained, FirstFailure& failure,
                                     CancellationPtr cancellation)
    : options_(options),
      retained_(retained),
      failure_(failure),
      cancellation_(std::move(cancellation)),
      budget_(options.maxBytes),
      sink_(options.onAttention) {}

void WeightComputation::now(PendingAttention& pending) {
  const auto kept = keptOf(pending.site, options_);
  reserve(pending, kept);
  deliver(pending, kept);
}

void WeightComputation::soon(const std::shared_ptr<PendingAttention>& pending) {
  if (!beside(pending)) now(*pending);
}

void WeightComputation::deliver(PendingAttention& pending, const Kept& kept) {
  sink_.deliver(complete(pending, kept), [this] {
    checkCancelled();
    budget_.reset();  // what was handed over is held by someone else
  });
}

void WeightComputation::reserve(const PendingAttention& pending, const Kept& kept) {
  budget_.reserve(pending.site, bytesOf(pending.site, kept, options_));
}

// Has the weights of a fused call computed while the model goes on, where that leaves cores idle. Returns false where
// they are to be computed now. What the caller's options are to blame for is thrown at once, as without.
bool WeightComputation::beside(const std::shared_ptr<PendingAttention>& pending) {
  const auto& shape = pending->site.shape;
  // What goes on while a hook or a consumer runs is theirs to decide, and a gradient needs the graph of this thread.
  if (!pending->call || options_.gradients || options_.hooked || options_.onAttention) return false;
  if (!pending->call->query.is_cpu() || pending->call->query.is_nested()) return false;
  if (shape.batch * shape.heads * shape.queries * shape.keys < kLeastBeside) return false;
  auto& companion = Companion::instance();
  if (!companion.isFree()) return false;
  auto kept = keptOf(pending->site, options_);
  reserve(*pending, kept);
  pending->retain(retained_);
  // The state keeps this capture alive, and the run in flight.
  auto job = companion.offer([this, pending, kept, state = ThreadState()] {
    const ThreadStateScope scope(state);
    try {
      failure_.noting([&] {
        checkCancelled();
        deliver(*pending, kept);
      });
    } catch (...) {
      pending->drop();  // `awaitBeside` tells of it
    }
  });
  if (!job) {
    deliver(*pending, kept);
    return true;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  beside_.push_back(std::move(job));
  return true;
}

// Waits for what is computed beside the model, and throws what failed there.
void WeightComputation::awaitBeside() {
  std::vector<Companion::JobPtr> jobs;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs = std::exchange(beside_, {});
  }
  if (jobs.empty()) return;
  for (const auto& job : jobs) Companion::instance().finish(job);
  if (const auto failure = failure_.get()) std::rethrow_exception(failure);
}

// Computes what is kept of an attention.
AttentionSink::Delivery WeightComputation::complete(PendingAttention& pending, const Kept& kept) {
  const OwnComputation own;
  AttentionSink::Delivery delivery;
  auto& attention = delivery.attention;
  attention.site = pending.site;
  attention.heads = kept.heads;
  attention.queries = kept.queries;
  if (options_.weights) attention.scale = kept.codes;
  auto reading = retained_.reading();
  pending.restore();
  if (pending.assembly) {
    pending.weights = pending.assembly->weights();
    pending.arrange = [](const at::Tensor& operand) { return operand; };
  }
  if (const auto more = pending.paddedTo; more > 0) {
    pending.weights =
        at::constant_pad_nd(pending.weights, {0, more - pending.weights.size(-1), 0, more - pending.weights.size(-2)});
  }
  const auto& source = pending.call ? pending.call->query : pending.weights;
  const bool moves = options_.toCpu && !source.is_cpu();
  auto made = materialise(pending, kept, options_, moves || options_.hooked || options_.onAttention);
  attention.keys = std::move(made.result.keys);
  attention.scores = std::move(made.result.scores);
  attention.logSumExp = std::move(made.result.logSumExp);
  attention.received = std::move(made.result.received);
  attention.entropy = std::move(made.result.entropy);
  if (options_.gradients) attention.gradient = gradientPointsOf(pending, kept, attention.keys, options_);
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
  if (!pending.attends) delivery.output = pending.output;
  if (pending.returnedWeights.defined()) {
    attention.gradient.push_back(gradientPointOfReturned(pending.returnedWeights, attention, options_));
  }
  pending.call.reset();
  pending.weights.reset();
  pending.drop();
  return delivery;
}

}  // namespace lta
