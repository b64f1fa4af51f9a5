#include "capture/capture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <sstream>
#include <utility>

#include "runtime/lock_yielding_slot.h"
#include "torch/own_computation.h"
#include "torch/storage.h"

namespace lta {
namespace {

bool isBelow(const std::string& name, const std::string& ancestor) {
  if (name == ancestor) return true;
  return !ancestor.empty() && name.size() > ancestor.size() && name.compare(0, ancestor.size(), ancestor) == 0 &&
         name[ancestor.size()] == '.';
}

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

std::string placeOf(const Site& site) {
  std::ostringstream text;
  text << "attention " << site.index;
  if (!site.name.empty()) text << " ('" << site.name << "')";
  return text.str();
}

std::vector<int64_t> upTo(int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void checkIndices(const char* option, const std::vector<int64_t>& indices, int64_t count, const Site& site) {
  for (const auto index : indices) {
    if (index < 0 || index >= count) {
      std::ostringstream message;
      message << "Expected integers from 0 to " << count - 1 << " for " << option << ", since " << placeOf(site)
              << " has " << count << ", but received " << index;
      throw Error("ERR_INVALID_ARGUMENT", message.str());
    }
  }
}

}  // namespace

Capture::Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation)
    : options_(std::move(options)),
      modules_(std::move(modules)),
      cancellation_(std::move(cancellation)),
      tensors_(options_.hooked || options_.onAttention != nullptr) {
  matched_.resize(options_.layers.size(), false);
  for (const auto& layer : options_.layers) {
    if (layer.position && *layer.position < 0) window_ = std::max(window_, -*layer.position);
  }
}

// What a body throws ends the run. The interpreter makes another exception of it, so it is noted here as well.
template <typename Body>
void Capture::keepingFailure(Body body) {
  try {
    body();
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    throw;
  }
}

std::exception_ptr Capture::failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

void Capture::beforeWrite(const at::Tensor& tensor) {
  if (keepsTensors()) keepingFailure([&] { tensors_.beforeWrite(tensor); });
}

void Capture::softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim) {
  auto module = modules_->current();
  const std::lock_guard<std::mutex> lock(mutex_);
  softmaxes_.softmax(input, result, dim, std::move(module));
  following_ = !softmaxes_.empty() || !heads_.empty();
}

void Capture::derive(const at::Tensor& source, const at::Tensor& result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  softmaxes_.derive(source, result);
  if (!heads_.empty()) heads_.derive(source, result);
}

void Capture::view(const at::Tensor& source, at::IntArrayRef shape) {
  std::optional<HeadSplit::Split> split;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!heads_.empty()) split = heads_.view(source, shape);
  }
  if (split) split->resolved(split->batch, split->heads);
}

bool Capture::isFixed(const at::Tensor& tensor) {
  if (modules_->isParameter(tensor)) return true;
  if (!anyMadeOfParameters_.load(std::memory_order_relaxed)) return false;
  const auto* storage = storageOf(tensor);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = madeOfParameters_.find(storage);
  return found != madeOfParameters_.end() && !found->second.expired();
}

void Capture::fix(const at::Tensor& result) {
  auto* storage = storageOf(result);
  if (!storage) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  madeOfParameters_.insert_or_assign(storage, weakly(storage));
  anyMadeOfParameters_ = true;
}

// Values are computed from what the model was given. A softmax times a parameter picks from a table (a codebook, an
// embedding), or is an expectation over fixed bins.
std::optional<SoftmaxTracker::Consumed> Capture::product(const at::Tensor& a, const at::Tensor& b) {
  if (!following()) return std::nullopt;
  const bool fixedA = isFixed(a), fixedB = isFixed(b);
  const std::lock_guard<std::mutex> lock(mutex_);
  return softmaxes_.product(a, b, {!fixedB, !fixedA});
}

std::optional<SoftmaxTracker::Consumed> Capture::product(const at::Tensor& operand, const at::Tensor& other,
                                                         int64_t dim, SoftmaxTracker::Arrange arrange) {
  if (!following() || isFixed(other)) return std::nullopt;
  const std::lock_guard<std::mutex> lock(mutex_);
  return softmaxes_.product(operand, dim, std::move(arrange));
}

at::Tensor Capture::operandOf(SoftmaxTracker::Consumed& consumed) const {
  if (options_.gradients) consumed.operand = requireGrad(consumed.operand);
  return consumed.operand;
}

void Capture::produced(const SoftmaxTracker::Consumed& consumed, const at::Tensor& output) {
  const auto pending = std::make_shared<Pending>();
  // [B · H, Q, K] that was [B, H, Q, K] when the softmax saw it.
  pending->arrange = [arrange = consumed.arrange, sizes = consumed.softmaxSizes](const at::Tensor& operand) {
    auto weights = arrange(operand);
    if (weights.dim() == 3 && sizes.size() == 4 && sizes[0] * sizes[1] == weights.size(0) &&
        sizes[2] == weights.size(1)) {
      weights = weights.unflatten(0, {sizes[0], sizes[1]});
    }
    return weights;
  };
  pending->weights = pending->arrange(consumed.operand.detach());
  if (options_.gradients) pending->gradientPoint = consumed.operand;
  describe(*pending, commonModule(consumed.module, modules_->current()), "softmax", shapeOf(pending->weights.sizes()),
           pending->weights);
  add(pending, output);
}

at::Tensor Capture::fused(const char* operatorName, const std::string& module, SdpaArguments call,
                          const at::Tensor& value, const at::Tensor& output) {
  const auto pending = std::make_shared<Pending>();
  describe(*pending, module, operatorName, shapeOf(call), call.query);
  pending->call = std::move(call);
  auto result = output;
  if (options_.gradients) {
    // The model may write into what it goes on with: the gradient is asked for at a point that it doesn't have.
    pending->gradientPoint = output.requires_grad() ? output : requireGrad(output);
    pending->output = result = requireGrad(pending->gradientPoint);
    pending->value = value;
  }
  add(pending, result);
  return result;
}

at::Tensor Capture::returned(const at::Tensor& output, const at::Tensor& weights) {
  if (!options_.gradients) return weights;
  const auto result = requireGrad(weights);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& collected : collected_) {
    if (collected.output.is_same(output)) addReturned(collected.attention, result);
  }
  for (const auto& pending : pending_) {
    if (pending->output.is_same(output)) pending->returned = result;
  }
  return result;
}

void Capture::addReturned(Attention& attention, const at::Tensor& weights) const {
  attention.gradient.push_back(
      {weights, [this, shape = attention.site.shape, rows = Rows{attention.heads, attention.queries},
                 dtype = attention.weights.scalar_type(), keys = attention.keys](const at::Tensor& gradient) {
         return settleGradient(pickRows(gradient, shape, rows), dtype, keys);
       }});
}

void Capture::computed(const char* operatorName, const std::string& module, const at::Tensor& weights) {
  if (options_.gradients) {
    throw Error("ERR_MODEL_RUN", std::string("Expected a model whose attention takes part in gradients, but '") +
                                     module + "' computes " + "it inside " + operatorName +
                                     ", which has none. A frozen checkpoint keeps that fused path; load "
                                     "the unfrozen one");
  }
  const auto pending = std::make_shared<Pending>();
  pending->arrange = [](const at::Tensor& operand) { return operand; };
  pending->weights = weights;
  describe(*pending, module, operatorName, shapeOf(weights.sizes()), weights);
  add(pending, {});
}

void Capture::describe(Pending& pending, const std::string& module, const char* operatorName, AttentionShape shape,
                       const at::Tensor& tensor) {
  pending.site.name = module;
  pending.site.operatorName = operatorName;
  pending.site.shape = shape;
  pending.site.dtype = tensor.scalar_type();
  pending.site.device = tensor.device();
}

bool Capture::selectedNow(const Site& site) {
  if (options_.layers.empty()) return true;
  bool selected = false;
  for (size_t i = 0; i < options_.layers.size(); ++i) {
    const auto& layer = options_.layers[i];
    const bool match = layer.position ? *layer.position == site.index
                                      : std::any_of(layer.names.begin(), layer.names.end(),
                                                    [&](const std::string& name) { return isBelow(site.name, name); });
    if (match) matched_[i] = selected = true;
  }
  return selected;
}

void Capture::add(const std::shared_ptr<Pending>& pending, const at::Tensor& output) {
  keepingFailure([&] {
    checkCancelled();
    if (note(pending, output)) deliver(*pending);
  });
}

// Gives an attention its place among those of the forward. Whether its weights can be computed now.
bool Capture::note(const std::shared_ptr<Pending>& pending, const at::Tensor& output) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return false;
  pending->site.index = static_cast<int64_t>(sites_.size());
  sites_.push_back(pending->site);
  pending->selected = selectedNow(pending->site);
  const bool splitLater = !pending->site.shape.headsKnown;
  if (options_.sitesOnly) {
    pending->call.reset();
    pending->weights.reset();
  }
  if (splitLater) {
    // The model tells soon how many heads there are; where it never does, there is one.
    heads_.follow(output, [this, pending](int64_t batch, int64_t heads) { headsKnown(pending, batch, heads); });
    following_ = true;
  }
  if (options_.sitesOnly) return false;
  if (pending->selected && !splitLater) return true;
  if (pending->selected || mayBeSelectedFromTheEnd()) {
    keep(*pending);
    pending_.push_back(pending);
    const auto reach = static_cast<int64_t>(sites_.size()) - window_;
    std::erase_if(pending_, [&](const auto& other) {
      if (other->selected || other->site.index >= reach) return false;
      other->kept.clear();
      return true;
    });
  }
  return false;
}

void Capture::headsKnown(const std::shared_ptr<Pending>& pending, int64_t batch, int64_t heads) {
  keepingFailure([&] {
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

// Keeps what the weights are computed from until they can be.
void Capture::keep(Pending& pending) {
  const auto keep = [&](at::Tensor& tensor) {
    if (!tensor.defined()) return;
    pending.kept.emplace_back(&tensor, tensors_.keep(tensor));
    tensor.reset();
  };
  keep(pending.weights);
  keep(pending.value);
  if (pending.call) {
    keep(pending.call->query);
    keep(pending.call->key);
    if (pending.call->mask) keep(*pending.call->mask);
  }
}

Rows Capture::rowsOf(const Site& site) const {
  Rows rows;
  if (options_.heads) {
    checkIndices("heads", *options_.heads, site.shape.heads, site);
    rows.heads = options_.heads;
  }
  if (options_.queries) {
    checkIndices("queries", *options_.queries, site.shape.queries, site);
    rows.queries = options_.queries;
  }
  if (options_.queryRange) {
    const auto [start, end] = *options_.queryRange;
    if (end > site.shape.queries) {
      std::ostringstream message;
      message << "Expected queries.end to be at most " << site.shape.queries << ", since " << placeOf(site) << " has "
              << site.shape.queries << " queries, but received " << end;
      throw Error("ERR_INVALID_ARGUMENT", message.str());
    }
    std::vector<int64_t> queries(static_cast<size_t>(end - start));
    std::iota(queries.begin(), queries.end(), start);
    rows.queries = std::move(queries);
  }
  return rows;
}

void Capture::reserve(const Site& site, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_ += bytes;
  if (options_.maxBytes && bytes_ > *options_.maxBytes) {
    std::ostringstream message;
    message << "The capture would hold at least " << bytes_ << " bytes by " << placeOf(site) << " of shape ["
            << site.shape.batch << ", " << site.shape.heads << ", " << site.shape.queries << ", " << site.shape.keys
            << "], but maxBytes is " << *options_.maxBytes
            << ". Select less with layers, heads, queries, averageHeads or topK, or raise maxBytes";
    throw Error("ERR_CAPTURE_TOO_LARGE", message.str());
  }
}

// [B · heads, L, E] of a call whose heads are known by now.
void Capture::splitHeads(Pending& pending) {
  auto& call = *pending.call;
  const auto batch = pending.site.shape.batch, heads = pending.site.shape.heads;
  const auto lead = call.query.size(0);
  const auto split = [&](const at::Tensor& tensor) {
    if (tensor.dim() != 3) return tensor;
    return tensor.expand({lead, tensor.size(1), tensor.size(2)}).unflatten(0, {batch, heads});
  };
  if (call.mask && call.mask->defined()) call.mask = split(*call.mask);
  call.key = split(call.key);
  call.query = split(call.query);
  if (pending.value.defined()) pending.value = split(pending.value);
}

// What is kept of weights, or of their gradient, once the rows are picked: averaged, cast.
at::Tensor Capture::settle(at::Tensor weights, at::ScalarType dtype) const {
  if (options_.averageHeads) weights = weights.to(at::promote_types(weights.scalar_type(), at::kFloat)).mean(1);
  return weights.to(dtype);
}

// The same for a gradient, of the columns that are kept.
at::Tensor Capture::settleGradient(at::Tensor gradient, at::ScalarType dtype, const at::Tensor& keys) const {
  auto settled = settle(std::move(gradient), dtype);
  if (options_.toCpu) settled = toCpu(settled);
  return keys.defined() ? settled.gather(-1, keys) : settled;
}

// The rows asked for of weights that exist, [..., Q, K], as [B, H, Q, K].
at::Tensor Capture::pickRows(at::Tensor weights, const AttentionShape& shape, const Rows& rows) {
  if (weights.dim() == 3) weights = weights.unflatten(0, {shape.batch, shape.heads});
  if (weights.dim() == 2) weights = weights.unsqueeze(0).unsqueeze(0);
  if (weights.dim() > 4) weights = weights.flatten(1, -3);
  return selectRows(weights, rows);
}

void Capture::deliver(Pending& pending) {
  auto collected = materialise(pending);
  if (options_.onAttention) return handOver(std::move(collected));
  const std::lock_guard<std::mutex> lock(mutex_);
  collected_.push_back(std::move(collected));
}

// Whoever takes an attention may keep this waiting for long; other threads of the run only wait for that where they
// have one to hand over themselves.
void Capture::handOver(Collected collected) {
  const auto handingOver = lockYieldingSlot<std::unique_lock<std::mutex>>(handingOver_);
  checkCancelled();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    copies_.wait();
    bytes_ = 0;  // what was handed over is held by someone else
  }
  options_.onAttention(std::move(collected.attention));
}

Capture::Collected Capture::materialise(Pending& pending) {
  const OwnComputation own;
  const auto& site = pending.site;
  const auto rows = rowsOf(site);
  Collected collected;
  auto& attention = collected.attention;
  attention.heads = rows.heads.value_or(upTo(site.shape.heads));
  attention.queries = rows.queries.value_or(upTo(site.shape.queries));
  const auto dtype = options_.toFloat ? at::kFloat : site.dtype;
  const auto columns = std::min(options_.topK.value_or(site.shape.keys), site.shape.keys);
  const auto elementBytes = static_cast<int64_t>(c10::elementSize(dtype) * (options_.gradients ? 2 : 1) +
                                                 (options_.topK ? sizeof(int64_t) : 0));
  reserve(site, site.shape.batch * (options_.averageHeads ? 1 : static_cast<int64_t>(attention.heads.size())) *
                    static_cast<int64_t>(attention.queries.size()) * columns * elementBytes);
  const Wanted wanted{rows, options_.averageHeads, options_.topK, dtype};
  auto reading = tensors_.reading();  // `mutex_` isn't asked for meanwhile: whoever has that may wait for this
  for (const auto& [tensor, kept] : pending.kept) *tensor = kept->get();
  at::Tensor weights;
  const auto take = [&](Weights result) {
    weights = std::move(result.weights);
    attention.keys = std::move(result.keys);
  };
  if (pending.call) {
    if (pending.call->query.dim() == 3) splitHeads(pending);
    take(computeWeights(*pending.call, wanted));
  } else if (options_.averageHeads || options_.topK) {
    take(reduceWeights(pickRows(pending.weights, site.shape, {}), wanted));
  } else {
    weights = settle(pickRows(pending.weights, site.shape, rows), dtype);
  }
  // A part of a larger tensor would keep all of it alive. What something else than an operator may write into, or is
  // copied from its device while the model goes on, has to be ours at once; of the rest, writes are told.
  bool borrowed = !pending.call && weights.storage().is_alias_of(pending.weights.storage());
  const bool moving = options_.toCpu && !weights.is_cpu();
  if (borrowed &&
      (moving || options_.hooked || options_.onAttention || weights.nbytes() < pending.weights.storage().nbytes())) {
    weights = weights.clone(at::MemoryFormat::Contiguous);
    borrowed = false;
  } else if (weights.storage().nbytes() > weights.nbytes() && !borrowed) {
    weights = weights.contiguous();
  }
  if (options_.gradients) {
    // Asked for when the run is long over, whatever the model has done with its values since.
    std::function<at::Tensor(const at::Tensor&)> ofRows;
    if (pending.call) {
      SdpaArguments call;
      call.query = pending.call->query;
      ofRows = [call = std::move(call), value = copyOf(pending.value), rows](const at::Tensor& gradient) {
        return weightsGradient(call, value, gradient, rows);
      };
    } else {
      ofRows = [arrange = pending.arrange, shape = site.shape, rows](const at::Tensor& gradient) {
        return pickRows(arrange(gradient), shape, rows);
      };
    }
    attention.gradient.push_back({pending.gradientPoint, [this, ofRows = std::move(ofRows), dtype,
                                                          keys = attention.keys](const at::Tensor& gradient) {
                                    return settleGradient(ofRows(gradient), dtype, keys);
                                  }});
  }
  reading.unlock();
  if (borrowed) collected.weights = tensors_.keep(weights);
  if (moving) {
    const std::lock_guard<std::mutex> lock(mutex_);
    weights = copies_.toCpu(weights);
    if (attention.keys.defined()) attention.keys = copies_.toCpu(attention.keys);
  }
  attention.site = site;
  if (!borrowed) attention.weights = std::move(weights);
  collected.output = pending.output;
  if (pending.returned.defined()) addReturned(attention, pending.returned);
  pending.call.reset();
  pending.weights.reset();
  pending.kept.clear();
  return collected;
}

std::vector<Attention> Capture::sitesAsAttentions() const {
  std::vector<Attention> attentions;
  for (const auto& site : sites_) {
    Attention attention;
    attention.site = site;
    const auto rows = rowsOf(site);
    attention.heads = rows.heads.value_or(upTo(site.shape.heads));
    attention.queries = rows.queries.value_or(upTo(site.shape.queries));
    attentions.push_back(std::move(attention));
  }
  return attentions;
}

std::vector<Attention> Capture::finish() {
  checkCancelled();
  std::unique_lock<std::mutex> lock(mutex_);
  if (sites_.empty() && !options_.mayMiss) {
    throw Error("ERR_NO_ATTENTION",
                "This forward computed no attention that can be seen: no scaled_dot_product_attention, no fused "
                "encoder layer, no softmax whose result is multiplied with values. Check that the checkpoint has "
                "attention layers and that these inputs reach them; attention written without a softmax operator has "
                "no weights to show");
  }
  const auto total = static_cast<int64_t>(sites_.size());
  for (size_t i = 0; i < options_.layers.size(); ++i) {
    const auto& position = options_.layers[i].position;
    if (!position || *position >= 0) continue;
    const auto index = total + *position;
    if (index < 0) continue;
    matched_[i] = true;
    for (const auto& pending : pending_) {
      if (pending->site.index == index) pending->selected = true;
    }
  }
  for (size_t i = 0; i < options_.layers.size(); ++i) {
    if (matched_[i]) continue;
    if (options_.mayMiss) {
      missing_.push_back(options_.layers[i].label);
      continue;
    }
    std::ostringstream message;
    message << "No attention was computed in layer " << options_.layers[i].label << ". This forward computed " << total
            << ", at positions 0 to " << total - 1 << ":";
    for (int64_t site = 0; site < std::min<int64_t>(total, 20); ++site) {
      const auto& name = sites_[static_cast<size_t>(site)].name;
      message << (site ? ", " : " ") << (name.empty() ? "(no name)" : "'" + name + "'");
    }
    if (total > 20) message << ", …";
    throw Error("ERR_UNKNOWN_MODULE", message.str());
  }
  if (options_.sitesOnly) {
    finished_ = true;
    return sitesAsAttentions();
  }
  const auto last = std::exchange(pending_, {});
  lock.unlock();
  for (const auto& pending : last) {
    if (!pending->selected) continue;
    pending->site.shape.headsKnown = true;
    deliver(*pending);
  }
  lock.lock();
  finished_ = true;
  std::sort(collected_.begin(), collected_.end(),
            [](const Collected& a, const Collected& b) { return a.attention.site.index < b.attention.site.index; });
  copies_.wait();
  std::vector<Attention> attentions;
  for (auto& [attention, kept, output] : collected_) {
    if (kept) {
      const auto reading = tensors_.reading();
      attention.weights = kept->get();
      kept.reset();
      // Where the model still has them, returned or in an attribute, whoever writes into its own mustn't change these.
      if (attention.weights.storage().use_count() > 1) attention.weights = copyOf(attention.weights);
    }
    attentions.push_back(std::move(attention));
  }
  collected_.clear();
  return attentions;
}

}  // namespace lta
