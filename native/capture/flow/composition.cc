// Weights times weights: those of two steps.
#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capture/flow/flow.h"

namespace lta::flow {

// Whether a product is one of weights with weights, of which weights come: those of two steps.
bool Flow::areComposed(const Operand& a, const Operand& b, const Product& product) {
  if (!a || !b) return false;
  for (const auto& [operand, summed] : {std::pair(&a, product.summedA), std::pair(&b, product.summedB)}) {
    const auto& matrix = operand->matrix();
    if (operand->value().stage != Stage::Weights || !matrix.fromScores || operand->value().exponential) return false;
    if (matrix.generated) return false;
    const auto& components = operand->view->dims[static_cast<size_t>(summed)];
    if (components.size() != 1) return false;
    const auto dim = components.front().span.dim;
    if (dim == kForeign ||
        (dim != matrix.key && dim != matrix.query && matrix.roles[static_cast<size_t>(dim)] != Role::Free)) {
      return false;
    }
  }
  return product.row >= 0 && product.column >= 0;
}

// Weights times weights: queries of the first, keys of the second.
void Flow::composed(const std::string& name, const Operand& a, const Operand& b, const Product& product,
                    const at::Tensor& result) {
  auto matrix = std::make_shared<Matrix>();
  const auto &first = a.matrix(), &second = b.matrix();
  matrix->operatorName = first.operatorName;
  matrix->module = first.module;
  matrix->fromScores = true;
  matrix->ofFeatures = first.ofFeatures && second.ofFeatures;
  matrix->allFeatures = first.allFeatures && second.allFeatures;
  matrix->headsGuessed = first.headsGuessed || second.headsGuessed;
  matrix->parents = {a.value().matrix, b.value().matrix};
  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const auto& operand = dim == product.column ? b : a;
    const auto of = (dim == product.column ? product.b : product.a)[static_cast<size_t>(dim)];
    const auto add = [&](int64_t size, Role role, bool feature) {
      spans[static_cast<size_t>(dim)].push_back({matrix->dims(), 0, 1, size});
      matrix->sizes.push_back(size);
      matrix->roles.push_back(role);
      matrix->features.push_back(feature);
    };
    if (dim == product.row) matrix->query = matrix->dims();
    if (dim == product.column) matrix->key = matrix->dims();
    const bool free = dim == product.row || dim == product.column;
    const auto* components = of < 0 ? nullptr : &operand.view->dims[static_cast<size_t>(of)];
    if (free || !components || components->empty()) {
      add(result.size(dim), free ? Role::Free : Role::Lead, false);
      continue;
    }
    for (const auto& component : *components) {
      const auto was = component.span.dim;
      add(component.span.size, Role::Lead, was != kForeign && operand.matrix().isFeature(was));
    }
  }
  const auto sumsToOne = [](const Operand& operand, int64_t dim) {
    const auto& value = operand.value();
    return value.kind == Kind::Softmax && dim >= 0 && operand.view->has(dim, value.normalized);
  };
  Value value = a.value();
  if (sumsToOne(a, product.summedA) && sumsToOne(b, product.b[static_cast<size_t>(product.column)])) {
    value.kind = Kind::Softmax;
    value.normalized = matrix->key;
  } else {
    const bool isSigned = a.value().kind == Kind::Signed || b.value().kind == Kind::Signed;
    value.kind = isSigned ? Kind::Signed : Kind::Unnormalized;
    value.normalized = kNone;
  }
  value.last = std::make_shared<Step>(name, value.last);
  value.version = ++versions_;
  value.matrix = std::move(matrix);
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::make_shared<Value>(std::move(value));
}

}  // namespace lta::flow
