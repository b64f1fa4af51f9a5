#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"

namespace lta::flow {
namespace {

// Whether a matrix is made of another, in some steps.
bool descends(const Matrix& matrix, const Matrix* from) {
  if (&matrix == from) return true;
  return std::any_of(matrix.parents.begin(), matrix.parents.end(),
                     [&](const auto& parent) { return descends(*parent, from); });
}

}  // namespace

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

}  // namespace lta::flow
