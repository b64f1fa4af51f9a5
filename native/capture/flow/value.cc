#include "capture/flow/value.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace lta {

const char* nameOf(Kind kind) {
  switch (kind) {
    case Kind::Softmax:
      return "softmax";
    case Kind::Unnormalized:
      return "unnormalized";
    case Kind::Signed:
      return "signed";
    case Kind::Sigmoid:
      return "sigmoid";
    case Kind::Relu:
      return "relu";
  }
  return "";
}

namespace flow {

// Chains may be as long as a recurrence: nothing here calls itself for what comes before.

Matrix::~Matrix() {
  auto rest = std::move(parents);
  while (!rest.empty()) {
    const auto matrix = std::move(rest.back());
    rest.pop_back();
    if (!matrix || matrix.use_count() > 1) continue;
    for (auto& parent : matrix->parents) rest.push_back(std::move(parent));
    matrix->parents.clear();
  }
}

namespace {

// Whether that holds for a matrix or for one that it was made of. Each is asked once, however many ways lead to it: in
// a recurrence over its own past their number doubles with each step.
template <typename Holds>
bool anyOf(const Matrix& first, const Holds& holds) {
  std::unordered_set<const Matrix*> seen{&first};
  std::vector<const Matrix*> rest{&first};
  while (!rest.empty()) {
    const auto* const matrix = rest.back();
    rest.pop_back();
    if (holds(*matrix)) return true;
    for (const auto& parent : matrix->parents) {
      if (seen.insert(parent.get()).second) rest.push_back(parent.get());
    }
  }
  return false;
}

}  // namespace

bool Matrix::descendsFrom(const Matrix& origin) const {
  return anyOf(*this, [&](const Matrix& matrix) { return &matrix == &origin; });
}

bool Matrix::isTold() const {
  return anyOf(*this, [](const Matrix& matrix) { return matrix.told; });
}

void Matrix::meet() {
  // Scores that are added to, step by step, have another softmax in each.
  std::vector<Matrix*> rest{this};
  while (!rest.empty()) {
    auto* const matrix = rest.back();
    rest.pop_back();
    matrix->told = true;
    if (matrix->softmax) continue;
    for (const auto& parent : matrix->parents) {
      if (!parent->told) rest.push_back(parent.get());
    }
  }
  rest = {this};
  while (!rest.empty()) {
    auto* const matrix = rest.back();
    rest.pop_back();
    matrix->met = true;
    for (const auto& parent : matrix->parents) {
      if (!parent->met) rest.push_back(parent.get());
    }
  }
}

MatrixPtr softmaxBehind(MatrixPtr matrix) {
  while (!matrix->softmax && !matrix->parents.empty()) matrix = matrix->parents.back();
  return matrix;
}

MatrixPtr Matrix::relative() const {
  auto matrix = std::make_shared<Matrix>();
  matrix->fromScores = fromScores;
  matrix->ofFeatures = ofFeatures;
  matrix->allFeatures = allFeatures;
  matrix->headsGuessed = headsGuessed;
  matrix->ofPositions = ofPositions;
  matrix->queryGrid = queryGrid;
  matrix->outer = outer;
  matrix->overOne = overOne;
  matrix->pairs = pairs;
  matrix->generated = generated;
  matrix->fixedKeys = fixedKeys;
  matrix->chosenKeys = chosenKeys;
  matrix->layerKeys = layerKeys;
  matrix->layer = layer;
  matrix->constant = constant;
  matrix->fixedScores = fixedScores;
  matrix->operatorName = operatorName;
  matrix->module = module;
  return matrix;
}

Step::~Step() {
  auto step = std::move(before_);
  while (step && step.use_count() == 1) step = std::move(step->before_);
}

std::vector<std::string> Value::path() const {
  std::vector<std::string> names;
  for (const auto* step = last.get(); step; step = step->before()) names.push_back(step->operatorName());
  std::reverse(names.begin(), names.end());
  return names;
}

}  // namespace flow
}  // namespace lta
