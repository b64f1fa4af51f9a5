#include "capture/capture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "capture/capture_messages.h"
#include "capture/materialise.h"
#include "capture/sdpa_heads.h"
#include "capture/weight_gradients.h"
#include "runtime/error.h"
#include "torch/nested.h"

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
  pending->site.shape = std::move(shape);
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
      weights_(options_, retained_, failure_, cancellation_),
      flow_(fixed_, retained_, *modules_),
      selection_(options_.layers) {}

void Capture::beforeWrite(const at::Tensor& tensor) {
  if (retainsTensors()) failure_.noting([&] { retained_.beforeWrite(tensor); });
}

Capture::RetainedScores Capture::retainScores(const at::Tensor& scores) {
  return takesScores() ? retained_.retain(scores) : nullptr;
}

void Capture::onSoftmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, RetainedScores scores) {
  deliverDead();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (scores) scores_.softmax(std::move(scores), result);
  flow_.softmax(input, result, dim, "softmax");
}

bool Capture::concerns(c10::ArrayRef<c10::IValue> arguments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!heads_.empty()) {
    for (const auto& argument : arguments) {
      if (argument.isTensor() && heads_.follows(argument.toTensor())) return true;
    }
  }
  return flow_.concerns(arguments);
}

bool Capture::follows(const at::Tensor& tensor) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return flow_.follows(tensor);
}

void Capture::onOperator(const flow::Call& call, const at::Tensor& result) {
  std::optional<HeadSplit::Split> split;
  std::optional<flow::Consumed> consumed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!heads_.empty()) {
      if (call.rule.does == flow::Does::Reshapes) {
        split = heads_.view(call.tensor(0), result.sizes());
      } else if (flow::isPointwise(call.rule.does)) {
        for (const auto& argument : call.arguments) {
          if (argument.isTensor()) heads_.derive(argument.toTensor(), result);
        }
      }
    }
    if (takesScores() && flow::isPointwise(call.rule.does)) {
      for (const auto& argument : call.arguments) {
        if (argument.isTensor()) scores_.derive(argument.toTensor(), result);
      }
    }
    consumed = flow_.ran(call, result);
  }
  if (split) split->resolved(split->batch, split->heads);
  decided();
  if (!consumed) return;
  if (options_.gradients && !consumed->point.requires_grad()) consumed->point = at::Tensor();
  onProduct(*consumed, result);
}

at::Tensor Capture::multiplied(const at::Tensor& tensor) {
  if (!options_.gradients) return tensor;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!flow_.isWeights(tensor)) return tensor;
  }
  return requireGrad(tensor);
}

std::optional<flow::Consumed> Capture::weightsIn(const flow::Rule& rule, const at::Tensor& a, const at::Tensor& b) {
  std::optional<flow::Consumed> consumed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (flow_.empty()) return std::nullopt;
    consumed = flow_.product(rule, a, b);
  }
  decided();
  return consumed;
}

at::Tensor Capture::operandOf(flow::Consumed& consumed) const {
  if (options_.gradients) consumed.operand = requireGrad(consumed.operand);
  return consumed.operand;
}

void Capture::productRan(const flow::Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& result, bool consumed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  flow_.productRan(rule, name, a, b, result, consumed);
}

void Capture::onTransform(const std::string& operatorName, bool inverse, const at::Tensor& result) {
  auto module = modules_->current();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!inverse) {
    transformed_ = true;
  } else if (std::exchange(transformed_, false) && result.defined()) {
    flow_.list({std::move(module), operatorName, result.sizes().vec(),
                "a convolution by Fourier transforms mixes positions: no matrix of queries and keys exists"});
  }
}

void Capture::onUnknownOperator(const std::string& name, const std::vector<c10::IValue>& arguments,
                                const at::Tensor& result, bool attends) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (flow_.taken(name, arguments, result) || !attends) return;
  flow_.list({modules_->current(), name, result.sizes().vec(),
              "an operator that takes queries, keys and values: what it computes inside can't be seen"});
}

size_t Capture::seen() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return sites_.size();
}

void Capture::onNested(const at::Tensor& padded, const at::Tensor& nested) {
  if (padded.dim() < 2 || nested.size(0) == 0) return;
  const auto longest = sizesOfNested(nested).select(1, 0).max().item<int64_t>();
  const std::lock_guard<std::mutex> lock(mutex_);
  nested_.push_back({padded.size(0), longest, padded.size(1)});
}

Capture::PendingPtr Capture::pendingOf(const flow::Consumed& consumed) const {
  const auto sizes = consumed.arrange.sizes();
  auto current = modules_->current();
  // The JIT makes a sum and a product of one operator, and one of them, without a word about where that came from.
  if (current.empty() && consumed.mayBeNameless) current = consumed.scoresModule;
  auto pending = pendingAt(consumed.value->operatorName.c_str(), commonModule(consumed.module, current), shapeOf(sizes),
                           consumed.operand);
  pending->site.kind = consumed.kind;
  pending->site.path = consumed.value->path();
  if (consumed.headsKnown) pending->site.shape.headsKnown = true;
  if (consumed.headsGuessed) pending->site.shape.headsKnown = false;
  return pending;
}

void Capture::onProduct(const flow::Consumed& consumed, const at::Tensor& output) {
  if (!consumed.arrange.isWhole()) return addPart(consumed);
  TakenWeights::Whole taken;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    taken = taken_.takeWhole(consumed, [&] { return partOf(consumed); });
  }
  if (taken.completed) return completeParts(taken.completed);
  if (!taken.first) return;
  auto weights = consumed.arrange(consumed.operand.detach());
  const auto pending = pendingOf(consumed);
  auto shape = shapeOf(weights.sizes());
  shape.headsKnown = !consumed.headsGuessed && (shape.headsKnown || pending->site.shape.headsKnown);
  pending->site.shape = std::move(shape);
  pending->weights = std::move(weights);
  if (takesScores()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (auto scores = scores_.behind(consumed.operand)) {
      pending->scores = [scores = std::move(scores), arrange = consumed.arrange] { return arrange(scores()); };
    }
  }
  pending->arrange = [arrange = consumed.arrange](const at::Tensor& gradient) { return arrange.ofGradient(gradient); };
  if (options_.gradients) pending->gradientPoint = consumed.point.defined() ? consumed.point : consumed.operand;
  const auto rows = output.dim() - (consumed.second ? 1 : 2);
  if (!consumed.maybeContext || rows < 0) return add(pending, output);
  // Keys times values of a linear attention look the same, until queries meet what they give.
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pending->retain(retained_);
    auto decide = [this, pending, weak = at::Tensor(output)](bool linear) {
      if (!linear) {
        pending->restore();
        pending->drop();
        return add(pending, weak);
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      flow_.list({pending->site.name, pending->site.operatorName, pending->site.shape.sizes(), flow::kLinear});
    };
    flow_.watchContext(output, rows, std::move(decide));
  }
}

void Capture::decided() {
  std::vector<std::pair<flow::Flow::Decide, bool>> all;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    all = flow_.takeDecided();
  }
  for (const auto& [decide, linear] : all) decide(linear);
}

Assembly::Part Capture::partOf(const flow::Consumed& consumed) {
  const auto point = consumed.point.defined() ? consumed.point : consumed.operand;
  return {retained_.retain(consumed.operand), consumed.arrange, options_.gradients ? point : at::Tensor()};
}

void Capture::addPart(const flow::Consumed& consumed) {
  TakenWeights::Part part;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    part = taken_.takePart(consumed, [&] { return pendingOf(consumed); }, [&] { return partOf(consumed); });
  }
  if (!part.pending) return;
  if (part.first) add(part.pending, {});
  if (part.pending->assembly->isWhole()) completeParts(part.pending);
}

// Has an attention delivered of which there are no more parts to come.
void Capture::completeParts(const PendingPtr& pending) {
  failure_.noting([&] {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_ || !taken_.close(pending)) return;
      auto shape = shapeOf(pending->assembly->sizes());
      shape.headsKnown = pending->site.shape.headsKnown;
      if (pending->site.kind == Kind::Softmax && !pending->assembly->hasWholeRows()) {
        pending->site.kind = Kind::Unnormalized;
      }
      pending->site.shape = std::move(shape);
      auto& site = sites_[static_cast<size_t>(pending->site.index)];
      site.shape = pending->site.shape;
      site.kind = pending->site.kind;
      if (options_.sitesOnly || !pending->selected) return;
      std::erase(pending_, pending);
    }
    weights_.now(*pending);
  });
}

// Parts are missing of which nothing is left.
void Capture::deliverDead() {
  std::vector<PendingPtr> dead;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    dead = taken_.openWithout([&](const flow::Matrix& matrix) { return flow_.lives(matrix); });
  }
  for (const auto& pending : dead) completeParts(pending);
}

at::Tensor Capture::onFusedKernel(const char* operatorName, const std::string& module, SdpaArguments call,
                                  const at::Tensor& value, double dropout, const std::function<at::Tensor()>& kernel,
                                  FusedKernel which) {
  const bool attends = mayAttend(which) && dropout == 0 && canAttend(call, value);
  at::Tensor output;
  if (!attends) {
    output = kernel();
    broadcastToOutput(call, output);
  }
  std::optional<int64_t> heads;
  int64_t headDims = 1;
  if (call.query.dim() > 4 && call.key.dim() == call.query.dim() && !call.groupedQuery) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // What was pooled has lost its features, keys have them.
    heads = flow_.headsOf(call.query);
    if (!heads) heads = flow_.headsOf(call.key);
    headDims = flow_.headDimsOf(call.query);
  }
  bool guessed = false;
  if (call.query.dim() > 3 && !call.query.is_nested()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    guessed = flow_.headsGuessed(call.query);
  }
  if (heads) moveHeads(call, *heads);
  if (headDims > 1) joinHeads(call, headDims);
  auto shape = shapeOf(call);
  if (guessed) {
    shape.headsKnown = false;
  } else if (!shape.headsKnown) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto lead = flow_.leadOf(call.query);
    if (!lead) lead = flow_.leadOf(call.key);
    if (lead && !lead->headsFirst && !lead->guessed) shape.split(lead->outer, lead->inner);
  }
  const auto pending = pendingAt(operatorName, module, std::move(shape), call.query);
  pending->call = std::move(call);
  if (heads) pending->arrange = [from = *heads](const at::Tensor& tensor) { return tensor.movedim(from, -3); };
  if (headDims > 1) pending->arrange = [headDims](const at::Tensor& tensor) { return joinHeads(tensor, headDims); };
  if (attends) {
    output = addAttending(pending, value);
    return output.defined() ? output : kernel();
  }
  auto result = output;
  if (options_.gradients) {
    // The model may write into what it continues with: the gradient is asked for at a point that it doesn't have.
    pending->gradientPoint = output.requires_grad() ? output : requireGrad(output);
    pending->output = result = requireGrad(pending->gradientPoint);
    pending->value = pending->arrange ? pending->arrange(value) : value;
  }
  add(pending, result);
  return result;
}

at::Tensor Capture::onReturnedWeights(const at::Tensor& output, const at::Tensor& weights) {
  if (!options_.gradients) return weights;
  const auto result = requireGrad(weights);
  const std::lock_guard<std::mutex> lock(mutex_);
  weights_.forEachWithOutput(output, [&](Attention& attention) {
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
  auto& shape = pending->site.shape;
  {
    // A nested batch is as long as its longest sequence, what comes in and goes out is padded further.
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [batch, longest, length] : nested_) {
      if (batch == shape.batch && longest == shape.keys && shape.queries == longest) pending->paddedTo = length;
    }
  }
  if (pending->paddedTo > shape.keys) {
    shape.queries = shape.keys = pending->paddedTo;
  } else {
    pending->paddedTo = 0;
  }
  if (scores) {
    pending->scores = [scores, length = pending->paddedTo] {
      const auto& given = scores->get();
      if (length == 0) return given;
      return at::constant_pad_nd(given, {0, length - given.size(-1), 0, length - given.size(-2)},
                                 -std::numeric_limits<double>::infinity());
    };
  }
  add(pending, {});
}

void Capture::add(const PendingPtr& pending, const at::Tensor& output) {
  failure_.noting([&] {
    checkCancelled();
    if (note(pending, output)) weights_.soon(pending);
  });
}

// Whether outputs of fused kernels may be computed with the weights: only where all rows of those are wanted, since the
// output needs all.
bool Capture::mayAttend(FusedKernel which) const {
  // Where scores are wanted, `attend` has a pass more over them, which shifts the exponentials.
  const bool same = which == FusedKernel::Attends && !options_.scores;
  return (same || !options_.exact) && !options_.gradients && !options_.sitesOnly && !options_.heads &&
         !options_.queries && !options_.queryRange;
}

// The output of an attention whose weights are taken now, computed with them; undefined for others.
at::Tensor Capture::addAttending(const PendingPtr& pending, const at::Tensor& value) {
  at::Tensor output;
  failure_.noting([&] {
    checkCancelled();
    if (!note(pending, {})) return;
    pending->value = value;
    pending->attends = true;
    weights_.now(*pending);
    output = std::move(pending->output);
  });
  return output;
}

// Numbers an attention among those of the forward. Whether its weights can be computed now; where they may be later,
// what they come from is retained.
bool Capture::note(const PendingPtr& pending, const at::Tensor& output) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return false;
  pending->site.index = static_cast<int64_t>(sites_.size());
  sites_.push_back(pending->site);
  pending->selected = selection_.selects(pending->site);
  bool later = pending->assembly != nullptr;
  if (options_.sitesOnly) {
    pending->call.reset();
    pending->weights.reset();
  }
  const auto& shape = pending->site.shape;
  const bool merged = output.defined() && output.dim() == 3 && shape.heads == 1 && shape.batches.empty() &&
                      output.size(0) == shape.batch && output.size(1) == shape.queries;
  if (!shape.headsKnown && merged) {
    // The model tells soon how many heads there are; where it never does, there is one.
    later =
        heads_.follow(output, [this, pending](int64_t batch, int64_t heads) { onHeadsKnown(pending, batch, heads); });
  }
  if (options_.sitesOnly) return false;
  if (pending->selected && !later) return true;
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
      shape.split(batch, heads);
      pending->site.shape = shape;
      if (options_.sitesOnly || !pending->selected) return;
      std::erase(pending_, pending);
    }
    weights_.soon(pending);
  });
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
    noAttention_ = describeNoAttention(unseen_);
    return;
  }
  const auto total = static_cast<int64_t>(sites_.size());
  for (const auto index : selection_.selectedFromEnd(total)) {
    for (const auto& pending : pending_) {
      if (pending->site.index == index) pending->selected = true;
    }
  }
  missing_ = selection_.unmatched();
  if (missing_.empty() || options_.mayMiss) return;
  throw Error("ERR_UNKNOWN_MODULE", describeMissingLayer(missing_.front(), sites_));
}

std::vector<Attention> Capture::finish() {
  checkCancelled();
  std::deque<PendingPtr> last;
  std::vector<HeadSplit::Split> single;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    flow_.decideAll();
    single = heads_.takeSingle();
  }
  decided();
  for (const auto& split : single) split.resolved(split.batch, split.heads);
  for (const auto& pending : std::vector<PendingPtr>(taken_.open())) completeParts(pending);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    unseen_ = flow_.unseen();
    checkSelection();
    if (options_.sitesOnly) {
      finished_ = true;
      return sitesAsAttentions();
    }
    last = std::exchange(pending_, {});
  }
  for (const auto& pending : last) {
    if (pending->selected) weights_.now(*pending);
  }
  weights_.awaitBeside();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
  }
  return weights_.close();
}

}  // namespace lta
