#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/elements.h"
#include "capture/flow/flow.h"

namespace lta::flow {
namespace {

constexpr const char* kGates =
    "weights of positions that no softmax made: they multiplied values that were summed over the positions";
constexpr const char* kOnes =
    "a softmax over a single number, which is always one: it multiplied values that were summed over the positions";
constexpr const char* kOfALayer =
    "a layer made the dimension that the softmax runs over, of positions: each channel has weights of its own";
constexpr const char* kPairs =
    "weights of pairs of positions that a layer made, without a softmax: they multiplied values that were summed over "
    "the positions";

// Which dimension of an operand a dimension of the product is.
int64_t ownOf(const std::vector<int64_t>& dims, int64_t own) {
  return own < 0 ? kNone : dims[static_cast<size_t>(own)];
}

}  // namespace

// Whether a softmax runs over positions that a layer made of positions, each channel's by itself, and multiplies as
// many.
bool Flow::isOverPositionsOfALayer(const Operand& gate, const at::Tensor& values) const {
  const auto& matrix = gate.matrix();
  if (!(matrix.layerKeys || matrix.fixedKeys) || !isOfOtherKeys(gate) || gate.tensor.dim() < 3) return false;
  if (gate.tensor.sizes() != values.sizes() || operandOf(values)) return false;
  bool beside = false;
  for (int64_t dim = 0; dim < values.dim(); ++dim) {
    if (!gate.view->has(dim, matrix.key)) {
      beside = beside || (dim > 0 && values.size(dim) > 1);
    } else if (featureAlong(values, dim)) {
      return false;
    }
  }
  // Where they are classes, ones mark one of them.
  return beside && !areMarks(values);
}

// What a layer made of each position, one number or a few, multiplies values that have features beside the positions.
// If the sum over the positions follows, these are weights. (Gates of channels are the same at each position.)
void Flow::gated(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  const bool keeps = call.rule.does == Does::Scales || call.rule.does == Does::Copies;
  if (!keeps || tensors.empty() || !storageOf(result) || result.layout() != at::kStrided || result.is_nested()) return;
  for (size_t place = 0; place < tensors.size() && place < 2; ++place) {
    const auto& gate = tensors[place];
    if (const auto* note = find(gate); note && note->gated && gate.sizes() == result.sizes() &&
                                       gate.strides() == result.strides() && storageOf(gate) != storageOf(result)) {
      noteOf(result).gated = note->gated;
      return;
    }
    if (tensors.size() != 2 || gate.dim() == 0 || isFixed(gate) || isFixed(tensors[1 - place])) continue;
    const auto& values = tensors[1 - place];
    if (const auto* note = find(values); note && note->raised) continue;  // densities
    const auto operand = operandOf(gate);
    auto made = std::make_shared<Gated>();
    bool features = false;
    for (auto dim = result.dim() - 1; dim >= 0; --dim) {
      const auto here = aligned(gate, result, dim), there = aligned(values, result, dim);
      const bool inGate = varies(gate, here), inValues = there >= 0 && values.size(there) > 1;
      features = features || (inValues && !inGate);
      if (!inGate || !inValues || !isGatePosition(operand, here)) continue;
      const auto stride = result.stride(dim), size = result.size(dim);
      if (!made->positions.empty() && stride == made->positions.back().first * made->positions.back().second) {
        made->positions.back().second *= size;
      } else {
        made->positions.emplace_back(stride, size);
      }
    }
    if (!features && operand && isOverPositionsOfALayer(operand, values)) {
      made->positions.clear();
      const auto& matrix = operand.matrix();
      for (int64_t dim = 0; dim < result.dim() && made->positions.empty(); ++dim) {
        const auto here = aligned(gate, result, dim);
        if (here < 0 || !operand.view->has(here, matrix.key)) continue;
        made->positions.emplace_back(result.stride(dim), result.size(dim));
        features = true;
      }
      made->reason = kOfALayer;
    }
    if (!features || made->positions.empty()) continue;
    made->sizes = gate.sizes().vec();
    const bool ofSoftmax = operand && !isLayers(operand);
    made->operatorName = ofSoftmax ? operand.matrix().operatorName : call.name;
    if (!made->reason) made->reason = !ofSoftmax ? kGates : isOfOneKey(operand) ? kOnes : kSharedOut;
    if (made->reason == kSharedOut || made->reason == kOfALayer) made->softmax = operand.value().matrix;
    noteOf(result).gated = std::move(made);
    return;
  }
}

// Tells what a sigmoid made of a layer, or is that in another form.
void Flow::gates(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (tensors.empty() || !storageOf(result)) return;
  const auto& gate = tensors.front();
  const auto* const note = find(gate);
  if (!note || gate.sizes() != result.sizes()) return;
  const auto operand = operandOf(gate);
  const bool made = call.rule.does == Does::Sigmoid && note->layer && (!operand || isLayers(operand));
  const bool normalized = call.rule.does == Does::Scales && tensors.size() > 1 && tensors[1].numel() < gate.numel();
  const bool keeps = call.rule.does == Does::Copies || call.rule.does == Does::Masks || normalized;
  const bool still = made || (keeps && note->gates);
  if (still || storageOf(gate) == storageOf(result)) noteOf(result).gates = still;
}

// Whether it has gates for each position, of several slots: a product that sums over the positions mixes their values.
bool Flow::gatesSlots(const at::Tensor& gates, int64_t summed, int64_t own, const at::Tensor& values,
                      int64_t keys) const {
  const auto* const note = find(gates);
  return note && note->gates && isGatePosition(operandOf(gates), summed) && !featureAlong(values, keys) &&
         (own < 0 || featureAlong(gates, own)) && !operandOf(values) && !(find(values) && find(values)->gates);
}

// Unless queries read what such a product gave (a linear attention), it is told of.
void Flow::gatesOfSlots(const MatrixPtr& scores, const at::Tensor& a, const at::Tensor& b, const Product& product) {
  const auto ownA = ownOf(product.a, product.row), ownB = ownOf(product.b, product.column);
  if (!gatesSlots(a, product.summedA, ownA, b, product.summedB) &&
      !gatesSlots(b, product.summedB, ownB, a, product.summedA)) {
    return;
  }
  scores->metNothing = kGates;
  matrices_.push_back(scores);
}

// What two layers made was multiplied, feature by feature, and is added up over positions here.
void Flow::pooled(const Call& call, const at::Tensor& result) {
  const bool adds = call.rule.does == Does::Sums || call.rule.does == Does::Averages || call.name == "cumsum";
  const auto tensor = call.tensor(0);
  const auto* const note = find(tensor);
  if (!adds || !note || !note->writtenOut || note->raised) return;
  if (note->writtenOut->constant || note->writtenOut->bothOwn) return;
  const auto argument = call.argument("dim");
  const auto dims = argument ? intsOf(*argument) : std::vector<int64_t>();
  const auto view = note->writtenOut->layout.view(tensor);
  if (dims.size() != 1 || !view) return;
  const auto& written = note->writtenOut->dims;
  const auto& summed = view->dims[static_cast<size_t>(wrapped(dims.front(), tensor.dim()))];
  const bool positions = std::all_of(summed.begin(), summed.end(), [&](const Component& component) {
    const auto of = component.span.dim;
    return of != kForeign && written[static_cast<size_t>(of)].contracted && !written[static_cast<size_t>(of)].feature;
  });
  const bool features = std::any_of(written.begin(), written.end(), [](const auto& each) { return each.ofFeatures; });
  if (summed.empty() || !positions || !features) return;
  auto made = std::make_shared<Pooled>(Pooled{note->writtenOut->operatorName, tensor.sizes().vec()});
  noteOf(result).pooled = std::move(made);
}

// Whether what a layer made of each position multiplies that.
void Flow::pooledRead(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does != Does::Scales && call.rule.does != Does::Copies) return;
  for (size_t place = 0; place < tensors.size(); ++place) {
    const auto* const note = find(tensors[place]);
    if (!note || !note->pooled) continue;
    const auto pooled = note->pooled;
    for (const auto& other : tensors) {
      const auto* const beside = find(other);
      if (other.is_same(tensors[place]) || !beside || !beside->layer || other.dim() == 0) continue;
      for (int64_t dim = 0; dim < result.dim(); ++dim) {
        const auto there = aligned(other, result, dim);
        if (there < 0 || other.size(there) < 2 || !isGatePosition(operandOf(other), there)) continue;
        return list({modules_.current(), pooled->operatorName, pooled->sizes, kLinear});
      }
    }
    if (storageOf(result) != storageOf(tensors[place])) noteOf(result).pooled = pooled;
  }
}

// Whether it is the softmax of what a layer made along a dimension of size one: a number for each position.
bool Flow::isOfOneKey(const Operand& gate) {
  const auto& matrix = gate.matrix();
  return matrix.softmax && !matrix.fromScores && matrix.key != kNone &&
         matrix.sizes[static_cast<size_t>(matrix.key)] == 1;
}

// Whether it is a softmax that no product of queries and keys leads to: over one dimension of several, perhaps.
bool Flow::isOfOtherKeys(const Operand& gate) {
  const auto& matrix = gate.matrix();
  return matrix.softmax && !matrix.fromScores && !matrix.constant && matrix.key != kNone &&
         gate.value().stage == Stage::Weights;
}

// Whether a layer made the tensor, or a softmax did, and a dimension isn't what the layer made or the softmax ran over.
bool Flow::isGatePosition(const Operand& gate, int64_t dim) const {
  if (!gate) return isPositions(gate.tensor, dim);
  const auto& components = gate.view->dims[static_cast<size_t>(dim)];
  const auto& matrix = gate.matrix();
  const bool softmax = isOfOtherKeys(gate) && !isOfOneKey(gate);
  if (softmax && components.empty()) return false;
  return (isLayers(gate) || isOfOneKey(gate) || softmax) &&
         std::all_of(components.begin(), components.end(), [&](const Component& component) {
           const auto of = component.span.dim;
           return of != kForeign && of != matrix.fixed && (!softmax || of != matrix.key) && !matrix.isFeature(of);
         });
}

void Flow::gatedSummed(const Call& call) {
  if (call.rule.does != Does::Sums && call.rule.does != Does::Averages) return;
  const auto tensor = call.tensor(0);
  const auto* note = find(tensor);
  const auto argument = call.argument("dim");
  if (!note->gated || !argument) return;
  const auto& positions = note->gated->positions;
  int64_t summed = 0;
  for (const auto each : intsOf(*argument)) {
    const auto dim = wrapped(each, tensor.dim());
    if (tensor.size(dim) < 2) continue;
    const bool along = std::any_of(positions.begin(), positions.end(), [&](const auto& position) {
      const auto [stride, size] = position;
      const auto here = tensor.stride(dim);
      return here >= stride && here % stride == 0 && here / stride * (tensor.size(dim) - 1) < size;
    });
    if (!along) return;
    ++summed;
  }
  if (summed == 0) return;
  const auto gated = note->gated;
  noteOf(tensor).gated.reset();  // a mean is made of a sum
  if (gated->softmax) return listMatrix(*gated->softmax, gated->reason);
  list({modules_.current(), gated->operatorName, gated->sizes, gated->reason});
}

// Whether a layer made one number for each two positions (additive scores, pairs that were put side by side), which
// multiply values that have features.
bool Flow::isOfPairs(const at::Tensor& pairs, int64_t summed, int64_t own, const at::Tensor& values, int64_t keys,
                     int64_t column) const {
  if (own < 0 || column < 0 || values.size(column) < 2) return false;
  if (featureAlong(values, keys) || isPositions(values, column)) return false;
  const auto operand = operandOf(pairs);
  // Of values of which nothing is known, a layer made the pairs itself.
  if (!featureAlong(values, column) && (operand || operandOf(values))) return false;
  return isGatePosition(operand, summed) && isGatePosition(operand, own);
}

// The same as a product: one row of numbers for the positions.
bool Flow::gatedProduct(const std::string& name, const at::Tensor& a, const at::Tensor& b, const Product& product,
                        const at::Tensor& result) {
  // Mixtures of exponentials over positions are such numbers, too, whatever made the positions.
  const bool features = featureAlong(a, product.summedA) || featureAlong(b, product.summedB);
  const auto isMixed = [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    return note && note->raisedSum && !features;
  };
  const auto isGate = [&](const at::Tensor& gate, int64_t summed, int64_t own) {
    if (gate.size(summed) < 2 || (own >= 0 && result.size(own) != 1)) return false;
    const auto operand = operandOf(gate);
    return (!operand && isPositions(gate, summed)) || ((!operand || isLayers(operand)) && isMixed(gate));
  };
  const auto ownA = ownOf(product.a, product.row), ownB = ownOf(product.b, product.column);
  const bool ofB = isOfPairs(b, product.summedB, ownB, a, product.summedA, ownA);
  if (ofB || isOfPairs(a, product.summedA, ownA, b, product.summedB, ownB)) {
    const auto& weights = ofB ? b : a;
    const auto own = ofB ? ownB : ownA;
    const auto operand = operandOf(weights);
    const bool ones = operand && isOfOneKey(operand);
    const char* const ofPositions = weights.size(own) == 1 ? kGates : kPairs;
    list({modules_.current(), ones ? operand.matrix().operatorName : name, weights.sizes().vec(),
          ones ? kOnes : ofPositions});
    return true;
  }
  const auto sharesOut = [&](const at::Tensor& gate, int64_t summed, int64_t ofOther) {
    if (gate.size(summed) < 2 || ofOther < 0 || result.size(ofOther) < 2) return false;
    const auto operand = operandOf(gate);
    return operand && isOfOtherKeys(operand) && !isOfOneKey(operand) && isGatePosition(operand, summed);
  };
  const bool sharesA = sharesOut(a, product.summedA, product.column);
  if (sharesA || sharesOut(b, product.summedB, product.row)) {
    const auto operand = operandOf(sharesA ? a : b);
    listMatrix(operand.matrix(), kSharedOut);
    return true;
  }
  const bool first = isGate(a, product.summedA, product.row);
  if (!first && !isGate(b, product.summedB, product.column)) return false;
  const auto other = first ? product.column : product.row;
  if (other < 0 || result.size(other) < 2) return false;
  list({modules_.current(), name, (first ? a : b).sizes().vec(), kGates});
  return true;
}

}  // namespace lta::flow
