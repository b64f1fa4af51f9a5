// What came of scores and weights where they couldn't be followed.
#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {

// The scores or weights that a tensor holds, or was made of. Those of what a layer made (a router's, a classifier's)
// are as any features.
MatrixPtr Flow::tracedTo(const Note& note) {
  if (!note.value) return note.lost;
  const auto& matrix = note.value->matrix;
  const bool ofLayers = matrix->fixed != kNone && !matrix->generated;
  const bool layers = matrix->layerKeys || matrix->fixedKeys || (note.value->stage == Stage::Scores && ofLayers);
  return layers || matrix->outer ? nullptr : matrix;
}

// What isn't followed remembers what it was made of.
void Flow::lose(const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (!storageOf(result) || !(result.is_floating_point() || result.is_complex())) return;
  if (const auto* made = find(result); made && made->value) return;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note || storageOf(tensor) == storageOf(result)) continue;
    if (auto matrix = tracedTo(*note)) {
      noteOf(result).lost = std::move(matrix);
      return;
    }
  }
}

// Of operators that don't work element by element.
void Flow::losing(const Call& call, const at::Tensor& result) {
  const auto does = call.rule.does;
  if (does == Does::Sums || does == Does::Averages) {
    const auto* note = find(call.tensor(0));
    if (note && note->weighs) weighs(note->weighs, /*lost=*/!note->value);
  }
  if (does == Does::Loses) {
    const auto* note = find(call.tensor(0));
    if (note && note->context) decide(*note, false);
  }
  const bool moves = (does >= Does::Sums && does <= Does::Unfolds) || does == Does::Reshapes || does == Does::Loses;
  if (!moves || storageOf(call.tensor(0)) == storageOf(result)) return;  // most are views
  std::vector<at::Tensor> tensors;
  for (const auto& argument : call.arguments) {
    if (argument.isTensor()) tensors.push_back(argument.toTensor());
    if (!argument.isTensorList()) continue;
    for (const at::Tensor& tensor : argument.toTensorVector()) tensors.push_back(tensor);
  }
  lose(tensors, result);
  stayFixed(tensors, result);
}

// What stands there is followed no further.
void Flow::forget(const at::Tensor& tensor) {
  const auto* note = find(tensor);
  if (!note || !note->value) return;
  auto matrix = tracedTo(*note);
  newNote(tensor).lost = std::move(matrix);
}

// Remembers that values are multiplied by such, until a sum over them follows.
void Flow::weighed(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (!storageOf(result)) return;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note) continue;
    const bool keeps = call.rule.does == Does::Copies || call.rule.does == Does::Scales;
    auto matrix = keeps ? note->weighs : nullptr;
    if (!matrix && call.rule.does == Does::Scales && tensors.size() == 2 && tensor.dim() > 0) {
      const auto& other = tensors[&tensor == tensors.data() ? 1 : 0];
      const auto* beside = find(other);
      matrix = tracedTo(*note);
      // A reciprocal or a gate of the same origin is no value.
      const bool values = other.dim() > 0 && !isFixed(other) && !(beside && tracedTo(*beside));
      if (!values || (note->value && note->value->stage != Stage::Weights)) matrix.reset();
    }
    if (!matrix) continue;
    noteOf(result).weighs = std::move(matrix);
    return;
  }
}

// Scores or weights, or what was made of them where they are `lost`, multiplied values that are summed.
void Flow::weighs(const MatrixPtr& matrix, bool lost) {
  if (matrix->isTold()) return;
  bool softmax = false;
  std::unordered_set<const Matrix*> seen{matrix.get()};
  std::vector<Matrix*> rest{matrix.get()};
  while (!rest.empty()) {
    auto* const each = rest.back();
    rest.pop_back();
    softmax = softmax || each->softmax;
    if (each->softmax) each->weighs = true;
    for (const auto& parent : each->parents) {
      if (seen.insert(parent.get()).second) rest.push_back(parent.get());
    }
  }
  if (softmax || !lost || !matrix->ofFeatures || !matrix->metNothing.empty()) return;
  matrix->metNothing = "what came of these scores multiplied values, but couldn't be followed";
  matrices_.push_back(matrix);
}

}  // namespace lta::flow
