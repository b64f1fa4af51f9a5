#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace lta::flow {
namespace {

constexpr int64_t kSweepAt = 64;

// A dimension as a position from the beginning.
int64_t wrapped(int64_t dim, int64_t dims) { return dim < 0 ? dim + dims : dim; }

std::vector<int64_t> identity(int64_t dims) {
  std::vector<int64_t> from(static_cast<size_t>(dims));
  for (int64_t dim = 0; dim < dims; ++dim) from[static_cast<size_t>(dim)] = dim;
  return from;
}

std::vector<int64_t> intsOf(const c10::IValue& value) {
  if (value.isInt()) return {value.toInt()};
  if (value.isIntList()) return value.toIntVector();
  return {};
}

// A number that an operator is given, where it is one that the CPU has.
std::optional<double> numberOf(const c10::IValue& value) {
  if (value.isScalar())
    return value.toScalar().isComplex() ? std::nullopt : std::optional(value.toScalar().to<double>());
  if (!value.isTensor() || !value.toTensor().defined()) return std::nullopt;
  const auto& tensor = value.toTensor();
  if (tensor.dim() != 0 || !tensor.is_cpu() || tensor.is_complex()) return std::nullopt;
  return tensor.item<double>();
}

// The dimension of a result that aligns with one of an operand that is broadcast to it.
int64_t aligned(const at::Tensor& operand, const at::Tensor& result, int64_t resultDim) {
  return resultDim - (result.dim() - operand.dim());
}

// Whether a matrix is made of another, in some steps.
bool descends(const Matrix& matrix, const Matrix* from) {
  if (&matrix == from) return true;
  return std::any_of(matrix.parents.begin(), matrix.parents.end(),
                     [&](const auto& parent) { return descends(*parent, from); });
}

bool isFixedAlong(const View& view, int64_t dim) {
  return std::any_of(view.fixed.begin(), view.fixed.end(), [&](const Span& span) { return span.dim == dim; });
}

}  // namespace

// ---- calls ---------------------------------------------------------------------------------------------------------

at::Tensor Call::tensor(size_t place) const {
  return place < arguments.size() && arguments[place].isTensor() ? arguments[place].toTensor() : at::Tensor();
}

std::optional<c10::IValue> Call::argument(const char* argumentName) const {
  const auto place = schema.argumentIndexWithName(argumentName);
  if (!place || arguments[static_cast<size_t>(*place)].isNone()) return std::nullopt;
  return arguments[static_cast<size_t>(*place)];
}

// ---- what is known of storages -------------------------------------------------------------------------------------

const Flow::Note* Flow::find(const at::Tensor& tensor) const {
  const auto* storage = storageOf(tensor);
  if (!storage) return nullptr;
  const auto found = notes_.find(storage);
  return found == notes_.end() || found->second.storage.expired() ? nullptr : &found->second;
}

Flow::Note& Flow::noteOf(const at::Tensor& tensor) {
  auto* const storage = storageOf(tensor);
  if (notes_.size() >= sweepAt_) {
    std::erase_if(notes_, [](const auto& entry) { return entry.second.storage.expired(); });
    sweepAt_ = std::max<size_t>(kSweepAt, 2 * notes_.size());
  }
  const auto found = notes_.find(storage);
  if (found != notes_.end()) {
    if (!found->second.storage.expired()) return found->second;
    notes_.erase(found);
  }
  return notes_.emplace(storage, Note(weakly(storage))).first->second;
}

Flow::Note& Flow::newNote(const at::Tensor& tensor) {
  auto& note = noteOf(tensor);
  note.value.reset();
  note.multiplied.reset();
  note.reduced.reset();
  note.features.clear();
  note.lead.reset();
  note.context.reset();
  return note;
}

Flow::Operand Flow::operandOf(const at::Tensor& tensor) const {
  Operand operand{tensor, find(tensor), std::nullopt};
  if (operand.note && operand.note->value && tensor.layout() == at::kStrided) {
    operand.view = operand.note->layout.view(tensor);
  }
  return operand;
}

bool Flow::concerns(c10::ArrayRef<c10::IValue> arguments) const {
  if (notes_.empty()) return false;
  for (const auto& argument : arguments) {
    if (argument.isTensor()) {
      if (find(argument.toTensor())) return true;
    } else if (argument.isTensorList()) {
      for (const at::Tensor& tensor : argument.toTensorVector()) {
        if (find(tensor)) return true;
      }
    }
  }
  return false;
}

bool Flow::isWeights(const at::Tensor& tensor) const {
  const auto* note = find(tensor);
  return note && note->value && note->value->stage == Stage::Weights;
}

bool Flow::lives(const Matrix& matrix) const {
  return std::any_of(notes_.begin(), notes_.end(), [&](const auto& entry) {
    const auto& note = entry.second;
    return note.value && note.value->matrix.get() == &matrix && !note.storage.expired();
  });
}

std::optional<Lead> Flow::leadOf(const at::Tensor& tensor) const {
  const auto* note = find(tensor);
  if (!note || !note->lead || tensor.dim() != 3 || note->lead->outer * note->lead->inner != tensor.size(0)) {
    return std::nullopt;
  }
  return note->lead;
}

const Flow::Feature* Flow::featureAlong(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || dim < 0 || tensor.size(dim) < 2) return nullptr;
  const auto stride = tensor.stride(dim);
  for (const auto& feature : note->features) {
    if (stride % feature.stride == 0 && stride / feature.stride * (tensor.size(dim) - 1) < feature.size)
      return &feature;
  }
  return nullptr;
}

void Flow::copyFeatures(const at::Tensor& source, const at::Tensor& result) {
  const auto* note = find(source);
  if (!note || note->features.empty() || result.dim() < source.dim() || storageOf(source) == storageOf(result)) return;
  std::vector<Feature> features;
  for (int64_t dim = 0; dim < source.dim(); ++dim) {
    const auto to = dim + result.dim() - source.dim();
    const auto* feature = featureAlong(source, dim);
    if (!feature || result.size(to) != source.size(dim)) continue;
    features.push_back({result.stride(to), source.size(dim), feature->layer, feature->stacked});
  }
  if (!features.empty()) noteOf(result).features = std::move(features);
}

// ---- softmax -------------------------------------------------------------------------------------------------------

void Flow::softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, const char* operatorName) {
  if (result.dim() == 0 || result.is_nested() || !storageOf(result)) return;
  dim = wrapped(dim, result.dim());
  const auto source = operandOf(input);
  auto matrix = std::make_shared<Matrix>();
  matrix->softmax = true;
  matrix->operatorName = operatorName;
  matrix->module = modules_.current();
  matrix->layerKeys = !source && featureAlong(input, dim) != nullptr;
  if (source) {
    matrix->fromScores = source.matrix().fromScores;
    matrix->ofFeatures = source.matrix().ofFeatures;
    matrix->allFeatures = source.matrix().allFeatures;
    matrix->parents.push_back(source.value().matrix);
    if (const auto fixed = source.matrix().fixed; fixed != kNone) matrix->fixedKeys = source.view->has(dim, fixed);
  }

  // Sizes that tell batch from heads where the softmax runs over [batch · heads, Q, K].
  std::optional<Lead> lead;
  if (!source && result.dim() == 3) {
    lead = leadOf(input);
    if (!lead && input.is_view()) {
      const auto& base = input._base();
      if (base.dim() == 4 && base.size(0) * base.size(1) == result.size(0) && base.size(2) == result.size(1) &&
          base.size(3) == result.size(2)) {
        lead = Lead{base.size(0), base.size(1)};
      }
    }
  }

  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  // As one dimension of the scores that it stands for, or as one of its own.
  const auto add = [&](int64_t at, int64_t size, const Component* component) {
    const auto of = component ? component->span.dim : kForeign;
    const bool own = of != kForeign;
    const auto& features = own ? source.matrix().features : matrix->features;
    spans[static_cast<size_t>(at)].push_back({matrix->dims(), 0, 1, size});
    matrix->features.push_back(own && static_cast<size_t>(of) < features.size() && features[static_cast<size_t>(of)]);
    matrix->sizes.push_back(size);
    matrix->roles.push_back(own         ? source.matrix().roles[static_cast<size_t>(of)]
                            : component ? Role::Lead
                                        : Role::Unknown);
  };
  for (int64_t each = 0; each < result.dim(); ++each) {
    const auto size = result.size(each);
    const auto* components = source ? &source.view->dims[static_cast<size_t>(each)] : nullptr;
    const bool told = components && !components->empty();
    if (each == dim) {
      matrix->key = matrix->dims();
      add(each, size, told ? &components->back() : nullptr);
    } else if (told && components->size() > 1) {
      for (const auto& component : *components) add(each, component.span.size, &component);
    } else if (each == 0 && lead) {
      add(each, lead->outer, nullptr);
      add(each, lead->inner, nullptr);
      matrix->features[0] = lead->headsFirst;
    } else {
      add(each, size, told ? &components->front() : nullptr);
    }
  }
  // Queries are what one operand of the scores' product has beside the keys; else the dimension ahead of the keys.
  for (int64_t each = 0; each < matrix->dims(); ++each) {
    if (each != matrix->key && matrix->roles[static_cast<size_t>(each)] == Role::Free) matrix->query = each;
  }
  if (matrix->query == kNone && matrix->key == matrix->dims() - 1 && matrix->dims() > 2) {
    matrix->query = matrix->key - 1;
  }

  auto value = std::make_shared<Value>();
  value->matrix = matrix;
  value->stage = std::string_view(operatorName) == "log_softmax" ? Stage::Log : Stage::Weights;
  value->kind = Kind::Softmax;
  value->normalized = matrix->key;
  value->operatorName = operatorName;
  value->module = matrix->module;
  value->version = ++versions_;
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::move(value);
  if (matrix->fromScores) matrices_.push_back(std::move(matrix));
}

// ---- values --------------------------------------------------------------------------------------------------------

namespace {

bool isNonnegative(Kind kind) { return kind != Kind::Signed; }

// Weights that were scaled or masked: no distribution any more.
Kind loosened(Kind kind) { return kind == Kind::Softmax ? Kind::Unnormalized : kind; }

}  // namespace

// What an operator makes of scores or weights, element by element. None where what it gives isn't followed.
ValuePtr Flow::after(const Call& call, const Operand& source, const at::Tensor& result, bool otherWeights) {
  const auto& before = source.value();
  const auto does = call.rule.does;
  auto value = std::make_shared<Value>(before);
  if (does == Does::Copies) {
    if (call.name == "to") value->last = std::make_shared<Step>(Step{call.name, before.last});
    return value;
  }
  value->last = std::make_shared<Step>(Step{call.name, before.last});
  value->version = ++versions_;
  value->normalized = kNone;
  const auto& matrix = source.matrix();

  // The operand beside it: a number, or a tensor.
  std::optional<double> number;
  at::Tensor other;
  bool first = true;
  for (size_t place = 0; place < call.arguments.size(); ++place) {
    const auto& argument = call.arguments[place];
    if (argument.isTensor() && argument.toTensor().is_same(source.tensor) && first) {
      first = false;
      continue;
    }
    if (!number) number = numberOf(argument);
    if (!other.defined() && argument.isTensor() && argument.toTensor().dim() > 0) other = argument.toTensor();
  }
  const auto* beside = other.defined() ? find(other) : nullptr;
  const auto normalizes = [&](Does reduction) {
    return beside && beside->reduced && beside->reduced->matrix == before.matrix && beside->reduced->does == reduction;
  };
  // Whether the other tensor tells queries and keys apart, one by one.
  const auto isMask = [&] {
    if (!other.defined() || otherWeights) return false;
    int64_t told = 0;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto here = aligned(source.tensor, result, dim), there = aligned(other, result, dim);
      if (here < 0 || there < 0 || other.size(there) < 2) continue;
      for (const auto& component : source.view->dims[static_cast<size_t>(here)]) {
        const auto of = component.span.dim;
        if (of != kForeign && matrix.roles[static_cast<size_t>(of)] == Role::Free) ++told;
      }
    }
    return told > 1;
  };
  const auto weights = [&](Kind kind, const std::string& operatorName) -> ValuePtr {
    if (matrix.fixed != kNone) return nullptr;  // a layer and its activation
    value->stage = Stage::Weights;
    value->kind = kind;
    value->operatorName = operatorName;
    value->module = modules_.current();
    if (operatorName == call.name) value->last.reset();
    return value;
  };

  if (before.stage == Stage::Scores) {
    switch (does) {
      case Does::Scales:
        if (isMask()) return weights(Kind::Signed, matrix.operatorName);
        return value;
      case Does::Masks: {
        if (call.name == "dropout" || call.name == "native_dropout") return value;
        const bool cuts = call.name == "tril" || call.name == "triu";
        if (!cuts && (!number || *number < -100)) return value;  // hidden from a softmax to come
        return weights(Kind::Signed, matrix.operatorName);
      }
      case Does::Clamps: {
        const auto least = call.argument("min");
        const auto bound = least ? numberOf(*least) : std::nullopt;
        return bound && *bound == 0 ? weights(Kind::Relu, call.name) : value;
      }
      case Does::Subtracts:
        if (normalizes(Does::LogSums)) value->lessLogSum = beside->reduced->dim;
        return value;
      case Does::Exponentiates: {
        const auto summed = before.lessLogSum;
        const auto made = weights(summed == kNone ? Kind::Unnormalized : Kind::Softmax, call.name);
        value->exponential = summed == kNone;
        value->normalized = summed;
        return made;
      }
      case Does::Powers:
        return weights(Kind::Unnormalized, call.name);
      case Does::Sigmoid:
        return weights(Kind::Sigmoid, call.name);
      case Does::Relu:
        return weights(Kind::Relu, call.name);
      case Does::Bends:
        return call.name == "neg" ? value
                                  : weights(call.name == "softplus" ? Kind::Unnormalized : Kind::Signed, call.name);
      case Does::Logarithms:
        return nullptr;
      default:
        return value;
    }
  }
  if (before.stage == Stage::Log) {
    if (does == Does::Exponentiates) {
      value->stage = Stage::Weights;
      if (before.kind == Kind::Softmax) value->normalized = before.normalized;
    } else if (does != Does::Masks) {
      value->kind = Kind::Unnormalized;
    }
    return value;
  }

  auto& kind = value->kind;
  switch (does) {
    case Does::Scales:
      if (normalizes(Does::Sums)) {
        const bool exact = beside->reduced->exact;
        value->normalized = exact ? beside->reduced->dim : kNone;
        value->exponential = false;
        if (isNonnegative(kind)) kind = exact ? Kind::Softmax : Kind::Unnormalized;
      } else {
        kind = number && *number < 0 ? Kind::Signed : loosened(kind);
      }
      break;
    case Does::Adds:
      kind = isNonnegative(kind) && (otherWeights || (!other.defined() && number && *number >= 0)) ? Kind::Unnormalized
                                                                                                   : Kind::Signed;
      break;
    case Does::Subtracts:
      kind = Kind::Signed;
      break;
    case Does::SubtractsFrom:
      kind = other.defined() || otherWeights ? Kind::Signed : Kind::Unnormalized;
      break;
    case Does::Masks:
      kind = loosened(kind);
      break;
    case Does::Clamps: {
      const auto least = call.argument("min");
      const auto bound = least ? numberOf(*least) : std::nullopt;
      kind = kind == Kind::Signed && !(bound && *bound >= 0) ? Kind::Signed : Kind::Unnormalized;
      break;
    }
    case Does::Powers:
      kind = kind == Kind::Relu ? kind : Kind::Unnormalized;
      break;
    case Does::Exponentiates:
    case Does::Sigmoid:
    case Does::Relu:
    case Does::Accumulates:
      kind = does == Does::Accumulates && kind == Kind::Signed ? kind : Kind::Unnormalized;
      break;
    case Does::Logarithms:
      value->stage = Stage::Log;
      kind = Kind::Unnormalized;
      break;
    default:
      kind = Kind::Signed;
  }
  if (does != Does::Scales && does != Does::Masks && does != Does::Adds) value->exponential = false;
  return value;
}

// ---- dimensions ----------------------------------------------------------------------------------------------------

void Flow::follow(const Operand& source, const at::Tensor& result, const std::vector<int64_t>& from,
                  const std::vector<bool>& changed, bool combined, Value value, std::vector<MatrixPtr> others) {
  if (!storageOf(result) || result.is_nested() || result.layout() != at::kStrided) return;
  const auto& old = source.matrix();
  const auto& view = *source.view;
  const auto dims = static_cast<size_t>(result.dim());
  const auto kept = [&](size_t dim) {
    if (from[dim] < 0 || changed[dim]) return false;
    return source.tensor.size(from[dim]) == result.size(static_cast<int64_t>(dim));
  };
  bool same = !combined && others.empty();
  for (size_t dim = 0; dim < dims && same; ++dim) {
    if (!kept(dim)) {
      same = result.size(static_cast<int64_t>(dim)) == 1 && from[dim] < 0;
      continue;
    }
    for (const auto& component : view.dims[static_cast<size_t>(from[dim])])
      same = same && component.span.dim != kForeign;
  }
  std::vector<std::vector<Span>> spans(dims);
  if (same) {
    for (size_t dim = 0; dim < dims; ++dim) {
      if (!kept(dim)) continue;
      for (const auto& component : view.dims[static_cast<size_t>(from[dim])]) spans[dim].push_back(component.span);
    }
    auto& note = newNote(result);
    note.layout = layoutOf(result, spans, view.fixed);
    note.value = std::make_shared<Value>(std::move(value));
    copyFeatures(source.tensor, result);
    return;
  }

  // A matrix of its own.
  struct Dimension {
    int64_t size;
    int64_t old;
    size_t of;  // dimension of the result; `dims` where it has none
    bool expanded = false;
  };
  std::vector<Dimension> made;
  for (size_t dim = 0; dim < dims; ++dim) {
    const auto size = result.size(static_cast<int64_t>(dim));
    const auto* components = from[dim] < 0 ? nullptr : &view.dims[static_cast<size_t>(from[dim])];
    if (kept(dim)) {
      for (const auto& component : *components) made.push_back({component.span.size, component.span.dim, dim});
    } else if (components && !components->empty()) {
      made.push_back({size, components->back().span.dim, dim});
    } else if (size != 1) {
      made.push_back({size, kForeign, dim, components != nullptr});
    }
  }
  const auto placeOf = [&](int64_t dim) {
    for (auto place = static_cast<int64_t>(made.size()) - 1; place >= 0; --place) {
      if (made[static_cast<size_t>(place)].old == dim) return place;
    }
    return kNone;
  };
  for (int64_t dim = 0; dim < old.dims(); ++dim) {
    if (old.sizes[static_cast<size_t>(dim)] != 1 || placeOf(dim) != kNone) continue;
    // One that was repeated stands for a dimension that had size one.
    const auto expanded = std::find_if(made.begin(), made.end(), [&](const Dimension& each) {
      return each.expanded && each.old == kForeign && dim != old.key && dim != old.query;
    });
    if (expanded != made.end()) {
      expanded->old = dim;
      continue;
    }
    int64_t place = 0;
    for (auto earlier = dim - 1; earlier >= 0; --earlier) {
      const auto found = placeOf(earlier);
      if (found == kNone) continue;
      place = found + 1;
      break;
    }
    made.insert(made.begin() + place, {1, dim, dims});
  }
  const auto lost = [&](int64_t dim) { return dim != kNone && placeOf(dim) == kNone; };
  if (lost(old.key) || (lost(old.query) && !isFixedAlong(view, old.query))) return;
  if (old.key == kNone) {
    for (int64_t dim = 0; dim < old.dims(); ++dim) {
      if (old.roles[static_cast<size_t>(dim)] == Role::Free && lost(dim) && !isFixedAlong(view, dim)) return;
    }
  }

  auto matrix = std::make_shared<Matrix>();
  matrix->fromScores = old.fromScores;
  matrix->ofFeatures = old.ofFeatures;
  matrix->allFeatures = old.allFeatures;
  matrix->fixedKeys = old.fixedKeys;
  matrix->layerKeys = old.layerKeys;
  matrix->operatorName = old.operatorName;
  matrix->module = old.module;
  matrix->parents = std::move(others);
  matrix->parents.push_back(source.value().matrix);
  for (size_t place = 0; place < made.size(); ++place) {
    const auto& dimension = made[place];
    const auto was = static_cast<size_t>(dimension.old);
    const bool own = dimension.old != kForeign;
    matrix->sizes.push_back(dimension.size);
    matrix->roles.push_back(own ? old.roles[was] : Role::Lead);
    matrix->features.push_back(own && was < old.features.size() && old.features[was]);
    if (dimension.of < dims) spans[dimension.of].push_back({static_cast<int64_t>(place), 0, 1, dimension.size});
  }
  const auto now = [&](int64_t dim) { return dim == kNone ? kNone : placeOf(dim); };
  matrix->key = now(old.key);
  matrix->query = now(old.query);
  matrix->fixed = now(old.fixed);
  value.normalized = now(value.normalized);
  value.lessLogSum = now(value.lessLogSum);
  value.matrix = std::move(matrix);
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::make_shared<Value>(std::move(value));
}

// ---- operators -----------------------------------------------------------------------------------------------------

void Flow::elementwise(const Call& call, const at::Tensor& result) {
  std::vector<Operand> sources;
  std::vector<at::Tensor> tensors;
  const bool copiesInto = call.rule.does == Does::Copies && call.rule.operand == 1;
  for (size_t place = 0; place < call.arguments.size(); ++place) {
    const auto tensor = call.tensor(place);
    if (!tensor.defined() || (copiesInto && place == 0)) continue;
    tensors.push_back(tensor);
    if (auto operand = operandOf(tensor)) sources.push_back(std::move(operand));
  }
  const auto* const storage = storageOf(result);
  const bool writes = call.schema.is_mutable();
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note) continue;
    // Of a residual sum nobody asks what its features were.
    const bool residual =
        call.rule.does == Does::Adds && tensors.size() > 1 && !isFixed(tensors[&tensor == &tensors[0]]);
    if (storageOf(tensor) != storage && !residual) copyFeatures(tensor, result);
    if (note->value) continue;
    if (storageOf(tensor) != storage) {
      if (note->reduced && !noteOf(result).reduced) {
        // What keeps a division from failing is no part of it; more than that is.
        auto reduced = *note->reduced;
        const auto other = call.rule.does == Does::Adds ? call.argument("other") : std::nullopt;
        const auto number = other ? numberOf(*other) : std::nullopt;
        reduced.exact = reduced.exact && !(number && std::abs(*number) > 1e-2);
        noteOf(result).reduced = reduced;
      }
    }
    if (!note->context) continue;
    const bool keeps = (call.rule.does == Does::Copies || call.rule.does == Does::Scales) &&
                       tensor.sizes() == result.sizes() && storageOf(tensor) != storage;
    if (!keeps) {
      if (storageOf(tensor) != storage || writes) decide(*note, false);
      continue;
    }
    for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
      if (tensor.stride(dim) != note->contextRow || tensor.size(dim) < 2) continue;
      const auto context = note->context;
      auto& next = noteOf(result);
      next.context = context;
      next.contextRow = result.stride(dim);
      break;
    }
  }
  if (sources.empty()) {
    // Something else is written over what was followed.
    if (writes && copiesInto) {
      if (const auto* note = find(result); note && note->value) return;
    }
    return;
  }

  const auto rank = [](const Operand& operand) {
    return std::pair(operand.value().stage == Stage::Weights ? 2
                     : operand.value().stage == Stage::Log   ? 1
                                                             : 0,
                     operand.tensor.numel());
  };
  const auto source = *std::max_element(sources.begin(), sources.end(),
                                        [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  if (storageOf(source.tensor) == storage && !writes) return;  // it gave what it was given
  std::vector<MatrixPtr> others;
  bool otherWeights = false;
  for (const auto& each : sources) {
    if (each.tensor.is_same(source.tensor)) continue;
    otherWeights = otherWeights || each.value().stage == Stage::Weights;
    if (each.value().matrix != source.value().matrix) others.push_back(each.value().matrix);
  }
  const auto value = after(call, source, result, otherWeights);
  if (!value) {
    if (const auto* note = find(result); note && note->value) newNote(result);
    return;
  }
  const auto* const written = writes ? find(result) : nullptr;
  if (written && written->value) {
    // In place, of all of it or of a part.
    auto& note = noteOf(result);
    if (value->matrix == note.value->matrix || storageOf(source.tensor) != storage) {
      auto next = *value;
      next.matrix = note.value->matrix;
      for (const auto& other : others) {
        if (!descends(*other, next.matrix.get())) next.matrix->parents.push_back(other);
      }
      if (value->matrix != next.matrix) next.normalized = kNone;
      note.value = std::make_shared<Value>(std::move(next));
    }
    return;
  }
  // Written into a part of something larger: what is followed is all of that.
  const bool part = writes && result.is_view() && result._base().defined() && result._base().numel() != result.numel();
  const at::Tensor whole = part ? at::Tensor(result._base()) : result;
  std::vector<int64_t> from;
  std::vector<bool> changed;
  bool beyond = false;  // dimensions that only what is beside it has
  for (int64_t dim = 0; dim < whole.dim(); ++dim) {
    auto at = dim;
    if (part) {
      for (at = result.dim() - 1; at >= 0; --at) {
        if (result.stride(at) == whole.stride(dim) && result.size(at) > 1) break;
      }
    }
    const auto here = at < 0 ? kForeign : aligned(source.tensor, result, at);
    const bool broadcast = here < 0 || (source.tensor.size(here) == 1 && whole.size(dim) != 1);
    beyond = beyond || (broadcast && whole.size(dim) > 1);
    from.push_back(here);
    changed.push_back(!broadcast && source.tensor.size(here) != whole.size(dim));
  }
  std::shared_ptr<Multiplied> multiplied;
  if (call.rule.does == Does::Scales && beyond && source.value().stage == Stage::Weights && sources.size() == 1) {
    // Weights times values, whose sum may follow: values have the keys, and dimensions that the weights don't.
    for (const auto& tensor : tensors) {
      if (tensor.is_same(source.tensor) || tensor.dim() == 0 || isFixed(tensor)) continue;
      bool keys = false, queries = false, behind = false;
      int64_t keyDim = kNone;
      for (int64_t dim = 0; dim < result.dim(); ++dim) {
        const auto here = aligned(source.tensor, result, dim), there = aligned(tensor, result, dim);
        const bool has = there >= 0 && tensor.size(there) > 1;
        if (here >= 0 && source.view->has(here, source.matrix().key)) {
          keys = has;
          keyDim = dim;
        } else if (here >= 0 && source.view->has(here, source.matrix().query)) {
          queries = has;
        } else if (has && (here < 0 || source.tensor.size(here) == 1)) {
          behind = behind || keyDim != kNone;
        }
      }
      if (!keys || (queries && !behind)) continue;
      const bool features = featureAlong(tensor, aligned(tensor, result, keyDim)) != nullptr;
      multiplied = std::make_shared<Multiplied>();
      multiplied->given = source.tensor;
      multiplied->features = features;
      multiplied->operand = retained_.retain(source.tensor);
      multiplied->view = *source.view;
      multiplied->value = source.note->value;
    }
  }
  follow(source, whole, from, changed, part, *value, std::move(others));
  if (multiplied) {
    if (const auto* note = find(result); note && note->value) noteOf(result).multiplied = std::move(multiplied);
  }
}

void Flow::reshaped(const at::Tensor& source, const at::Tensor& result) {
  if (source.dim() == 4 && result.dim() == 3 && source.size(0) * source.size(1) == result.size(0) &&
      source.size(2) == result.size(1) && source.size(3) == result.size(2) && source.size(1) > 1) {
    // Heads are what a layer made.
    const bool headsFirst = featureAlong(source, 0) && !featureAlong(source, 1);
    noteOf(result).lead = Lead{source.size(0), source.size(1), headsFirst};
  }
  const auto* note = find(source);
  if (!note || storageOf(source) == storageOf(result)) return;
  // A copy: the dimension that moves fastest is the same where its size is.
  if (source.dim() > 0 && result.dim() > 0 && source.size(-1) == result.size(-1)) {
    if (const auto* feature = featureAlong(source, source.dim() - 1)) {
      const Feature last{1, source.size(-1), feature->layer, feature->stacked};
      if (result.stride(-1) == 1) noteOf(result).features = {last};
    }
  }
}

std::optional<Consumed> Flow::reduced(const Call& call, const at::Tensor& result) {
  const auto source = operandOf(call.tensor(0));
  if (!source) {
    if (source.note && source.note->context) decide(*source.note, false);
    return std::nullopt;
  }
  if (call.tensor(1).defined()) {  // max of two tensors
    elementwise(call, result);
    return std::nullopt;
  }
  const auto argument = call.argument("dim");
  auto dims = argument ? intsOf(*argument) : std::vector<int64_t>();
  if (dims.empty()) dims = identity(source.tensor.dim());
  for (auto& dim : dims) dim = wrapped(dim, source.tensor.dim());
  const auto& matrix = source.matrix();
  std::vector<int64_t> gone;  // of the matrix
  for (const auto dim : dims) {
    for (const auto& component : source.view->dims[static_cast<size_t>(dim)]) {
      if (component.span.dim != kForeign) gone.push_back(component.span.dim);
    }
  }
  const auto goes = [&](int64_t dim) { return dim != kNone && std::find(gone.begin(), gone.end(), dim) != gone.end(); };
  if (source.note->multiplied && (call.rule.does == Does::Sums || call.rule.does == Does::Averages)) {
    const auto& multiplied = *source.note->multiplied;
    const auto& value = *multiplied.value;
    const auto key = value.matrix->key;
    // The dimension of the matrix here that stands for its keys.
    const bool overKeys = goes(matrix.key) || (matrix.key == kNone && !gone.empty());
    if (overKeys && key != kNone && dims.size() == 1) {
      if (value.exponential) {
        listMatrix(*value.matrix, "weights that nothing had normalized multiplied the values (a softmax in blocks)");
        return std::nullopt;
      }
      Aim aim;
      aim.key = key;
      if (isMixture(*value.matrix, aim, multiplied.features)) return std::nullopt;
      auto consumed = consume(multiplied.operand->get(), multiplied.view, multiplied.value, aim);
      consumed.point = multiplied.given;
      return consumed;
    }
  }
  bool ofEach = false;  // a number for each query, or for each key
  for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
    const bool tells = dim == matrix.key || dim == matrix.query || matrix.roles[static_cast<size_t>(dim)] == Role::Free;
    ofEach = ofEach || (tells && goes(dim));
  }
  if (call.rule.does == Does::LogSums && source.value().stage == Stage::Scores) source.matrix().logSummed = true;
  if (ofEach || gone.empty()) {
    if (gone.size() == 1) newNote(result).reduced = Reduced{source.value().matrix, call.rule.does, gone.front()};
    return std::nullopt;
  }
  // Over heads, or the batch.
  const auto keep = call.argument("keepdim");
  const bool keepdim = keep && keep->isBool() && keep->toBool();
  std::vector<int64_t> from;
  for (int64_t dim = 0; dim < source.tensor.dim(); ++dim) {
    const bool reduces = std::find(dims.begin(), dims.end(), dim) != dims.end();
    if (!reduces) from.push_back(dim);
    if (reduces && keepdim) from.push_back(kForeign);
  }
  if (static_cast<int64_t>(from.size()) != result.dim()) return std::nullopt;
  Value value = source.value();
  value.last = std::make_shared<Step>(Step{call.name, value.last});
  value.version = ++versions_;
  if (value.stage == Stage::Weights && call.rule.does != Does::Averages) {
    value.kind = loosened(value.kind);
    value.normalized = kNone;
  }
  follow(source, result, from, std::vector<bool>(from.size(), false), /*combined=*/true, std::move(value));
  return std::nullopt;
}

void Flow::joined(const Call& call, const at::Tensor& result) {
  if (!call.arguments[0].isTensorList()) return;
  const auto tensors = call.arguments[0].toTensorVector();
  const auto dim = wrapped(call.argument("dim").value_or(0).toInt(), result.dim());
  const bool stacks = call.rule.does == Does::Stacks;
  Operand source;
  std::vector<MatrixPtr> others;
  bool all = true;
  for (const auto& tensor : tensors) {
    auto operand = operandOf(tensor);
    if (!operand) {
      all = false;
      if (operand.note && operand.note->context) decide(*operand.note, false);
      continue;
    }
    if (!source) {
      source = std::move(operand);
    } else if (operand.value().matrix != source.value().matrix) {
      others.push_back(operand.value().matrix);
    }
  }
  if (!source) {
    if (stacks && result.size(dim) > 1) {
      noteOf(result).features.push_back({result.stride(dim), result.size(dim), true, true});
    } else if (!tensors.empty() && tensors.front().dim() == result.dim()) {
      std::vector<Feature> features;
      for (int64_t each = 0; each < result.dim(); ++each) {
        const auto* feature = featureAlong(tensors.front(), each);
        if (feature) features.push_back({result.stride(each), result.size(each), feature->layer, feature->stacked});
      }
      if (!features.empty()) noteOf(result).features = std::move(features);
    }
    return;
  }
  std::vector<int64_t> from;
  std::vector<bool> changed;
  for (int64_t each = 0; each < result.dim(); ++each) {
    from.push_back(!stacks ? each : each == dim ? kForeign : each > dim ? each - 1 : each);
    changed.push_back(!stacks && each == dim);
  }
  Value value = source.value();
  value.last = std::make_shared<Step>(Step{call.name, value.last});
  value.version = ++versions_;
  const bool alongKeys = !stacks && source.view->has(dim, source.matrix().key);
  if (value.stage == Stage::Weights && (alongKeys || !all)) {
    value.kind = loosened(value.kind);
    value.normalized = kNone;
  }
  follow(source, result, from, changed, /*combined=*/true, std::move(value), std::move(others));
}

// What picks coordinates along some dimensions, or adds some.
void Flow::indexed(const Call& call, const at::Tensor& result) {
  const auto source = operandOf(call.tensor(static_cast<size_t>(call.rule.operand)));
  if (!source) {
    if (source.note && source.note->context) decide(*source.note, false);
    return;
  }
  const auto dims = source.tensor.dim();
  auto from = identity(result.dim());
  std::vector<bool> changed(from.size(), false);
  Value value = source.value();
  value.last = std::make_shared<Step>(Step{call.name, value.last});
  value.version = ++versions_;
  const auto& matrix = source.matrix();
  const auto loosen = [&] {
    if (value.stage != Stage::Weights) return;
    value.kind = loosened(value.kind);
    value.normalized = kNone;
  };
  switch (call.rule.does) {
    case Does::Picks:
    case Does::Selects:
    case Does::Scatters: {
      auto argument = call.argument("dim");
      if (!argument) argument = call.argument("dims");
      auto along = argument ? intsOf(*argument) : std::vector<int64_t>{-1};
      if (result.dim() != dims) return;
      for (auto& dim : along) {
        dim = wrapped(dim, dims);
        changed[static_cast<size_t>(dim)] = true;
        if (!source.view->has(dim, matrix.key)) continue;
        if (matrix.layerKeys) return;  // the experts that a router chose
        if (call.rule.does != Does::Scatters && result.size(dim) != source.tensor.size(dim)) loosen();
      }
      break;
    }
    case Does::Pads:
    case Does::Repeats: {
      const auto more = result.dim() - dims;
      if (more < 0) return;
      for (int64_t dim = 0; dim < result.dim(); ++dim) {
        auto& here = from[static_cast<size_t>(dim)];
        here = dim - more;
        if (here < 0) {
          here = kForeign;
          continue;
        }
        changed[static_cast<size_t>(dim)] = source.tensor.size(here) != result.size(dim);
        if (!changed[static_cast<size_t>(dim)]) continue;
        if (source.view->has(here, matrix.key) && call.rule.does == Does::Repeats) loosen();
      }
      break;
    }
    default: {  // an index for some dimensions that stand together
      const auto& list = call.arguments[1];
      if (!list.isList()) return;
      int64_t first = kNone, count = 0, wide = 0, dim = 0;
      for (const c10::IValue& each : list.toListRef()) {
        if (each.isTensor() && each.toTensor().defined()) {
          const auto& index = each.toTensor();
          const bool mask = index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
          if (first == kNone) first = dim;
          if (dim != first + count) return;
          count += mask ? index.dim() : 1;
          wide = std::max(wide, mask ? 1 : index.dim());
          dim += mask ? index.dim() : 1;
        } else {
          ++dim;
        }
      }
      if (first == kNone) return;
      from.clear();
      changed.clear();
      for (int64_t each = 0; each < first; ++each) from.push_back(each);
      // One list for one dimension keeps what that is; others leave no trace of it.
      for (int64_t each = 0; each < wide; ++each) from.push_back(count == 1 && wide == 1 ? first : kForeign);
      for (int64_t each = first + count; each < dims; ++each) from.push_back(each);
      if (static_cast<int64_t>(from.size()) != result.dim()) return;
      changed.assign(from.size(), false);
      if (count == 1 && wide == 1) {
        changed[static_cast<size_t>(first)] = true;
        if (source.view->has(first, matrix.key)) {
          if (matrix.layerKeys) return;
          loosen();
        }
      } else {
        for (int64_t each = first; each < first + count; ++each) {
          if (source.view->has(each, matrix.key) || source.view->has(each, matrix.query)) return;
        }
      }
    }
  }
  follow(source, result, from, changed, /*combined=*/true, std::move(value));
}

void Flow::convolved(const Call& call, const at::Tensor& result) {
  const auto source = operandOf(call.tensor(0));
  const auto kernel = operandOf(call.tensor(1));
  if (kernel && kernel.value().stage == Stage::Weights) {
    listMatrix(kernel.matrix(), "its result is the kernel of a convolution");
    return;
  }
  if (!source) {
    if (source.note && source.note->context) decide(*source.note, false);
    // Channels are a layer's.
    if (result.dim() > 2 && result.size(1) > 1 && isFixed(call.tensor(1))) {
      noteOf(result).features = {{result.stride(1), result.size(1), true, false}};
    }
    return;
  }
  const auto& matrix = source.matrix();
  if (result.dim() < 3 || source.tensor.dim() != result.dim() || source.view->has(1, matrix.key) ||
      source.view->has(1, matrix.query)) {
    return;
  }
  std::vector<bool> changed(static_cast<size_t>(result.dim()), false);
  for (int64_t dim = 1; dim < result.dim(); ++dim) {
    changed[static_cast<size_t>(dim)] = source.tensor.size(dim) != result.size(dim);
  }
  changed[1] = true;
  Value value = source.value();
  value.last = std::make_shared<Step>(Step{call.name, value.last});
  value.version = ++versions_;
  if (value.stage != Stage::Scores) {
    value.kind = Kind::Signed;
    value.normalized = kNone;
  }
  follow(source, result, identity(result.dim()), changed, /*combined=*/true, std::move(value));
}

std::optional<Consumed> Flow::ran(const Call& call, const at::Tensor& result) {
  if (!storageOf(result)) return std::nullopt;
  if (isPointwise(call.rule.does)) {
    elementwise(call, result);
    return std::nullopt;
  }
  switch (call.rule.does) {
    case Does::Accumulates:
    case Does::Normalizes:
      elementwise(call, result);
      break;
    case Does::LogSoftmax: {
      const auto dim = call.argument("dim");
      if (dim && find(call.tensor(0))) softmax(call.tensor(0), result, dim->toInt(), "log_softmax");
      break;
    }
    case Does::Sums:
    case Does::Averages:
    case Does::Maximizes:
    case Does::LogSums:
    case Does::Norms:
      return reduced(call, result);
    case Does::Concatenates:
    case Does::Stacks:
      joined(call, result);
      break;
    case Does::Picks:
    case Does::Selects:
    case Does::Indexes:
    case Does::Scatters:
    case Does::Pads:
    case Does::Repeats:
      indexed(call, result);
      break;
    case Does::Convolves:
      convolved(call, result);
      break;
    case Does::Reshapes:
      reshaped(call.tensor(0), result);
      break;
    default:
      break;
  }
  return std::nullopt;
}

// ---- products ------------------------------------------------------------------------------------------------------

// What a sum over a dimension of weights, or of scores, runs over.
Flow::Aim Flow::aimOf(const Operand& weights, int64_t summed, int64_t row) const {
  const auto& matrix = weights.matrix();
  const auto& view = *weights.view;
  Aim aim;
  const auto over = [&](int64_t dim) {
    if (dim == kNone) return false;
    if (view.has(summed, dim)) return true;
    // Of size one it can't be told from others.
    return weights.tensor.size(summed) == 1 && !view.has(dim);
  };
  if (over(matrix.key)) {
    aim.key = matrix.key;
  } else if (matrix.fromScores) {
    for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
      if (matrix.roles[static_cast<size_t>(dim)] == Role::Free && view.has(summed, dim)) aim.key = dim;
    }
  }
  aim.touches = aim.key != kNone || over(matrix.query);
  if (row >= 0) {
    for (const auto& component : view.dims[static_cast<size_t>(row)]) {
      if (component.span.dim != kForeign && component.span.dim != aim.key) aim.row = component.span.dim;
    }
  }
  return aim;
}

Consumed Flow::consume(const at::Tensor& operand, const View& view, const ValuePtr& value, const Aim& aim) const {
  auto& matrix = *value->matrix;
  auto query = matrix.query;
  if (aim.key != matrix.key) {
    // Summed over what the softmax didn't run over: keys and queries change places.
    query = matrix.key;
    for (int64_t dim = 0; dim < matrix.dims() && query == kNone; ++dim) {
      if (dim != aim.key && matrix.roles[static_cast<size_t>(dim)] == Role::Free) query = dim;
    }
  }
  if (query == kNone) query = aim.row;
  Consumed consumed;
  consumed.operand = operand;
  consumed.arrange = Arrangement(matrix, view, query, aim.key);
  consumed.value = value;
  consumed.kind = value->kind == Kind::Softmax && value->normalized != aim.key ? Kind::Unnormalized : value->kind;
  consumed.module = value->module;
  for (const auto* from = &matrix; consumed.scoresModule.empty() && !from->parents.empty();) {
    from = from->parents.front().get();
    consumed.scoresModule = from->module;
  }
  consumed.headsKnown = matrix.allFeatures;
  consumed.maybeContext =
      !matrix.fromScores && !matrix.fixedKeys && query != kNone && matrix.sizes[static_cast<size_t>(query)] > 1;
  matrix.meet();
  return consumed;
}

void Flow::listMatrix(Matrix& matrix, std::string reason) {
  if (matrix.met) return;
  matrix.meet();
  list({matrix.module, matrix.operatorName, matrix.sizes, std::move(reason)});
}

bool Flow::taken(const std::string& name, const std::vector<c10::IValue>& arguments) {
  bool any = false;
  for (const auto& argument : arguments) {
    if (!argument.isTensor()) continue;
    const auto* note = find(argument.toTensor());
    if (!note || !note->value || !note->value->matrix->fromScores) continue;
    any = true;
    listMatrix(*note->value->matrix, "the operator '" + name + "' takes it, and what that does isn't known");
  }
  return any;
}

std::optional<Consumed> Flow::consumedBy(const Operand& weights, int64_t summed, int64_t row, const at::Tensor& other,
                                         int64_t otherSummed) {
  if (!weights || weights.value().stage != Stage::Weights) return std::nullopt;
  const auto aim = aimOf(weights, summed, row);
  auto& matrix = weights.matrix();
  if (aim.key == kNone) {
    if (aim.touches || matrix.fromScores || !isFixed(other)) return std::nullopt;
    // A softmax over positions, then a product with a table over what isn't the heads: external attention.
    if (!matrix.layerKeys && matrix.dims() == 3 && matrix.key == 1) {
      listMatrix(matrix, "its product is with a table of constants, over another dimension than the softmax's");
    }
    return std::nullopt;
  }
  if (matrix.softmax && !matrix.parents.empty() && matrix.parents.front()->logSummed) {
    listMatrix(matrix,
               "the logarithm of its sum is taken as well: a softmax in blocks, whose weights are scaled later");
    return std::nullopt;
  }
  if (weights.value().exponential) {
    listMatrix(matrix, "exponentials that nothing had normalized multiplied the values (a softmax in blocks)");
    return std::nullopt;
  }
  if (isFixed(other)) {
    if (matrix.fixedKeys && weights.value().kind == Kind::Softmax) {
      return consume(weights.tensor, *weights.view, weights.note->value, aim);
    }
    if (!matrix.layerKeys && other.dim() > 1 && matrix.metNothing.empty()) {
      matrix.metNothing = "its only product is with a table of constants";
    }
    return std::nullopt;
  }
  // A product with a vector is an expectation, unless the weights compare two activations.
  if (other.dim() < 2 && !matrix.fromScores) return std::nullopt;
  if (isMixture(matrix, aim, featureAlong(other, otherSummed) != nullptr)) return std::nullopt;
  return consume(weights.tensor, *weights.view, weights.note->value, aim);
}

// Whether the softmax runs over a dimension that a layer made: of a router, a classifier, a dynamic convolution. A
// layer may as well compute attention weights for each pair of positions, without keys.
bool Flow::isMixture(Matrix& matrix, const Aim& aim, bool featuresBeside) {
  if (!matrix.layerKeys) return false;
  if (featuresBeside) return true;
  const auto query = matrix.query == kNone ? aim.row : matrix.query;
  const auto queries = query == kNone ? 1 : matrix.sizes[static_cast<size_t>(query)];
  if (queries == matrix.sizes[static_cast<size_t>(matrix.key)]) return false;
  listMatrix(matrix, "a layer made the dimension that the softmax runs over: a dynamic convolution or a mixture");
  return true;
}

void Flow::decide(const Note& note, bool linear) {
  if (note.context->decide) decided_.emplace_back(std::exchange(note.context->decide, nullptr), linear);
}

void Flow::decideAll() {
  for (const auto& weak : contexts_) {
    const auto context = weak.lock();
    if (context && context->decide) decided_.emplace_back(std::exchange(context->decide, nullptr), false);
  }
  contexts_.clear();
}

void Flow::watchContext(const at::Tensor& output, int64_t rows, Decide decide) {
  auto context = std::make_shared<Context>();
  context->decide = std::move(decide);
  contexts_.push_back(context);
  auto& note = noteOf(output);
  note.context = std::move(context);
  note.contextRow = output.stride(rows);
}

std::optional<Consumed> Flow::product(const Rule& rule, const at::Tensor& a, const at::Tensor& b) {
  const auto weightsA = operandOf(a), weightsB = operandOf(b);
  const auto told = [](const Operand& operand) {
    return operand.note && (operand.note->value || operand.note->context);
  };
  if (!told(weightsA) && !told(weightsB)) return std::nullopt;  // most products
  const auto product = productOf(rule.does, a, b);
  bool linear = false;
  for (const auto& [operand, summed] : {std::pair(&weightsA, product.summedA), std::pair(&weightsB, product.summedB)}) {
    const auto* note = operand->note;
    if (!note || !note->context) continue;
    const bool inner = operand->tensor.dim() > 1 && operand->tensor.size(summed) > 1 &&
                       operand->tensor.stride(summed) == note->contextRow;
    linear = linear || (inner && note->context->decide);
    decide(*note, inner);
  }
  if (linear) {
    for (const auto* operand : {&weightsA, &weightsB}) {
      if (*operand) operand->matrix().meet();
    }
    return std::nullopt;
  }
  if (rule.does == Does::Distance || (!weightsA && !weightsB)) return std::nullopt;
  const auto rowA = product.row < 0 ? kForeign : product.a[static_cast<size_t>(product.row)];
  const auto rowB = product.column < 0 ? kForeign : product.b[static_cast<size_t>(product.column)];
  const bool scoresFirst = !weightsA || (weightsB && weightsB.matrix().fromScores && !weightsA.matrix().fromScores);
  // What has scores is attention ahead of what may be values.
  for (const bool second : {scoresFirst, !scoresFirst}) {
    auto consumed = second ? consumedBy(weightsB, product.summedB, rowB, a, product.summedA)
                           : consumedBy(weightsA, product.summedA, rowA, b, product.summedB);
    if (!consumed) continue;
    consumed->second = second;
    consumed->mayBeNameless = rule.does == Does::Mm;
    return consumed;
  }
  return std::nullopt;
}

void Flow::productRan(const Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                      const at::Tensor& result, bool consumed) {
  if (consumed || !storageOf(result) || result.dim() == 0 || !result.is_floating_point()) return;
  const auto fixedA = isFixed(a), fixedB = isFixed(b);
  if (fixedA && fixedB) return fixed_.add(result);
  if (const auto* note = find(a); rule.does == Does::Linear && fixedB && b.dim() == 2 && !(note && note->value)) {
    // A layer, as most products are.
    if (b.size(0) > 1) newNote(result).features = {{result.stride(-1), b.size(0), true, false}};
    return;
  }
  const auto product = productOf(rule.does, a, b);
  if (static_cast<int64_t>(product.a.size()) != result.dim()) return;
  const auto operandA = operandOf(a), operandB = operandOf(b);

  // Over heads: weights are mixed, and go on.
  for (const auto& [operand, from, summed] :
       {std::tuple(&operandA, &product.a, product.summedA), std::tuple(&operandB, &product.b, product.summedB)}) {
    if (!*operand) continue;
    const auto& matrix = operand->matrix();
    bool mixes = !operand->view->dims[static_cast<size_t>(summed)].empty();
    for (const auto& component : operand->view->dims[static_cast<size_t>(summed)]) {
      const auto dim = component.span.dim;
      mixes = mixes && dim != matrix.key && dim != matrix.query &&
              (dim == kForeign || matrix.roles[static_cast<size_t>(dim)] != Role::Free);
    }
    if (operand->value().stage == Stage::Scores && !mixes) {
      // Two products and no function between.
      for (const auto& component : operand->view->dims[static_cast<size_t>(summed)]) {
        const auto dim = component.span.dim;
        if (dim == kForeign || matrix.roles[static_cast<size_t>(dim)] != Role::Free || matrix.fixed != kNone) continue;
        if (operand == &operandA ? fixedB : fixedA) continue;
        const auto place = static_cast<size_t>(dim);
        if (place < matrix.features.size() && matrix.features[place]) {
          listMatrix(operand->matrix(),
                     "linear attention: keys and values are multiplied first, so that no matrix of "
                     "queries and keys exists");
        } else if (matrix.ofFeatures) {
          listMatrix(operand->matrix(), "no function makes weights of the scores before they multiply the values");
        }
        return;
      }
      continue;
    }
    if (!mixes || matrix.dims() < 3) continue;
    std::vector<bool> changed(from->size(), false);
    Value value = operand->value();
    value.last = std::make_shared<Step>(Step{name, value.last});
    value.version = ++versions_;
    if (value.stage != Stage::Scores) {
      value.kind = Kind::Signed;
      value.normalized = kNone;
    }
    follow(*operand, result, *from, changed, /*combined=*/true, std::move(value));
    return;
  }

  const bool layer = rule.does == Does::Linear || rule.operand == 1;
  if (fixedA || fixedB) {
    auto& note = newNote(result);
    const auto own = fixedA ? product.row : product.column;
    if (own >= 0 && result.size(own) > 1) note.features.push_back({result.stride(own), result.size(own), layer, false});
    // Experts, each with a matrix of its own.
    const auto& table = fixedA ? a : b;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto of = (fixedA ? product.a : product.b)[static_cast<size_t>(dim)];
      if (dim != own && of >= 0 && table.size(of) > 1 && table.stride(of) != 0 && result.size(dim) == table.size(of)) {
        note.features.push_back({result.stride(dim), result.size(dim), layer, false});
      }
    }
    if (layer || own < 0) return;
  }
  if (product.row < 0 && product.column < 0) return;

  // Scores, as long as nothing says otherwise.
  auto matrix = std::make_shared<Matrix>();
  matrix->operatorName = name;
  matrix->module = modules_.current();
  matrix->fromScores = !fixedA && !fixedB;
  const auto* featureA = featureAlong(a, product.summedA);
  const auto* featureB = featureAlong(b, product.summedB);
  matrix->ofFeatures = featureA && featureB;
  matrix->allFeatures = matrix->ofFeatures && featureA->size == a.size(product.summedA) &&
                        featureB->size == b.size(product.summedB) && a.dim() == 3;
  auto lead = leadOf(a);
  if (!lead) lead = leadOf(b);
  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  const auto add = [&](int64_t at, int64_t size, Role role, bool feature) {
    spans[static_cast<size_t>(at)].push_back({matrix->dims(), 0, 1, size});
    matrix->sizes.push_back(size);
    matrix->roles.push_back(role);
    matrix->features.push_back(feature);
  };
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const auto size = result.size(dim);
    if (dim == product.row || dim == product.column) {
      const bool ofA = dim == product.row;
      const auto of = (ofA ? product.a : product.b)[static_cast<size_t>(dim)];
      if (ofA ? fixedA : fixedB) matrix->fixed = matrix->dims();
      add(dim, size, Role::Free, featureAlong(ofA ? a : b, of) != nullptr);
    } else if (dim == 0 && lead && lead->outer * lead->inner == size) {
      add(dim, lead->outer, Role::Lead, lead->headsFirst);
      add(dim, lead->inner, Role::Lead, !lead->headsFirst);
    } else {
      add(dim, size, Role::Lead, featureAlong(a, product.a[static_cast<size_t>(dim)]) != nullptr);
    }
  }
  auto value = std::make_shared<Value>();
  value->matrix = std::move(matrix);
  value->version = ++versions_;
  auto& note = fixedA || fixedB ? noteOf(result) : newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::move(value);
}

// ---- what was seen of it all ---------------------------------------------------------------------------------------

std::vector<Unseen> Flow::unseen() const {
  auto all = unseen_;
  for (const auto& matrix : matrices_) {
    if (matrix->met) continue;
    all.push_back({matrix->module, matrix->operatorName, matrix->sizes,
                   matrix->metNothing.empty() ? "its result met no product with values that could be followed"
                                              : matrix->metNothing});
  }
  return all;
}

}  // namespace lta::flow
