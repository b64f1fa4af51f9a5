#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "capture/flow/dimensions.h"

namespace lta::flow {
namespace {

bool areAlike(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& each) {
    return each.sizes() == tensors.front().sizes() && each.layout() == at::kStrided;
  });
}

}  // namespace

Flow::Joined Flow::joinedAlong(const std::vector<at::Tensor>& tensors, int64_t dim, const at::Tensor& result,
                               bool ofOneLayer) {
  const auto count = static_cast<int64_t>(tensors.size());
  auto sizes = tensors.front().sizes().vec();
  sizes.insert(sizes.begin() + dim, count);
  return {dim, count, result.stride(dim) * tensors.front().size(dim), ofOneLayer, std::move(sizes)};
}

void Flow::reshaped(const at::Tensor& source, const at::Tensor& result) {
  if (source.dim() > 3 && result.dim() == 3 && source.size(1) > 1 &&
      source.size(0) * source.size(1) == result.size(0)) {
    const bool first = featureAlong(source, 0) != nullptr, second = featureAlong(source, 1) != nullptr;
    const bool plain = source.dim() == 4 && source.size(2) == result.size(1) && source.size(3) == result.size(2);
    // Heads are what a layer made. An einsum has more dimensions, of size one, for what the other operand has.
    if (plain || first != second) {
      const bool guessed = first == second && isPositions(source, 1);
      noteOf(result).lead = Lead{source.size(0), source.size(1), first && !second, guessed};
    }
  }
  const auto* note = find(source);
  if (!note) return;
  if (storageOf(source) == storageOf(result)) {
    repeatedFeatures(source, result);
    return stacked(result);
  }
  if (note->context) contextBeyond(source, result);
  // A copy, in the order of the source's elements.
  if (note->features.empty() || !result.is_contiguous()) return;
  std::vector<int64_t> strides(static_cast<size_t>(source.dim()));
  int64_t stride = 1;
  for (auto dim = source.dim() - 1; dim >= 0; --dim) {
    strides[static_cast<size_t>(dim)] = stride;
    stride *= source.size(dim);
  }
  auto features = featuresAt(source, strides);
  if (features.empty()) return;
  const bool layer = note->layer;
  auto& copy = noteOf(result);
  copy.features = std::move(features);
  copy.layer = layer;
}

// What may be keys times values of a linear attention is so in a copy of another shape, if its rows still are a
// dimension; else it is what attention gave.
void Flow::contextBeyond(const at::Tensor& source, const at::Tensor& result) {
  const auto& note = *find(source);
  int64_t ahead = 1;
  for (int64_t dim = 0; dim < source.dim(); ahead *= source.size(dim++)) {
    if (source.stride(dim) != note.contextRow || source.size(dim) < 2) continue;
    int64_t there = 1;
    for (int64_t each = 0; each < result.dim(); there *= result.size(each++)) {
      if (there != ahead || result.size(each) != source.size(dim)) continue;
      const auto context = note.context;
      auto& next = noteOf(result);
      next.context = context;
      next.contextRow = result.stride(each);
      return;
    }
  }
  decide(note, false);
}

// Heads each of which was repeated, once those are a dimension with them.
void Flow::repeatedFeatures(const at::Tensor& source, const at::Tensor& result) {
  auto& note = noteOf(result);
  for (const auto& [stride, size] : note.constant) {
    for (auto& feature : note.features) {
      if (feature.stride != stride * size) continue;
      const auto whole = feature.size * size;
      for (int64_t dim = 0; dim < result.dim() && result.dim() < source.dim(); ++dim) {
        if (result.stride(dim) != stride || result.size(dim) != whole) continue;
        feature.stride = stride;
        feature.size = whole;
        feature.whole *= size;
        break;
      }
    }
  }
}

// Parts of one tensor that lie behind each other along what a layer made of it: heads that were split off. That
// feature.
const Flow::Feature* Flow::chunked(const std::vector<at::Tensor>& tensors) const {
  const auto* note = tensors.size() > 1 ? find(tensors.front()) : nullptr;
  if (!note) return nullptr;
  const auto count = static_cast<int64_t>(tensors.size());
  const auto step = tensors[1].storage_offset() - tensors[0].storage_offset();
  for (int64_t i = 1; i < count; ++i) {
    const auto &first = tensors.front(), &each = tensors[static_cast<size_t>(i)];
    if (storageOf(each) != storageOf(first) || each.sizes() != first.sizes() || each.strides() != first.strides() ||
        each.storage_offset() - first.storage_offset() != i * step) {
      return nullptr;
    }
  }
  for (const auto& feature : note->features) {
    if (step > 0 && step % feature.stride == 0 && step / feature.stride * (count - 1) < feature.size) return &feature;
  }
  return nullptr;
}

// Side by side first, then seen as a dimension of its own, as decompositions write it.
void Flow::stacked(const at::Tensor& view) {
  auto* const storage = storageOf(view);
  const auto found = notes_.find(storage);
  if (found == notes_.end() || !found->second.joined) return;
  const auto joined = *found->second.joined;
  if (view.sizes() != at::IntArrayRef(joined.stacked) || !view.is_contiguous() || view.storage_offset() != 0) return;
  auto& note = found->second;
  note.joined.reset();
  const bool layers = note.value && note.value->stage == Stage::Scores && note.value->matrix->fixed != kNone;
  if (!note.value || layers) {
    // Features of one don't go on in the next.
    for (auto& feature : note.features) {
      if (feature.stride < joined.stride) feature.size = std::min(feature.size, joined.stride / feature.stride);
    }
    if (joined.ofOneLayer) {
      note.layer = true;
    } else {
      note.features.push_back({joined.stride, joined.count, true, true, joined.count});
    }
    if (!note.value) return;
  }
  const auto all = note.layout.view(view);
  if (!all) return;
  const auto& outer = all->dims[static_cast<size_t>(joined.dim)];
  const auto& inner = all->dims[static_cast<size_t>(joined.dim + 1)];
  if (outer.size() != 1 || inner.size() > 1 || outer.front().span.dim == kForeign) return;
  const auto split = outer.front().span.dim;
  if (!inner.empty() && inner.front().span.dim != split) return;
  const auto& old = *note.value->matrix;
  auto matrix = old.relative();
  matrix->parents = {note.value->matrix};
  const auto now = [&](int64_t dim) { return dim == kNone || dim < split ? dim : dim + 1; };
  for (int64_t dim = 0; dim < old.dims(); ++dim) {
    const auto was = static_cast<size_t>(dim);
    if (dim == split) {
      matrix->sizes.push_back(joined.count);
      matrix->roles.push_back(Role::Lead);
      matrix->features.push_back(false);
      matrix->copied.push_back(false);
    }
    matrix->sizes.push_back(dim == split ? old.sizes[was] / joined.count : old.sizes[was]);
    matrix->roles.push_back(old.roles[was]);
    matrix->features.push_back(old.isFeature(dim));
    matrix->copied.push_back(old.isCopied(dim));
  }
  matrix->key = now(old.key);
  matrix->query = now(old.query);
  matrix->fixed = now(old.fixed);
  std::vector<std::vector<Span>> spans;
  for (int64_t dim = 0; dim < view.dim(); ++dim) {
    auto& at = spans.emplace_back();
    if (dim == joined.dim) {
      at.push_back({split, 0, 1, joined.count});
      continue;
    }
    for (const auto& component : all->dims[static_cast<size_t>(dim)]) {
      auto span = component.span;
      span.dim = span.dim == kForeign ? kForeign : now(span.dim);
      at.push_back(span);
    }
  }
  Value value = *note.value;
  value.normalized = now(value.normalized);
  value.lessLogSum = now(value.lessLogSum);
  value.matrix = std::move(matrix);
  note.layout = layoutOf(view, spans, {});
  note.value = std::make_shared<Value>(std::move(value));
}

// Whether the same layer made all of them, as in the steps of a recurrence.
bool Flow::areOfOneLayer(const std::vector<at::Tensor>& tensors) const {
  const void* by = nullptr;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note || !note->by || (by && by != note->by)) return false;
    by = note->by;
  }
  return by != nullptr;
}

bool Flow::areOfLayers(const std::vector<at::Tensor>& tensors) const {
  return std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    return note && note->layer && note->by;
  });
}

// What stands side by side has the features of any of them; where all are parts of one, or one layer made all of them,
// what they are side by side is told as well.
void Flow::joinedFeatures(const Call& call, const std::vector<at::Tensor>& tensors, int64_t dim,
                          const at::Tensor& result) {
  if (tensors.empty()) return;
  const bool stacks = call.rule.does == Does::Stacks, alike = areAlike(tensors);
  // Those of one, as they stand in the result.
  const auto partFeatures = [&] {
    std::vector<Feature> features;
    for (int64_t each = 0; each < tensors.front().dim(); ++each) {
      if (const auto* feature = featureAlong(tensors.front(), each)) {
        features.push_back(*feature);
        features.back().stride = result.stride(each < dim || !stacks ? each : each + 1);
        features.back().size = tensors.front().size(each);
      }
    }
    return features;
  };
  const auto* const chunk = alike ? chunked(tensors) : nullptr;
  const bool ofOneLayer = areOfOneLayer(tensors);
  if (chunk || (stacks && ofOneLayer)) {
    auto features = partFeatures();
    // Heads that were split off; else one after the other: positions.
    if (chunk) {
      const auto count = static_cast<int64_t>(tensors.size());
      const auto step = stacks ? result.stride(dim) : result.stride(dim) * tensors.front().size(dim);
      features.push_back({step, count, chunk->layer, false, count});
    }
    const auto* const by = find(tensors.front())->by;
    auto& note = noteOf(result);
    note.features = std::move(features);
    note.layer = true;
    note.by = by;
    return;
  }
  if (stacks && result.size(dim) > 1) {
    noteOf(result).features.push_back({result.stride(dim), result.size(dim), true, true, result.size(dim)});
    return;
  }
  if (tensors.front().dim() == result.dim()) {
    std::vector<Feature> features;
    for (int64_t each = 0; each < result.dim(); ++each) {
      const Feature* feature = nullptr;
      for (size_t i = 0; i < tensors.size() && !feature; ++i) {
        const bool known = tensors[i].dim() == result.dim() && tensors[i].stride(each) != 0;
        if (known) feature = featureAlong(tensors[i], each);
      }
      if (!feature) continue;
      const auto whole = each == dim ? result.size(each) : feature->whole;
      features.push_back(*feature);
      features.back().stride = result.stride(each);
      features.back().size = result.size(each);
      features.back().whole = whole;
    }
    // What different layers gave, unsqueezed and put side by side, is a stack that was written another way.
    const bool unsqueezed = alike && !ofOneLayer && tensors.size() > 1 && tensors.front().size(dim) == 1;
    if (unsqueezed && areOfLayers(tensors)) {
      features.push_back({result.stride(dim), result.size(dim), true, true, result.size(dim)});
    }
    if (!features.empty()) noteOf(result).features = std::move(features);
  }
  if (alike && tensors.size() > 1 && storageOf(result))
    noteOf(result).joined = joinedAlong(tensors, dim, result, ofOneLayer);
}

void Flow::joined(const Call& call, const at::Tensor& result) {
  if (!call.arguments[0].isTensorList()) return;
  const auto tensors = call.arguments[0].toTensorVector();
  const auto dim = wrapped(call.argument("dim").value_or(0).toInt(), result.dim());
  const bool stacks = call.rule.does == Does::Stacks;
  Operand source;
  std::vector<MatrixPtr> others;
  bool all = true, layers = true;
  for (const auto& tensor : tensors) {
    auto operand = operandOf(tensor);
    if (!operand) {
      all = false;
      if (operand.note && operand.note->context) decide(*operand.note, false);
      continue;
    }
    layers = layers && isLayers(operand);
    if (!source) {
      source = std::move(operand);
    } else if (operand.value().matrix != source.value().matrix) {
      others.push_back(operand.value().matrix);
    }
  }
  // What layers without a bias gave may be scores of slots, but is features above all.
  if (!source) return joinedFeatures(call, tensors, dim, result);
  std::vector<int64_t> from;
  std::vector<bool> changed;
  for (int64_t each = 0; each < result.dim(); ++each) {
    from.push_back(!stacks ? each : each == dim ? kForeign : each > dim ? each - 1 : each);
    changed.push_back(!stacks && each == dim);
  }
  Value value = source.value();
  value.last = std::make_shared<Step>(call.name, value.last);
  value.version = ++versions_;
  const bool alongKeys = !stacks && source.view->has(dim, source.matrix().key);
  if (value.stage == Stage::Weights && (alongKeys || !all)) {
    value.kind = loosened(value.kind);
    value.normalized = kNone;
  }
  const bool isOuter = source.value().stage == Stage::Scores && source.matrix().outer;
  follow(source, result, from, changed, /*combined=*/true, std::move(value), others);
  if (!stacks) joinedQueries(tensors, dim, result);
  if (layers) return joinedFeatures(call, tensors, dim, result);
  if (!stacks && areAlike(tensors) && all && !others.empty() && !alongKeys && operandOf(result)) {
    noteOf(result).joined = joinedAlong(tensors, dim, result, /*ofOneLayer=*/false);
  }
  // Features and their products, as a feature map.
  if (isOuter && !stacks && !operandOf(result)) joinedFeatures(call, tensors, dim, result);
}

// Keys of several products side by side: a dimension that is queries of any of them is, as where a pixel attends to its
// row and its column.
void Flow::joinedQueries(const std::vector<at::Tensor>& tensors, int64_t along, const at::Tensor& result) {
  const auto joined = operandOf(result);
  if (!joined || joined.value().stage != Stage::Scores) return;
  auto& matrix = joined.matrix();
  const auto only = [](const Operand& operand, int64_t dim) {
    const auto& components = operand.view->dims[static_cast<size_t>(dim)];
    return components.size() == 1 ? components.front().span.dim : kForeign;
  };
  for (const auto& tensor : tensors) {
    const auto operand = operandOf(tensor);
    if (!operand || tensor.dim() != result.dim()) continue;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto here = only(joined, dim), there = only(operand, dim);
      if (dim == along || here == kForeign || there == kForeign) continue;
      auto& role = matrix.roles[static_cast<size_t>(here)];
      const bool isQueries =
          operand.matrix().roles[static_cast<size_t>(there)] == Role::Free && !operand.matrix().isFeature(there);
      if (role != Role::Lead || !isQueries || matrix.isFeature(here)) continue;
      role = Role::Free;
      matrix.queryGrid = true;
    }
  }
  // With these for queries, no dimension is left but the batch that may be heads.
  if (matrix.queryGrid && std::count(matrix.roles.begin(), matrix.roles.end(), Role::Lead) < 2) {
    matrix.headsGuessed = false;
  }
}

// Dimensions that aren't indexed are what they were.
void Flow::indexedFeatures(const Call& call, const at::Tensor& source, const at::Tensor& result) {
  const auto indexed = indexedDims(call, result.dim());
  if (!indexed || storageOf(source) == storageOf(result)) return;
  if (indexed->keeps && featureAlong(source, indexed->first)) return;
  auto features = sharedFeatures(source, indexed->from, result);
  const bool layer = find(source)->layer;
  if (features.empty() && !layer) return;
  auto& made = noteOf(result);
  made.features = std::move(features);
  made.layer = layer;
}

// What stays of features where some coordinates are picked, or some are added.
void Flow::pickedFeatures(const Call& call, const at::Tensor& source, const at::Tensor& result) {
  const auto does = call.rule.does;
  if (does == Does::Indexes) return indexedFeatures(call, source, result);
  const bool keeps = does == Does::Picks || does == Does::Selects || does == Does::Pads || does == Does::Repeats;
  const bool scatters = call.name == "scatter";
  if (!keeps && !scatters) return;
  copyFeatures(source, result);
  const auto dim = call.argument("dim");
  if ((!scatters && call.name != "sort") || !dim || !dim->isInt() || !find(result)) return;
  // Put into others, or sorted, those are some that were chosen.
  const auto stride = result.stride(wrapped(dim->toInt(), result.dim()));
  for (auto& feature : noteOf(result).features) feature.chosen = feature.chosen || feature.stride == stride;
}

// What picks coordinates along some dimensions, or adds some.
void Flow::indexed(const Call& call, const at::Tensor& result) {
  const auto tellChoice = [&](const at::Tensor& index) {
    const auto* note = find(index);
    if (note && note->chosen) chosen(note->chosen);
  };
  for (const auto& argument : call.arguments) {
    if (argument.isTensor()) tellChoice(argument.toTensor());
    if (!argument.isList()) continue;
    for (const c10::IValue& each : argument.toListRef()) {
      if (each.isTensor()) tellChoice(each.toTensor());
    }
  }
  const auto source = operandOf(call.tensor(static_cast<size_t>(call.rule.operand)));
  if (!source) {
    if (source.note && source.note->context) decide(*source.note, false);
    if (call.rule.does == Does::Scatters) {
      const auto into = operandOf(call.tensor(0));
      if (into) return elementwise(call, result);
      if (into.note) pickedFeatures(call, into.tensor, result);
    }
    if (source.note && source.note->raised && call.rule.does == Does::Scatters) {
      noteOf(result).raisedSum = RaisedSum{source.note->raised->of, kNone};
    } else if (source.note && source.note->raisedSum) {
      noteOf(result).raisedSum = source.note->raisedSum;
    }
    if (source.note) pickedFeatures(call, source.tensor, result);
    return;
  }
  const auto dims = source.tensor.dim();
  auto from = identity(result.dim());
  std::vector<bool> changed(from.size(), false);
  Value value = source.value();
  value.last = std::make_shared<Step>(call.name, value.last);
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
    case Does::Resamples: {
      if (result.dim() != dims) return;
      for (int64_t dim = 0; dim < dims; ++dim) {
        changed[static_cast<size_t>(dim)] = source.tensor.size(dim) != result.size(dim);
      }
      loosen();
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
    default: {
      const auto picked = indexedDims(call, result.dim());
      if (!picked) return;
      from = picked->from;
      changed.assign(from.size(), false);
      if (picked->keeps) {
        changed[static_cast<size_t>(picked->first)] = true;
        if (source.view->has(picked->first, matrix.key)) {
          if (matrix.layerKeys) return;
          loosen();
        }
      } else {
        for (int64_t each = picked->first; each < picked->first + picked->count; ++each) {
          if (source.view->has(each, matrix.key) || source.view->has(each, matrix.query)) return;
        }
      }
    }
  }
  // Of slots, or of the experts of a router without a bias.
  auto choosesAlong = value.stage == Stage::Scores ? matrix.fixed : matrix.fixedKeys ? matrix.key : kNone;
  if (matrix.generated || call.rule.does == Does::Scatters) choosesAlong = kNone;
  const bool choosesKeys =
      (matrix.fromScores && (call.name == "topk" || call.name == "sort")) ||
      (choosesAlong != kNone && std::any_of(from.begin(), from.end(), [&](int64_t dim) {
         return dim >= 0 && changed[static_cast<size_t>(dim)] && source.view->has(dim, choosesAlong);
       }));
  const bool layers = isLayers(source);
  std::vector<MatrixPtr> others;
  // What it is written into may hold parts that were written before.
  if (call.rule.does == Does::Scatters) {
    if (const auto into = operandOf(call.tensor(0))) {
      others.push_back(into.value().matrix);
      value.normalized = kNone;
    }
  }
  follow(source, result, from, changed, /*combined=*/true, std::move(value), std::move(others));
  if (layers && find(source.tensor)) pickedFeatures(call, source.tensor, result);
  if (!choosesKeys) return;
  if (const auto chosen = operandOf(result)) chosen.matrix().chosenKeys = true;
}

// Channels ahead of the places of a window.
void Flow::unfolded(const Call& call, const at::Tensor& result) {
  const auto given = call.tensor(0);
  const auto channels = given.dim() > 3 ? given.size(-3) : 0;
  if (channels < 2 || !featureAlong(given, given.dim() - 3) || result.size(-2) % channels != 0) return;
  auto& note = newNote(result);
  note.layer = true;
  note.features = {{result.stride(-2) * (result.size(-2) / channels), channels, true, false, channels}};
}

void Flow::convolved(const Call& call, const at::Tensor& result) {
  usedAsKernel(call.tensor(1));
  const auto source = operandOf(call.tensor(0));
  const auto kernel = operandOf(call.tensor(1));
  if (kernel && kernel.value().stage == Stage::Weights) {
    listMatrix(kernel.matrix(), "its result is the kernel of a convolution");
    return;
  }
  // What a product gave for each query, or a layer for each position, is an activation, whose channels are mixed.
  const bool channels =
      source && std::any_of(source.view->dims[1].begin(), source.view->dims[1].end(), [&](const Component& component) {
        const auto dim = component.span.dim;
        return dim != kForeign && source.matrix().roles[static_cast<size_t>(dim)] == Role::Free;
      });
  if (!source || (channels && isLayers(source))) {
    if (source.note && source.note->context) decide(*source.note, false);
    raisedMixed(call.tensor(0), call.tensor(1), result);
    // Channels are a layer's.
    if (result.dim() > 2 && isFixed(call.tensor(1))) {
      // Heads that stand in the batch stay there.
      auto features = sharedFeatures(call.tensor(0), {0}, result);
      auto& note = noteOf(result);
      note.layer = true;
      note.by = placeOf(call.tensor(1));
      if (result.size(1) > 1) {
        features.push_back({result.stride(1), result.size(1), true, false, result.size(1)});
        note.features = std::move(features);
      }
    }
    return;
  }
  const auto& matrix = source.matrix();
  if (result.dim() < 3 || source.tensor.dim() != result.dim() || source.view->has(1, matrix.key) ||
      source.view->has(1, matrix.query) || channels) {
    return;
  }
  std::vector<bool> changed(static_cast<size_t>(result.dim()), false);
  for (int64_t dim = 1; dim < result.dim(); ++dim) {
    changed[static_cast<size_t>(dim)] = source.tensor.size(dim) != result.size(dim);
  }
  changed[1] = true;
  Value value = source.value();
  value.last = std::make_shared<Step>(call.name, value.last);
  value.version = ++versions_;
  if (value.stage != Stage::Scores) {
    value.kind = Kind::Signed;
    value.normalized = kNone;
  }
  follow(source, result, identity(result.dim()), changed, /*combined=*/true, std::move(value));
}

}  // namespace lta::flow
