#include "attention/capture.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>
#include <sstream>

namespace lta {
namespace {

uint32_t versionOf(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<uint32_t>(tensor._version());
}

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

// What is handed over while the model runs can't be taken back when the model turns out to write into it.
CaptureOptions Capture::completed(CaptureOptions options) {
  if (options.onAttention) options.copyWhatIsHeld = true;
  return options;
}

Capture::Capture(CaptureOptions options, std::shared_ptr<const ModuleResolver> modules, CancellationPtr cancellation)
    : options_(completed(std::move(options))), modules_(std::move(modules)), cancellation_(std::move(cancellation)) {
  matched_.resize(options_.layers.size(), false);
  for (const auto& layer : options_.layers) {
    if (layer.position && *layer.position < 0) window_ = std::max(window_, -*layer.position);
  }
}

bool Capture::following() {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  return !softmaxes_.empty() || !heads_.empty();
}

void Capture::softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  softmaxes_.softmax(input, result, dim, modules_->current());
}

void Capture::derive(const at::Tensor& source, const at::Tensor& result) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  softmaxes_.derive(source, result);
  if (!heads_.empty()) heads_.derive(source, result);
}

void Capture::view(const at::Tensor& source, at::IntArrayRef shape) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  if (!heads_.empty()) heads_.view(source, shape);
}

std::optional<SoftmaxTracker::Consumed> Capture::product(const at::Tensor& a, const at::Tensor& b) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  auto consumed = softmaxes_.product(a, b);
  // Values are computed from what the model was given. A softmax times a parameter picks from a table (a codebook, an
  // embedding), or is an expectation over fixed bins.
  if (consumed && modules_->isParameter(consumed->operand.is_same(a) ? b : a)) return std::nullopt;
  return consumed;
}

std::optional<SoftmaxTracker::Consumed> Capture::product(const at::Tensor& operand, int64_t dim,
                                                         SoftmaxTracker::Arrange arrange) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  return softmaxes_.product(operand, dim, std::move(arrange));
}

at::Tensor Capture::operandOf(SoftmaxTracker::Consumed& consumed) const {
  if (options_.gradients) consumed.operand = takingPart(consumed.operand);
  return consumed.operand;
}

void Capture::produced(const SoftmaxTracker::Consumed& consumed, const at::Tensor& output) {
  auto held = std::make_shared<Held>();
  // [B · H, Q, K] that was [B, H, Q, K] when the softmax saw it.
  held->arrange = [arrange = consumed.arrange, sizes = consumed.softmaxSizes](const at::Tensor& operand) {
    auto weights = arrange(operand);
    if (weights.dim() == 3 && sizes.size() == 4 && sizes[0] * sizes[1] == weights.size(0) &&
        sizes[2] == weights.size(1)) {
      weights = weights.unflatten(0, {sizes[0], sizes[1]});
    }
    return weights;
  };
  held->weights = held->arrange(consumed.operand.detach());
  if (options_.gradients) held->gradientPoint = consumed.operand;
  describe(*held, commonModule(consumed.module, modules_->current()), "softmax", shapeOf(held->weights.sizes()),
           held->weights);
  add(std::move(held), output);
}

at::Tensor Capture::fused(const char* operatorName, const std::string& module, SdpaArguments call,
                          const at::Tensor& value, const at::Tensor& output) {
  auto held = std::make_shared<Held>();
  describe(*held, module, operatorName, shapeOf(call), call.query);
  held->call = std::move(call);
  auto result = output;
  if (options_.gradients) {
    result = takingPart(output);
    held->value = value;
    held->gradientPoint = result;
  }
  add(std::move(held), result);
  return result;
}

at::Tensor Capture::returned(const at::Tensor& output, const at::Tensor& weights) {
  if (!options_.gradients) return weights;
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  const auto result = takingPart(weights);
  for (auto& attention : kept_) {
    if (attention.gradient.front().tensor.is_same(output)) addReturned(attention, result);
  }
  for (const auto& held : pending_) {
    if (held->gradientPoint.is_same(output)) held->returned = result;
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
  auto held = std::make_shared<Held>();
  held->arrange = [](const at::Tensor& operand) { return operand; };
  held->weights = weights;
  describe(*held, module, operatorName, shapeOf(weights.sizes()), weights);
  add(std::move(held), {});
}

void Capture::describe(Held& held, const std::string& module, const char* operatorName, AttentionShape shape,
                       const at::Tensor& tensor) {
  held.site.name = module;
  held.site.operatorName = operatorName;
  held.site.shape = shape;
  held.site.dtype = tensor.scalar_type();
  held.site.device = tensor.device();
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

void Capture::add(std::shared_ptr<Held> held, const at::Tensor& output) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  try {
    note(held, output);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

std::exception_ptr Capture::failure() {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  return failure_;
}

void Capture::note(const std::shared_ptr<Held>& held, const at::Tensor& output) {
  checkCancelled();
  held->site.index = static_cast<int64_t>(sites_.size());
  sites_.push_back(held->site);
  held->selected = selectedNow(held->site);
  const bool splitLater = !held->site.shape.headsKnown;
  if (options_.sitesOnly) {
    held->call.reset();
    held->weights.reset();
  }
  if (splitLater) {
    // The model tells soon how many heads there are; where it never does, there is one.
    heads_.follow(output, [this, held](int64_t heads) {
      auto& shape = sites_[static_cast<size_t>(held->site.index)].shape;
      shape.batch /= heads;
      shape.heads = heads;
      shape.headsKnown = true;
      held->site.shape = shape;
      if (options_.sitesOnly || !held->selected) return;
      try {
        deliver(materialise(*held));
      } catch (...) {
        failure_ = std::current_exception();
        throw;
      }
      std::erase(pending_, held);
    });
  }
  if (options_.sitesOnly) return;
  if (held->selected && !splitLater) {
    deliver(materialise(*held));
  } else if (held->selected) {
    hold(*held);
    pending_.push_back(held);
  } else if (mayBeSelectedFromTheEnd()) {
    hold(*held);
    pending_.push_back(held);
    const auto reach = static_cast<int64_t>(sites_.size()) - window_;
    std::erase_if(pending_, [&](const auto& other) { return !other->selected && other->site.index < reach; });
  }
}

// Notes the versions of what is kept by reference, so that a model that writes into it is noticed.
void Capture::hold(Held& held) {
  const auto keep = [&](at::Tensor& tensor) {
    if (!tensor.defined()) return;
    if (options_.copyWhatIsHeld) tensor = tensor.clone();
    held.versions.emplace_back(tensor, versionOf(tensor));
  };
  keep(held.weights);
  if (held.call) {
    keep(held.call->query);
    keep(held.call->key);
    if (held.call->mask) keep(*held.call->mask);
  }
}

void Capture::checkUnchanged(const Held& held) const {
  for (const auto& [tensor, version] : held.versions) {
    if (versionOf(tensor) != version) throw Overwritten();
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
void Capture::splitHeads(Held& held) {
  auto& call = *held.call;
  const auto heads = held.site.shape.heads;
  const auto lead = call.query.size(0);
  const auto split = [&](const at::Tensor& tensor) {
    if (tensor.dim() != 3) return tensor;
    return tensor.expand({lead, tensor.size(1), tensor.size(2)}).unflatten(0, {lead / heads, heads});
  };
  if (call.mask && call.mask->defined()) call.mask = split(*call.mask);
  call.key = split(call.key);
  call.query = split(call.query);
  if (held.value.defined()) held.value = split(held.value);
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

// Hands an attention over, or collects it.
void Capture::deliver(Attention attention) {
  if (!options_.onAttention) {
    kept_.push_back(std::move(attention));
    return;
  }
  copies_.wait();
  bytes_ = 0;  // what was handed over is held by someone else
  options_.onAttention(std::move(attention));
}

Attention Capture::materialise(Held& held) {
  checkUnchanged(held);
  // What is computed here is the capture's own: no gradients, no autocast, none of it seen by the probe.
  c10::NoGradGuard noGrad;
  c10::impl::ExcludeDispatchKeyGuard noAutocast(c10::autocast_dispatch_keyset);
  const auto& site = held.site;
  const auto rows = rowsOf(site);
  Attention attention;
  attention.heads = rows.heads.value_or(upTo(site.shape.heads));
  attention.queries = rows.queries.value_or(upTo(site.shape.queries));
  const auto dtype = options_.toFloat ? at::kFloat : site.dtype;
  const auto columns = std::min(options_.topK.value_or(site.shape.keys), site.shape.keys);
  const auto elementBytes = static_cast<int64_t>(c10::elementSize(dtype) * (options_.gradients ? 2 : 1) +
                                                 (options_.topK ? sizeof(int64_t) : 0));
  reserve(site, site.shape.batch * (options_.averageHeads ? 1 : static_cast<int64_t>(attention.heads.size())) *
                    static_cast<int64_t>(attention.queries.size()) * columns * elementBytes);
  const Wanted wanted{rows, options_.averageHeads, options_.topK, dtype};
  at::Tensor weights;
  const auto take = [&](Weights result) {
    weights = std::move(result.weights);
    attention.keys = std::move(result.keys);
  };
  if (held.call) {
    if (held.call->query.dim() == 3) splitHeads(held);
    take(computeWeights(*held.call, wanted));
  } else if (options_.averageHeads || options_.topK) {
    take(reduceWeights(pickRows(held.weights, site.shape, {}), wanted));
  } else {
    weights = settle(pickRows(held.weights, site.shape, rows), dtype);
  }
  // A part of a larger tensor would keep all of it alive; and what the model may write into again, now or while it is
  // copied from its device, isn't ours.
  const bool borrowed = !held.call && weights.storage().is_alias_of(held.weights.storage());
  const bool moving = options_.toCpu && !weights.is_cpu();
  if (borrowed && (moving || options_.copyWhatIsHeld || weights.nbytes() < held.weights.storage().nbytes())) {
    weights = weights.clone(at::MemoryFormat::Contiguous);
  } else if (weights.storage().nbytes() > weights.nbytes() && !borrowed) {
    weights = weights.contiguous();
  }
  // Checked once more when the forward is over.
  if (borrowed && weights.storage().is_alias_of(held.weights.storage())) {
    references_.emplace_back(weights, versionOf(weights));
  }
  if (moving) {
    weights = copies_.toCpu(weights);
    if (attention.keys.defined()) attention.keys = copies_.toCpu(attention.keys);
  }
  if (options_.gradients) {
    attention.gradient.push_back(
        {held.gradientPoint, [this, call = held.call, value = held.value, arrange = held.arrange, shape = site.shape,
                              rows, dtype, keys = attention.keys](const at::Tensor& gradient) {
           return settleGradient(
               call ? weightsGradient(*call, value, gradient, rows) : pickRows(arrange(gradient), shape, rows), dtype,
               keys);
         }});
  }
  attention.site = site;
  attention.weights = std::move(weights);
  if (held.returned.defined()) addReturned(attention, held.returned);
  held.call.reset();
  held.weights.reset();
  return attention;
}

std::vector<Attention> Capture::finish() {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  checkCancelled();
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
    for (const auto& held : pending_) {
      if (held->site.index == index) held->selected = true;
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
  for (const auto& held : pending_) {
    if (!held->selected) continue;
    held->site.shape.headsKnown = true;
    deliver(materialise(*held));
  }
  pending_.clear();
  for (const auto& [tensor, version] : references_) {
    if (versionOf(tensor) != version) throw Overwritten();
  }
  std::sort(kept_.begin(), kept_.end(),
            [](const Attention& a, const Attention& b) { return a.site.index < b.site.index; });
  copies_.wait();
  return std::move(kept_);
}

}  // namespace lta
