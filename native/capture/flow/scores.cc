#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "capture/flow/dimensions.h"
#include "torch/own_computation.h"

namespace lta::flow {
namespace {

// Whether a table of constants is one matrix, and not one for each expert or head.
bool isOneMatrix(const at::Tensor& table) {
  for (int64_t dim = 0; dim < table.dim() - 2; ++dim) {
    if (table.size(dim) > 1 && table.stride(dim) != 0) return false;
  }
  return true;
}

// Whether a table holds the same for each sample: one that was repeated, or that an exporter computed for a batch.
bool isRepeatedForBatch(const at::Tensor& table, int64_t dim) {
  constexpr int64_t kMostElements = 1 << 20;
  if (dim != 0 || table.dim() < 3 || !table.is_cpu() || table.numel() > kMostElements) return false;
  const OwnComputation own;
  const auto values = table.detach();
  return at::equal(values.narrow(0, 0, 1).expand_as(values), values);
}

}  // namespace

// An outer product of features written out, as the states of recurrences are: keys times values of a linear attention.
bool Flow::outer(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does != Does::Scales || tensors.size() != 2 || isFixed(tensors[0]) || isFixed(tensors[1])) return false;
  // The dimension that is one operand's alone, a feature of it.
  const auto own = [&](const at::Tensor& tensor, const at::Tensor& other) {
    for (auto dim = result.dim() - 1; dim >= 0; --dim) {
      const auto here = aligned(tensor, result, dim), there = aligned(other, result, dim);
      if (here >= 0 && (there < 0 || other.size(there) == 1) && featureAlong(tensor, here)) return dim;
    }
    return kNone;
  };
  const auto row = own(tensors[0], tensors[1]), column = own(tensors[1], tensors[0]);
  if (row == kNone || column == kNone || !storageOf(result)) return false;
  auto matrix = std::make_shared<Matrix>();
  matrix->operatorName = call.name;
  matrix->module = modules_.current();
  matrix->fromScores = matrix->outer = true;
  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const bool free = dim == row || dim == column;
    spans[static_cast<size_t>(dim)].push_back({dim, 0, 1, result.size(dim)});
    matrix->sizes.push_back(result.size(dim));
    matrix->roles.push_back(free ? Role::Free : Role::Lead);
    matrix->features.push_back(free);
  }
  auto value = std::make_shared<Value>();
  value->matrix = std::move(matrix);
  value->version = ++versions_;
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::move(value);
  return true;
}

// Of what a layer makes, the features that aren't summed over. `from`: which dimension of `source` each of the result's
// is.
std::vector<Flow::Feature> Flow::sharedFeatures(const at::Tensor& source, const std::vector<int64_t>& from,
                                                const at::Tensor& result) const {
  if (!find(source)) return {};
  std::vector<int64_t> strides(static_cast<size_t>(source.dim()), 0);
  for (size_t dim = 0; dim < from.size(); ++dim) {
    if (from[dim] >= 0) strides[static_cast<size_t>(from[dim])] = result.stride(static_cast<int64_t>(dim));
  }
  auto features = featuresAt(source, strides);
  std::erase_if(features, [](const Feature& feature) { return feature.stride == 0; });
  return features;
}

void Flow::productRan(const Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                      const at::Tensor& result, bool consumed) {
  // Attention of constants to constants is one.
  if (consumed && isFixed(a) && isFixed(b)) return fixed_.add(result);
  if (consumed || !storageOf(result) || result.is_nested() || a.is_nested() || b.is_nested() || result.dim() == 0)
    return;
  if (!result.is_floating_point() && !result.is_quantized()) return;
  products(rule, name, a, b, result);
  if (rule.does != Does::Linear) raisedMixed(a, b, result);
}

void Flow::products(const Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                    const at::Tensor& result) {
  auto fixedA = isFixed(a), fixedB = isFixed(b);
  if (fixedA && fixedB) return fixedProduct(a, b, result);
  if (const auto* note = find(a); rule.does == Does::Linear && fixedB && b.dim() == 2 && !(note && note->value)) {
    // A layer, as most products are.
    std::vector<Feature> features;
    if (b.size(0) > 1) features.push_back({result.stride(-1), b.size(0), true, false, b.size(0)});
    // A layer that heads share leaves them where they were.
    for (auto& feature : sharedFeatures(a, identity(a.dim() - 1), result)) {
      features.push_back(feature);
      features.back().scored = feature.stacked;
    }
    auto& made = newNote(result);
    made.layer = true;
    made.by = placeOf(b);
    made.features = std::move(features);
    return;
  }
  const auto product = productOf(rule.does, a, b);
  if (static_cast<int64_t>(product.a.size()) != result.dim()) return;
  // What a linear attention gives is no scores.
  for (const auto& [tensor, summed] : {std::pair(&a, product.summedA), std::pair(&b, product.summedB)}) {
    const auto* note = find(*tensor);
    if (!note || !note->context || tensor->dim() < 2) continue;
    if (tensor->size(summed) > 1 && tensor->stride(summed) == note->contextRow) return;
  }
  const auto operandA = operandOf(a), operandB = operandOf(b);
  // Weights of a layer that each sample has its own of: experts that a router picked, a hypernetwork's.
  const auto along = [](const std::vector<int64_t>& dims, int64_t dim) {
    return dim < 0 ? kForeign : dims[static_cast<size_t>(dim)];
  };
  bool generated = false;
  if (!fixedA && !fixedB) {
    const bool tableA = isTable(a), tableB = isTable(b);
    const bool madeA = !tableA && !tableB && isGenerated(a, product.summedA, along(product.a, product.row));
    const bool madeB = !tableA && !tableB && isGenerated(b, product.summedB, along(product.b, product.column));
    generated = madeA != madeB;
    if (generated) usedAsKernel(madeA ? a : b);
    fixedA = tableA || (generated && madeA);
    fixedB = tableB || (generated && madeB);
  } else if (isTable(fixedA ? b : a)) {
    fixedA = fixedB = true;
  }
  if (fixedA && fixedB) {
    newNote(result).table = true;
    return;
  }

  if (scaledByDiagonal(name, operandA, product.a, product.summedA, b, product.b, product.column, result) ||
      scaledByDiagonal(name, operandB, product.b, product.summedB, a, product.a, product.row, result)) {
    return;
  }
  if (areComposed(operandA, operandB, product)) return composed(name, operandA, operandB, product, result);
  const bool summedOver = product.row >= 0 || product.column >= 0;
  if (!fixedA && !fixedB && summedOver && gatedProduct(name, a, b, product, result)) return;

  // Over heads: weights are mixed, and go on.
  for (const auto& [operand, from, summed] :
       {std::tuple(&operandA, &product.a, product.summedA), std::tuple(&operandB, &product.b, product.summedB)}) {
    // What a table of constants gave is an activation, too, beside another one.
    if (!*operand || (isLayers(*operand) && !(operand == &operandA ? fixedB : fixedA))) continue;
    const auto& matrix = operand->matrix();
    bool mixes = true, own = false;
    for (const auto& component : operand->view->dims[static_cast<size_t>(summed)]) {
      const auto dim = component.span.dim;
      own = own || dim != kForeign;
      mixes = mixes && dim != matrix.key && dim != matrix.query &&
              (dim == kForeign || matrix.roles[static_cast<size_t>(dim)] != Role::Free);
    }
    // What it was multiplied by may have that dimension alone: features of values that weren't summed over the keys.
    mixes = mixes && own && !operand->note->multiplied;
    if (operand->value().stage == Stage::Scores && !mixes) {
      // Two products and no function between.
      for (const auto& component : operand->view->dims[static_cast<size_t>(summed)]) {
        const auto dim = component.span.dim;
        if (dim == kForeign || matrix.roles[static_cast<size_t>(dim)] != Role::Free || matrix.fixed != kNone) continue;
        if (operand == &operandA ? fixedB : fixedA) continue;
        // Of low rank: both factors were features, and so is what they gave.
        if (matrix.isFeature(dim) && matrix.ofFeatures && !matrix.outer) break;
        if (matrix.isFeature(dim)) {
          listMatrix(operand->matrix(), matrix.outer ? kRecurrence : kLinear);
        } else if (matrix.ofFeatures) {
          listMatrix(operand->matrix(), "no function makes weights of the scores before they multiply the values");
        }
        return;
      }
      continue;
    }
    const bool free =
        std::any_of(matrix.roles.begin(), matrix.roles.end(), [](Role role) { return role == Role::Free; });
    if (!mixes || matrix.dims() < 3 || (operand->value().stage == Stage::Scores && !free)) continue;
    std::vector<bool> changed(from->size(), false);
    Value value = operand->value();
    value.last = std::make_shared<Step>(name, value.last);
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
    const auto own = fixedA ? product.row : product.column;
    auto shared = sharedFeatures(fixedA ? b : a, fixedA ? product.b : product.a, result);
    for (auto& feature : shared) feature.scored = feature.stacked;
    const bool byTable = isTable(fixedA ? a : b);
    auto& note = newNote(result);
    note.byTable = byTable;
    note.layer = layer || own < 0 || isOneMatrix(fixedA ? a : b);
    note.by = placeOf(fixedA ? a : b);
    if (note.layer) note.features = std::move(shared);
    auto whole = own >= 0 ? result.size(own) : 1;
    // Experts, each with a matrix of its own.
    const auto& table = fixedA ? a : b;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto of = (fixedA ? product.a : product.b)[static_cast<size_t>(dim)];
      const bool differs =
          dim != own && of >= 0 && table.size(of) > 1 && table.stride(of) != 0 && result.size(dim) == table.size(of);
      if (differs && byTable) note.tables.emplace_back(result.stride(dim), result.size(dim));
      if (differs && isFixed(table) && !isRepeatedForBatch(table, of)) {
        note.features.push_back({result.stride(dim), result.size(dim), layer, false, result.size(dim)});
        whole *= result.size(dim);
      }
    }
    if (own >= 0 && !rule.biased) mixesRows(fixedA ? operandB : operandA, table, own, result);
    if (own >= 0 && result.size(own) > 1) {
      note.features.push_back({result.stride(own), result.size(own), layer, false, whole});
    }
    if (layer || own < 0) return;
  }
  if (product.row < 0 && product.column < 0) return;

  // Scores, as long as nothing says otherwise.
  auto matrix = std::make_shared<Matrix>();
  matrix->operatorName = name;
  matrix->module = modules_.current();
  matrix->fromScores = generated || (!fixedA && !fixedB);
  if (generated) matrix->generated = storageOf(fixedA ? a : b);
  const auto* featureA = featureAlong(a, product.summedA);
  const auto* featureB = featureAlong(b, product.summedB);
  matrix->ofFeatures = featureA && featureB;
  matrix->overOne = a.size(product.summedA) == 1;
  matrix->outer = matrix->overOne && product.row >= 0 && product.column >= 0 &&
                  featureAlong(a, product.a[static_cast<size_t>(product.row)]) &&
                  featureAlong(b, product.b[static_cast<size_t>(product.column)]);
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
      const bool fixed = ofA ? fixedA : fixedB;
      if (fixed) matrix->fixed = matrix->dims();
      // Positions times heads, where heads share their keys.
      const auto parts = fixed ? std::vector<FeaturePart>() : featureParts(ofA ? a : b, of);
      const bool heads =
          std::any_of(parts.begin(), parts.end(), [](const FeaturePart& part) { return mayBeHeads(part.feature); });
      for (const auto& part : parts) {
        if (heads) add(dim, part.size, mayBeHeads(part.feature) ? Role::Lead : Role::Free, mayBeHeads(part.feature));
      }
      const auto& operand = ofA ? operandA : operandB;
      const bool layerKey = operand && operand.matrix().layerKeys && operand.view->has(of, operand.matrix().key);
      if (!heads) add(dim, size, Role::Free, layerKey || featureAlong(ofA ? a : b, of) != nullptr);
    } else if (dim == 0 && lead && lead->outer * lead->inner == size) {
      add(dim, lead->outer, Role::Lead, lead->headsFirst);
      add(dim, lead->inner, Role::Lead, !lead->headsFirst && !lead->guessed);
      matrix->headsGuessed = lead->guessed && lead->inner > 1;
    } else {
      const auto ofA = product.a[static_cast<size_t>(dim)], ofB = product.b[static_cast<size_t>(dim)];
      const auto *featureA = featureAlong(a, ofA), *featureB = featureAlong(b, ofB);
      const bool along = featureA || featureB;
      auto parts = along ? std::vector<FeaturePart>() : featureParts(a, ofA);
      if (!along && parts.empty()) parts = featureParts(b, ofB);
      for (const auto& part : parts) add(dim, part.size, Role::Lead, mayBeHeads(part.feature));
      if (parts.empty()) add(dim, size, Role::Lead, mayBeHeads(featureA) || mayBeHeads(featureB));
    }
  }
  bool heads = false;
  for (int64_t dim = 0; dim < matrix->dims(); ++dim) {
    heads =
        heads || (matrix->roles[static_cast<size_t>(dim)] == Role::Lead && matrix->features[static_cast<size_t>(dim)]);
  }
  matrix->allFeatures = matrix->ofFeatures && !heads && featureA->whole == a.size(product.summedA) &&
                        featureB->whole == b.size(product.summedB);
  // A layer that was applied to each of them may have heads for positions.
  const auto last = result.dim() - 3;
  if (!heads && last > 0 && result.size(last) > 1) {
    const auto isGuess = [&](const at::Tensor& tensor, const std::vector<int64_t>& from) {
      return isPositions(tensor, from[static_cast<size_t>(last)]) || isOutOfOrder(tensor, from, last);
    };
    // Nor does anything tell blocks from heads where no layer is known.
    const auto hasFeatures = [&](const at::Tensor& tensor) {
      const auto* note = find(tensor);
      return note && !note->features.empty();
    };
    const bool mayBeBlocks = last > 1 && !hasFeatures(a) && !hasFeatures(b);
    matrix->headsGuessed = mayBeBlocks || isGuess(a, product.a) || isGuess(b, product.b);
  }
  matrix->ofPositions = !heads && last == 0 && (isPositions(a, product.a[0]) || isPositions(b, product.b[0]));
  if (!fixedA && !fixedB) gatesOfSlots(matrix, a, b, product);
  auto value = std::make_shared<Value>();
  value->matrix = std::move(matrix);
  value->version = ++versions_;
  auto& note = fixedA || fixedB ? noteOf(result) : newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::move(value);
}

}  // namespace lta::flow
