#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {
namespace {

constexpr const char* kTerms =
    "the weights of single keys multiplied their values, and what they gave was added up: a product that was written "
    "out "
    "key by key isn't followed";

}  // namespace

// The softmax of which a tensor has the weight of one key only; null for others, and for mixtures.
MatrixPtr Flow::oneKeyOf(const Operand& weights) const {
  if (!weights || weights.value().stage != Stage::Weights) return nullptr;
  const auto& matrix = weights.matrix();
  if (matrix.key == kNone || matrix.sizes[static_cast<size_t>(matrix.key)] < 2) return nullptr;
  if (matrix.layerKeys || matrix.fixedKeys || matrix.chosenKeys || matrix.constant) return nullptr;
  const auto& fixed = weights.view->fixed;
  if (std::none_of(fixed.begin(), fixed.end(), [&](const Span& span) { return span.dim == matrix.key; }))
    return nullptr;
  for (int64_t dim = 0; dim < weights.tensor.dim(); ++dim) {
    if (weights.view->has(dim, matrix.key)) return nullptr;
    // Of branches that are mixed channel by channel.
    if (!matrix.fromScores && isChannel(weights, dim)) return nullptr;
  }
  return softmaxBehind(weights.value().matrix);
}

// Weights times values, one key after the other, are attention as their product is.
void Flow::terms(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  const auto does = call.rule.does;
  if (!storageOf(result) || result.is_nested()) return;
  std::optional<Term> sum;
  // `addcmul` multiplies the last two of its three.
  const size_t first = call.name == "addcmul" ? 1 : 0;
  if ((does == Does::Scales || first == 1) && tensors.size() == first + 2) {
    for (const auto place : {first, first + 1}) {
      const auto &weights = tensors[place], &values = tensors[2 * first + 1 - place];
      if (isFixed(values)) continue;
      const auto softmax = oneKeyOf(operandOf(weights));
      if (!softmax) continue;
      for (int64_t dim = 0; dim < result.dim() && !sum; ++dim) {
        const auto here = aligned(weights, result, dim);
        if (result.size(dim) > 1 && (here < 0 || weights.size(here) == 1)) sum = Term{softmax};
      }
    }
  }
  // One is put beside others, by a program without writes.
  const bool places = call.name == "where";
  if (does != Does::Scales && does != Does::Copies && does != Does::Adds && !places) return;
  bool beside = false;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note || !note->term) continue;
    if (sum && sum->of == note->term->of && does == Does::Adds) return listMatrix(*sum->of, kTerms);
    beside = beside || (places && sum && sum->of == note->term->of);
    sum = note->term;
  }
  if (!sum) return;
  sum->joined = sum->joined || beside;
  // Written beside another one, into a part of something larger.
  auto& note = noteOf(result);
  sum->joined =
      sum->joined || (call.schema.is_mutable() && does == Does::Copies && note.term && note.term->of == sum->of);
  note.term = std::move(sum);
}

void Flow::joinedTerms(const Call& call, const at::Tensor& result) {
  if (!call.arguments[0].isTensorList() || !storageOf(result) || result.is_nested()) return;
  MatrixPtr first;
  for (const at::Tensor& tensor : call.arguments[0].toTensorVector()) {
    const auto* note = find(tensor);
    if (!note || !note->term) continue;
    if (first == note->term->of) noteOf(result).term = Term{first, true};
    first = note->term->of;
  }
}

// Written beside others, by a program without writes.
void Flow::placedTerms(const Call& call, const at::Tensor& result) {
  if (!storageOf(result)) return;
  const auto *into = find(call.tensor(0)), *placed = find(call.tensor(1));
  auto term = placed && placed->term ? placed->term : into ? into->term : std::nullopt;
  if (!term) return;
  const bool both = into && into->term && placed && placed->term && into->term->of == placed->term->of;
  term->joined = term->joined || both;
  noteOf(result).term = std::move(term);
}

void Flow::summedTerms(const Call& call) {
  if (call.rule.does != Does::Sums && call.rule.does != Does::Averages) return;
  const auto* note = find(call.tensor(0));
  if (note && note->term && note->term->joined) listMatrix(*note->term->of, kTerms);
}

}  // namespace lta::flow
