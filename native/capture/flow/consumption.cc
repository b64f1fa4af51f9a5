#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "capture/flow/elements.h"

namespace lta::flow {
namespace {

constexpr const char* kOfLayer =
    "a layer made the dimension that the softmax runs over: a dynamic convolution, a mixture, or places that a layer "
    "chose (deformable attention)";

}  // namespace

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
  // Whether the product has rows along queries or keys, and not along `dim`.
  const auto isOtherThanRow = [&](int64_t dim) {
    if (row < 0 || weights.tensor.size(row) < 2) return false;
    const auto& components = view.dims[static_cast<size_t>(row)];
    return !components.empty() && std::all_of(components.begin(), components.end(), [&](const Component& component) {
      const auto of = component.span.dim;
      return of != kForeign && of != dim && matrix.roles[static_cast<size_t>(of)] == Role::Free;
    });
  };
  if (over(matrix.key)) {
    aim.key = matrix.key;
  } else if (matrix.fromScores || matrix.fixedKeys) {
    for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
      if (matrix.roles[static_cast<size_t>(dim)] == Role::Free && view.has(summed, dim)) aim.key = dim;
    }
    // The only key, or the only one of a block: along it, a written-out softmax adds up to one.
    const auto one = weights.value().normalized;
    if (aim.key == kNone && one != kNone && over(one)) aim.key = one;
    // Without a softmax it is what the row isn't.
    for (auto dim = matrix.dims() - 1; dim >= 0 && aim.key == kNone && matrix.key == kNone; --dim) {
      if (matrix.roles[static_cast<size_t>(dim)] != Role::Free) continue;
      const bool picked = matrix.sizes[static_cast<size_t>(dim)] > 1;
      if (over(dim) && (!picked || isOtherThanRow(dim))) aim.key = dim;
      if (!picked) break;
    }
  }
  // What weights of positions pooled may go back to those by the same weights, which a layer made for several rows.
  if (aim.key == kNone && matrix.met && !matrix.fromScores && row >= 0 && matrix.key != kNone &&
      view.has(row, matrix.key)) {
    for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
      const bool isRows = matrix.isFeature(dim) && matrix.roles[static_cast<size_t>(dim)] == Role::Unknown;
      if (isRows && view.has(summed, dim)) aim.key = dim;
    }
  }
  aim.touches = aim.key != kNone || over(matrix.query);
  if (row >= 0) {
    aim.single = view.dims[static_cast<size_t>(row)].empty();
    for (const auto& component : view.dims[static_cast<size_t>(row)]) {
      const auto dim = component.span.dim;
      if (dim == kForeign || dim == aim.key || (aim.row != kNone && aim.row == matrix.query)) continue;
      // Beside a table of constants that was written out, the batch is told from queries.
      if (!matrix.fixedKeys || matrix.roles[static_cast<size_t>(dim)] != Role::Lead) aim.row = dim;
    }
  }
  return aim;
}

Consumed Flow::consume(const at::Tensor& operand, const View& view, const ValuePtr& value, const Aim& aim) const {
  auto& matrix = *value->matrix;
  auto query = matrix.query;
  if (aim.key != matrix.key) {
    // Summed over what the softmax didn't run over: keys and queries change places, unless that was heads.
    const bool overHeads = matrix.key != kNone && matrix.roles[static_cast<size_t>(matrix.key)] == Role::Lead;
    query = overHeads ? kNone : matrix.key;
    for (int64_t dim = 0; dim < matrix.dims() && query == kNone; ++dim) {
      if (dim != aim.key && matrix.roles[static_cast<size_t>(dim)] == Role::Free) query = dim;
    }
  }
  // Features that a batched product shares with the values, beside a single row or one of something else: heads.
  const bool isHeads = query != kNone && (aim.single || (aim.row != kNone && aim.row != query)) &&
                       matrix.roles[static_cast<size_t>(query)] == Role::Unknown && matrix.isFeature(query);
  if (isHeads) query = kNone;
  if (query == kNone) query = aim.row;
  Consumed consumed;
  consumed.operand = operand;
  consumed.arrange = Arrangement(matrix, view, query, aim.key);
  consumed.value = value;
  consumed.key = aim.key;
  consumed.kind = value->kind == Kind::Softmax && value->normalized != aim.key ? Kind::Unnormalized : value->kind;
  consumed.module = value->module;
  for (const auto* from = &matrix; consumed.scoresModule.empty() && !from->parents.empty();) {
    from = from->parents.front().get();
    consumed.scoresModule = from->module;
  }
  // The softmax may have run over more than the keys of one row.
  const auto along = std::count_if(view.dims.begin(), view.dims.end(), [&](const auto& components) {
    return std::any_of(components.begin(), components.end(),
                       [&](const Component& component) { return component.span.dim == aim.key; });
  });
  if (along > 1) consumed.kind = loosened(consumed.kind);
  // Rows alone may as well be the batch.
  consumed.headsKnown = matrix.allFeatures && !matrix.headsGuessed && matrix.dims() > 2;
  int64_t leading = 0;
  for (const auto& components : view.dims) {
    leading += std::count_if(components.begin(), components.end(), [](const auto& each) { return each.span.dim == 0; });
  }
  // Positions that a view split don't tell heads either.
  consumed.headsGuessed = matrix.headsGuessed || (matrix.ofPositions && leading > 1);
  consumed.maybeContext =
      !matrix.fromScores && !matrix.fixedKeys && query != kNone && matrix.sizes[static_cast<size_t>(query)] > 1;
  matrix.meet();
  return consumed;
}

std::optional<Consumed> Flow::consumedBy(const Operand& weights, const Side& side, const Side& beside) {
  if (!weights || weights.value().stage != Stage::Weights) return std::nullopt;
  const auto aim = aimOf(weights, side.summed, side.own);
  auto& matrix = weights.matrix();
  const auto& other = beside.tensor;
  if (aim.key == kNone) {
    // A table of weights, as of a graph that was learned: each of its keys is shared out, and the rows are summed over.
    const auto& summed = weights.view->dims[static_cast<size_t>(side.summed)];
    const bool another = std::any_of(summed.begin(), summed.end(),
                                     [](const Component& component) { return component.span.dim != kForeign; });
    if (another && matrix.constant && !isFixed(other) && other.dim() > 1) listMatrix(matrix, kSharedOut);
    if (aim.touches || matrix.fromScores || !isFixed(other)) return std::nullopt;
    // A softmax over positions, then a product with a table over what isn't the heads: external attention.
    if (!matrix.layerKeys && matrix.dims() == 3 && matrix.key == 1 && matrix.features[2]) {
      listMatrix(matrix, "its product is with a table of constants, over another dimension than the softmax's");
    }
    return std::nullopt;
  }
  const bool isLogSummed = matrix.softmax && !matrix.parents.empty() && matrix.parents.front()->logSummed;
  if (isLogSummed || matrix.inBlocks) {
    listMatrix(matrix,
               "the logarithm of its sum is taken as well: a softmax in blocks, whose weights are scaled later");
    return std::nullopt;
  }
  if (isOfHypernetwork(weights, other)) return std::nullopt;
  const auto& along = weights.view->dims[static_cast<size_t>(side.summed)];
  const bool copies = std::any_of(along.begin(), along.end(), [&](const Component& component) {
    return component.span.dim != kForeign && matrix.isCopied(component.span.dim);
  });
  if (copies && matrix.fromScores) {
    listMatrix(matrix, "its keys were repeated before they multiplied the values");
    return std::nullopt;
  }
  if (weights.value().exponential) {
    listMatrix(matrix, "exponentials that nothing had normalized multiplied the values (a softmax in blocks)");
    return std::nullopt;
  }
  // Of single features, as many scores as an outer product has elements, which a function made a state of.
  if (matrix.overOne && !matrix.softmax && weights.value().kind != Kind::Softmax && weights.tensor.dim() > 2 &&
      (beside.own < 0 || other.size(beside.own) == 1)) {
    listMatrix(matrix,
               "a function of an outer product multiplied a vector: the state of a recurrence (fast weights, a Hebbian "
               "memory), or weights of queries and keys of a single feature");
    return std::nullopt;
  }
  if (isFixed(other)) {
    const auto* const table = find(other);
    const bool ofLayer = matrix.fixedScores && table && table->fixed == Fixed::OfLayer;
    // Rows of the table that the layer compared the queries with are the values, too.
    const bool tied = matrix.layer && matrix.layer == placeOf(other);
    if (matrix.fixedKeys || ofLayer || tied) {
      auto toTable = aim;
      // Where one table serves all positions, these are the queries; what stands beside the slots is heads.
      const bool heads = matrix.query != kNone && matrix.isFeature(matrix.query) &&
                         matrix.roles[static_cast<size_t>(matrix.query)] == Role::Unknown;
      for (int64_t dim = 1; dim < matrix.dims() && heads && other.dim() == 2; ++dim) {
        if (dim != matrix.key && !matrix.isFeature(dim)) toTable.row = dim;
      }
      return consume(weights.tensor, *weights.view, weights.note->value, toTable);
    }
    const bool ofPositions = matrix.layerKeys && matrix.query != kNone &&
                             matrix.sizes[static_cast<size_t>(matrix.query)] > 1 && !matrix.isFeature(matrix.query);
    if (ofPositions && weights.tensor.dim() > 2 && other.dim() == 2) {
      listMatrix(matrix,
                 "a softmax over what a layer made of each position, and a product with a table of constants: "
                 "attention over the slots of a memory, or a layer's activation");
      return std::nullopt;
    }
    // Of what was made of a softmax, that is what is told of.
    auto softmax = softmaxBehind(weights.value().matrix);
    if (!matrix.layerKeys && other.dim() > 1 && softmax->metNothing.empty()) {
      softmax->metNothing = "its only product is with a table of constants";
      if (softmax->softmax && std::find(matrices_.begin(), matrices_.end(), softmax) == matrices_.end()) {
        matrices_.push_back(std::move(softmax));
      }
    }
    return std::nullopt;
  }
  // A product with a vector is an expectation, unless the weights compare two activations.
  if (other.dim() < 2 && !matrix.fromScores) {
    // A column is one feature of several.
    const bool column = other.dim() == 1 && other.size(0) > 1 && other.stride(0) > 1;
    if (!matrix.layerKeys && !matrix.fixedKeys && !matrix.constant && (weights.tensor.dim() > 1 || column)) {
      listMatrix(matrix, "its product is with a vector: values of one feature, or an expectation");
    }
    return std::nullopt;
  }
  const auto values = besideOf(matrix, other, beside.summed);
  if (isMixture(matrix, aim, values) || isPlaced(matrix, values)) return std::nullopt;
  // Scores of several heads of queries, added up with one number of a layer for each: what keys are picked by, for an
  // attention that follows.
  const bool addsHeads = matrix.fromScores && aim.key != matrix.key && matrix.isFeature(aim.key) && values.features;
  if (addsHeads && (beside.own < 0 || other.size(beside.own) == 1)) return std::nullopt;
  return consume(weights.tensor, *weights.view, weights.note->value, aim);
}

// Whether weights are what a function that isn't a softmax makes of the product with a matrix that layers made of each
// sample: the activation of a hypernetwork's layer, unless that matrix is what they multiply.
bool Flow::isOfHypernetwork(const Operand& weights, const at::Tensor& other) {
  auto& matrix = weights.matrix();
  const auto kind = weights.value().kind;
  if (!matrix.generated || kind == Kind::Softmax || matrix.generated == storageOf(other)) return false;
  if (kind == Kind::Sigmoid) {
    listMatrix(matrix,
               "a sigmoid of the product with a matrix that a layer made of each sample: weights of slots, or the "
               "activation of a hypernetwork's layer");
  }
  return true;
}

// Whether a layer made a dimension of values, or of distributions that are mixed.
Flow::Beside Flow::besideOf(const Matrix& weights, const at::Tensor& values, int64_t dim) const {
  const auto operand = operandOf(values);
  Beside beside;
  // What was chosen is put to its place by them.
  beside.marks = weights.chosenKeys && areMarks(values);
  if (dim < 0) return beside;
  beside.experts = isByTable(values, dim);
  if (const auto* feature = featureAlong(values, dim)) {
    beside.features = true;
    beside.stacked = feature->stacked;
    return beside;
  }
  if (!operand || operand.value().stage != Stage::Weights || operand.matrix().fromScores) return beside;
  const auto& components = operand.view->dims[static_cast<size_t>(dim)];
  const bool made = std::all_of(components.begin(), components.end(), [&](const Component& component) {
    const auto of = component.span.dim;
    return of != kForeign && of != operand.matrix().key && operand.matrix().isFeature(of);
  });
  beside.features = beside.distributions = made && !components.empty();
  return beside;
}

// Whether the softmax runs over a dimension that a layer made: of a router, a classifier, a dynamic convolution. A
// layer may as well compute attention weights for each pair of positions, without keys.
bool Flow::isMixture(Matrix& matrix, const Aim& aim, const Beside& beside) {
  // Constants that weigh what is put side by side.
  if (matrix.constant && beside.features) return true;
  if (!matrix.layerKeys) {
    if (!matrix.fixedKeys) return false;
    // Experts that a router chose, or distributions that are mixed.
    const bool experts = matrix.chosenKeys && (beside.features || beside.experts || beside.marks);
    if (experts || beside.distributions) return true;
    // Of a table that was written as a product: values that a layer made for each of its rows.
    if (beside.features && !beside.stacked) listMatrix(matrix, kOfLayer);
    return beside.features;
  }
  if (beside.features || (matrix.chosenKeys && (beside.experts || beside.marks))) return true;
  const auto query = matrix.query == kNone ? aim.row : matrix.query;
  const auto queries = query == kNone ? 1 : matrix.sizes[static_cast<size_t>(query)];
  if (queries == matrix.sizes[static_cast<size_t>(matrix.key)]) return false;
  listMatrix(matrix, kOfLayer);
  return true;
}

// Whether ones and zeros put the weights of the keys that were chosen to their places, instead of values.
bool Flow::isPlaced(Matrix& matrix, const Beside& beside) {
  if (!matrix.chosenKeys || !beside.marks) return false;
  listMatrix(matrix, "ones and zeros put the weights of the chosen keys to their places, which isn't followed");
  return true;
}

std::optional<Consumed> Flow::product(const Rule& rule, const at::Tensor& a, const at::Tensor& b) {
  if (a.is_nested() || b.is_nested()) return std::nullopt;
  auto weightsA = operandOf(a), weightsB = operandOf(b);
  const auto told = [](const Operand& operand) {
    return operand.note && (operand.note->value || operand.note->context || operand.note->lost);
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
  // What couldn't be followed so far, or isn't here.
  const auto lose = [&]() -> std::optional<Consumed> {
    for (const auto& [operand, other] : {std::pair(&weightsA, &b), std::pair(&weightsB, &a)}) {
      if (!operand->note || isFixed(*other) || (*operand && operand->value().stage != Stage::Weights)) continue;
      if (const auto matrix = tracedTo(*operand->note)) weighs(matrix, /*lost=*/!*operand);
    }
    return std::nullopt;
  };
  if (areComposed(weightsA, weightsB, product)) return std::nullopt;
  if (rule.does == Does::Distance || (!weightsA && !weightsB)) return lose();
  const Side sideA{a, product.summedA, product.row < 0 ? kForeign : product.a[static_cast<size_t>(product.row)]};
  const Side sideB{b, product.summedB, product.column < 0 ? kForeign : product.b[static_cast<size_t>(product.column)]};
  const bool scoresFirst = !weightsA || (weightsB && weightsB.matrix().fromScores && !weightsA.matrix().fromScores);
  // Keys times values of a linear attention, which queries read: no weights, whatever function made the queries.
  const auto isState = [](const Operand& operand, int64_t summed) {
    if (!operand || operand.value().stage != Stage::Scores || operand.matrix().fixed != kNone) return false;
    const auto& matrix = operand.matrix();
    const auto& components = operand.view->dims[static_cast<size_t>(summed)];
    return std::any_of(components.begin(), components.end(), [&](const Component& component) {
      const auto dim = component.span.dim;
      return dim != kForeign && matrix.roles[static_cast<size_t>(dim)] == Role::Free && matrix.isFeature(dim) &&
             (matrix.outer || !matrix.ofFeatures);
    });
  };
  if (isState(weightsA, product.summedA) || isState(weightsB, product.summedB)) return std::nullopt;
  for (const bool ofB : {false, true}) {
    const auto& weights = ofB ? weightsB : weightsA;
    const auto& beside = ofB ? sideA : sideB;
    if (weights && weights.value().stage == Stage::Weights && isDiagonal(beside.tensor, beside.own))
      return std::nullopt;
  }
  // What has scores is attention ahead of what may be values.
  for (const bool second : {scoresFirst, !scoresFirst}) {
    if (auto& weights = second ? weightsB : weightsA; weights && weights.value().stage == Stage::Weights) {
      headsOfValues(weights, second ? product.b : product.a, second ? a : b, second ? product.a : product.b);
      weights = operandOf(weights.tensor);
    }
    auto consumed = second ? consumedBy(weightsB, sideB, sideA) : consumedBy(weightsA, sideA, sideB);
    if (!consumed) continue;
    consumed->second = second;
    consumed->mayBeNameless = rule.does == Does::Mm;
    return consumed;
  }
  return lose();
}

}  // namespace lta::flow
