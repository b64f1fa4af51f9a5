#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "capture/flow/dimensions.h"

namespace lta::flow {

// Whether it is what an activation and a table of constants gave: scores, or what any layer gives.
bool Flow::isLayers(const Operand& operand) {
  return operand.value().stage == Stage::Scores && operand.matrix().fixed != kNone;
}

// Whether a dimension of a softmax's result is one that a layer made, and not its keys.
bool Flow::isChannel(const Operand& weights, int64_t dim) {
  const auto& matrix = weights.matrix();
  const auto& components = weights.view->dims[static_cast<size_t>(dim)];
  return std::any_of(components.begin(), components.end(), [&](const Component& component) {
    const auto of = component.span.dim;
    return of != kForeign && of != matrix.key && matrix.features[static_cast<size_t>(of)];
  });
}

// Whether there may be weights for each channel, of a softmax that no product of queries and keys leads to.
bool Flow::isPerChannel(const Operand& weights) {
  const auto& matrix = weights.matrix();
  if (!matrix.softmax || matrix.fromScores || matrix.layerKeys || matrix.key == kNone) return false;
  for (int64_t dim = 0; dim < weights.tensor.dim(); ++dim) {
    if (isChannel(weights, dim)) return true;
  }
  return false;
}

// Something that isn't followed is written over scores or weights, or over a part of them.
void Flow::overwritten(const at::Tensor& tensor, const at::Tensor& by) {
  const auto* found = find(tensor);
  if (!found || !(found->value || found->lost)) return;
  if (!tensor.is_view() || tensor.numel() == tensor._base().numel()) {
    newNote(tensor);
    return;
  }
  if (!found->value) return;
  if (found->value->stage != Stage::Weights) return;
  Value value = *found->value;
  const auto number = numberOf(by);
  value.kind = number && *number >= 0 ? loosened(value.kind) : Kind::Signed;
  value.normalized = kNone;
  value.version = ++versions_;
  noteOf(tensor).value = std::make_shared<Value>(std::move(value));
}

// The difference of a log-sum-exp and something else weighs what the product of those scores' weights gave.
void Flow::scaledByLogSum(Matrix& scores) {
  // Of a softmax, that was told when the logarithm was taken.
  if (std::exchange(scores.inBlocks, true) || !scores.met || !scores.softmaxes.empty()) return;
  list({scores.module, scores.operatorName, scores.sizes, kWithinBlock});
}

// The logarithm of the sum of exponentials of scores is taken: where softmaxes of them are, those may be blocks.
void Flow::logSummed(Matrix& scores) {
  scores.logSummed = true;
  for (const auto& weak : scores.softmaxes) {
    const auto softmax = weak.lock();
    // What isn't consumed so far is listed when it is.
    if (!softmax || !softmax->met || std::exchange(softmax->logSummed, true)) continue;
    list({softmax->module, softmax->operatorName, softmax->sizes, kWithinBlock});
  }
}

// What is known of operands that aren't scores or weights goes on to what is made of them.
void Flow::noteOperands(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  const auto* const storage = storageOf(result);
  const bool writes = call.schema.is_mutable();
  const auto isOfLayer = [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    if (!note || !note->by || note->summed) return false;
    const auto operand = operandOf(tensor);
    return !note->value || (operand && isLayers(operand));
  };
  // As in additive attention, or a recurrence.
  const bool ofLayers =
      call.rule.does == Does::Adds && tensors.size() > 1 && isOfLayer(tensors[0]) && isOfLayer(tensors[1]);
  const void* const by = ofLayers ? find(tensors[0])->by : nullptr;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note) continue;
    // Of a residual sum nobody asks what its features were. A number may be a tensor without dimensions, and what is
    // the same for the whole batch a mask or a bias, which may have been computed in the forward.
    const auto& beside = tensors[&tensor == tensors.data() && tensors.size() > 1 ? 1 : 0];
    const bool residual = call.rule.does == Does::Adds && tensors.size() > 1 && beside.dim() > 0 &&
                          beside.dim() >= tensor.dim() && !isFixed(beside) && !ofLayers;
    if (storageOf(tensor) != storage && !residual) copyFeatures(tensor, result);
    if (note->value) continue;
    const bool weighs = call.rule.does == Does::Exponentiates || call.rule.does == Does::Sigmoid;
    if (note->reduced && note->reduced->does == Does::LogSums && weighs) {
      // Beside constants alone it is the share that a sink leaves, and not that of a block.
      const bool sink = note->reduced->byConstants && call.rule.does == Does::Sigmoid;
      if (sink) note->reduced->matrix->logSummed = false;
      if (!sink && note->reduced->shifted) scaledByLogSum(*note->reduced->matrix);
    }
    if (storageOf(tensor) != storage) {
      const auto& known = noteOf(result).reduced;
      const bool ofLargest = note->reduced && known && known->does == Does::Extremes &&
                             (note->reduced->does == Does::LogSums || note->reduced->does == Does::Sums) &&
                             known->matrix == note->reduced->matrix;
      if (note->reduced && (!known || ofLargest)) {
        // What keeps a division from failing is no part of it; more than that is.
        auto reduced = *note->reduced;
        const auto other = call.rule.does == Does::Adds ? call.argument("other") : std::nullopt;
        const auto number = other ? numberOf(*other) : std::nullopt;
        if (call.rule.does == Does::Logarithms && reduced.does == Does::Sums && reduced.exponentOf != 0) {
          reduced.does = Does::LogSums;
          logSummed(*reduced.matrix);
        }
        // The largest of the scores, which was subtracted ahead of the exponentials.
        const auto* besideNote = find(beside);
        const bool undone = call.rule.does == Does::Adds && reduced.does == Does::LogSums && reduced.unshifted != 0 &&
                            besideNote && besideNote->reduced && besideNote->reduced->does == Does::Extremes &&
                            besideNote->reduced->matrix == reduced.matrix;
        if (undone) reduced.exponentOf = std::exchange(reduced.unshifted, 0);
        const bool more = call.rule.does == Does::Adds && !number && tensors.size() > 1 && !undone;
        const bool shifts = more || call.rule.does == Does::Subtracts || call.rule.does == Does::SubtractsFrom;
        reduced.shifted = reduced.shifted || shifts;
        if (shifts && tensors.size() > 1) reduced.byConstants = reduced.byConstants && isFixed(beside);
        reduced.exact = reduced.exact && !more && !(number && std::abs(*number) > 1e-2);
        noteOf(result).reduced = reduced;
      } else if (note->reduced && call.rule.does == Does::Adds &&
                 note->reduced->matrix != noteOf(result).reduced->matrix) {
        // Of several blocks of keys.
        auto& sum = *noteOf(result).reduced;
        sum.others.push_back(note->reduced->matrix);
        sum.exact = false;
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
  if (ofLayers && storage) {
    auto& sum = noteOf(result);
    sum.by = by;
    sum.summed = true;
  }
  ownFeatures(call, tensors, result);
  gates(call, tensors, result);
}

// Beside what a layer made, a dimension that constants alone have is theirs: glimpses, each with a scale of its own,
// are as heads.
void Flow::ownFeatures(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does != Does::Scales || tensors.size() != 2 || !storageOf(result)) return;
  for (size_t place = 0; place < 2; ++place) {
    const auto &constants = tensors[place], &other = tensors[1 - place];
    if (!isFixed(constants) || isFixed(other)) continue;
    const auto operand = operandOf(other);
    if (operand ? !isLayers(operand) : !operand.note || operand.note->value || !operand.note->layer) continue;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto here = aligned(constants, result, dim), there = aligned(other, result, dim);
      if (!varies(constants, here) || (there >= 0 && other.size(there) > 1)) continue;
      noteOf(result).features.push_back({result.stride(dim), result.size(dim), false, false, result.size(dim)});
    }
  }
}

// Of what was expanded, an operator makes copies that are alike.
void Flow::constantAlong(const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  std::vector<std::pair<int64_t, int64_t>> constant;
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const bool any = std::any_of(tensors.begin(), tensors.end(),
                                 [&](const at::Tensor& each) { return varies(each, aligned(each, result, dim)); });
    if (!any && result.size(dim) > 1) constant.emplace_back(result.stride(dim), result.size(dim));
  }
  if (!constant.empty() || find(result)) noteOf(result).constant = std::move(constant);
}

void Flow::elementwise(const Call& call, const at::Tensor& result) {
  std::vector<Operand> sources;
  std::vector<at::Tensor> tensors;
  bool traced = false, fixed = false;
  const bool copiesInto = call.rule.does == Does::Copies && call.rule.operand == 1;
  for (size_t place = 0; place < call.arguments.size(); ++place) {
    const auto tensor = call.tensor(place);
    if (!tensor.defined() || (copiesInto && place == 0)) continue;
    tensors.push_back(tensor);
    auto operand = operandOf(tensor);
    const auto* const note = operand.note;
    traced = traced || (note && (note->value || note->lost || note->weighs));
    fixed = fixed || (note && note->fixed != Fixed::No);
    if (operand) sources.push_back(std::move(operand));
  }
  elementByElement(call, tensors, sources, result);
  if (traced) {
    weighed(call, tensors, result);
    lose(tensors, result);
  }
  if (fixed) stayFixed(tensors, result);
}

void Flow::elementByElement(const Call& call, const std::vector<at::Tensor>& tensors,
                            const std::vector<Operand>& sources, const at::Tensor& result) {
  const bool copiesInto = call.rule.does == Does::Copies && call.rule.operand == 1;
  noteOperands(call, tensors, result);
  pooledRead(call, tensors, result);
  const bool writes = call.schema.is_mutable();
  auto distances = differences(call, tensors, result);
  if (writes && find(result)) {
    auto& note = noteOf(result);
    note.writtenOut.reset();
    note.gated.reset();
  }
  const bool layers = std::all_of(sources.begin(), sources.end(), isLayers);
  const bool scores = std::all_of(sources.begin(), sources.end(),
                                  [](const Operand& each) { return each.value().stage == Stage::Scores; });
  if (scores && outer(call, tensors, result)) return;
  if (!sources.empty()) combined(call, sources, tensors, result);
  if (sources.empty() && writes && copiesInto) overwritten(result, tensors.front());
  terms(call, tensors, result);
  const auto isDense = [](const at::Tensor& each) { return each.layout() == at::kStrided && !each.is_nested(); };
  if (!isDense(result) || !std::all_of(tensors.begin(), tensors.end(), isDense)) return;
  if (!layers) {
    const bool gates = std::all_of(sources.begin(), sources.end(),
                                   [](const Operand& each) { return isLayers(each) || isOfOtherKeys(each); });
    if (gates) gated(call, tensors, result);
    return;
  }
  constantAlong(tensors, result);
  if (distances) {
    noteOf(result).writtenOut = std::move(distances);
  } else {
    writtenOut(call, tensors, result);
  }
  gated(call, tensors, result);
  raised(call, tensors, result);
}

// Of weights that no softmax made, which product of which scores led to: the dimension that values have as well, where
// another one is theirs alone.
int64_t Flow::keyBeside(const Operand& weights, const at::Tensor& values, const at::Tensor& result) {
  const auto& matrix = weights.matrix();
  if (!matrix.fromScores) return kNone;
  auto key = kNone;
  bool query = false;
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const auto here = aligned(weights.tensor, result, dim), there = aligned(values, result, dim);
    if (here < 0 || weights.tensor.size(here) < 2) continue;
    const auto& components = weights.view->dims[static_cast<size_t>(here)];
    if (components.size() != 1) continue;
    const auto of = components.front().span.dim;
    if (of == kForeign || matrix.roles[static_cast<size_t>(of)] != Role::Free) continue;
    const bool both = there >= 0 && values.size(there) > 1;
    if (both && key != kNone) return kNone;
    if (both) key = of;
    query = query || !both;
  }
  for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
    const auto place = static_cast<size_t>(dim);
    query = query || (dim != key && matrix.roles[place] == Role::Free && matrix.sizes[place] == 1);
  }
  return query ? key : kNone;
}

// Weights times values, whose sum may follow: values have the keys, and dimensions that the weights don't, or there are
// weights for each channel.
std::shared_ptr<const Flow::Multiplied> Flow::multipliedBy(const Operand& weights,
                                                           const std::vector<at::Tensor>& tensors,
                                                           const at::Tensor& result) const {
  const auto& matrix = weights.matrix();
  const bool perChannel = isPerChannel(weights);
  // Of a dimension of size one, strides don't tell which one it is.
  const bool onlyKey = matrix.key != kNone && matrix.sizes[static_cast<size_t>(matrix.key)] == 1;
  for (const auto& tensor : tensors) {
    if (tensor.is_same(weights.tensor) || tensor.dim() == 0 || isFixed(tensor)) continue;
    if (matrix.generated && weights.value().kind != Kind::Softmax && matrix.generated != storageOf(tensor)) continue;
    auto key = matrix.key, query = matrix.query;
    if (key == kNone) {
      key = keyBeside(weights, tensor, result);
      if (key == kNone) continue;
      query = kNone;
    }
    bool keys = onlyKey, queries = false, behind = onlyKey, channels = false, beyond = false;
    int64_t keyDim = kNone, channel = kNone;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto here = aligned(weights.tensor, result, dim), there = aligned(tensor, result, dim);
      const bool has = there >= 0 && tensor.size(there) > 1;
      beyond = beyond || ((here < 0 || weights.tensor.size(here) == 1) && result.size(dim) > 1);
      if (perChannel && has && here >= 0 && isChannel(weights, here)) {
        channels = true;
        channel = weights.view->dims[static_cast<size_t>(here)].back().span.dim;
      }
      if (here >= 0 && weights.view->has(here, key)) {
        keys = has;
        keyDim = dim;
      } else if (here >= 0 && weights.view->has(here, query)) {
        queries = has;
      } else if (has && (here < 0 || weights.tensor.size(here) == 1)) {
        behind = behind || keyDim != kNone;
        const bool followed = matrix.fromScores && operandOf(tensor);
        channels = channels || (!followed && featureAlong(tensor, there));
      }
    }
    if (!keys || !(beyond || channels) || (queries && !behind && !channels && !matrix.layerKeys)) continue;
    auto made = std::make_shared<Multiplied>();
    made->given = weights.tensor;
    made->beside = besideOf(matrix, tensor, keyDim == kNone ? kForeign : aligned(tensor, result, keyDim));
    if (!beyond) made->channel = channel;
    made->key = key;
    made->stride = keyDim == kNone ? 0 : result.stride(keyDim);
    made->operand = retained_.retain(weights.tensor);
    made->view = *weights.view;
    made->value = weights.note->value;
    return made;
  }
  return nullptr;
}

// Whether each of two weights has queries or keys along a dimension of their product that the other hasn't.
bool Flow::areOfTwoAxes(const Operand& a, const Operand& b, const at::Tensor& result) {
  const auto has = [&](const Operand& operand, int64_t dim) {
    const auto here = aligned(operand.tensor, result, dim);
    return here >= 0 && operand.tensor.size(here) > 1;
  };
  // The weight of one key is a number for each query, a gate.
  const auto isGate = [](const Operand& operand) {
    const auto& fixed = operand.view->fixed;
    return operand.matrix().key != kNone &&
           std::any_of(fixed.begin(), fixed.end(), [&](const Span& span) { return span.dim == operand.matrix().key; });
  };
  if (isGate(a) || isGate(b)) return false;
  const auto hasAlone = [&](const Operand& one, const Operand& other) {
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      if (!has(one, dim) || has(other, dim)) continue;
      const auto& matrix = one.matrix();
      const auto here = aligned(one.tensor, result, dim);
      for (const auto of : {matrix.key, matrix.query}) {
        if (of != kNone && one.view->has(here, of)) return true;
      }
    }
    return false;
  };
  return hasAlone(a, b) && hasAlone(b, a);
}

// What an operator makes, element by element, of scores or weights among its operands.
void Flow::combined(const Call& call, const std::vector<Operand>& sources, const std::vector<at::Tensor>& tensors,
                    const at::Tensor& result) {
  const auto* const storage = storageOf(result);
  const bool writes = call.schema.is_mutable();
  const auto rank = [](const Operand& operand) {
    // Of scores alike in size, those of queries and keys are ahead of what a layer added to all keys.
    return std::tuple(operand.value().stage == Stage::Weights ? 2
                      : operand.value().stage == Stage::Log   ? 1
                                                              : 0,
                      operand.tensor.numel(), !isLayers(operand));
  };
  const auto source = *std::max_element(sources.begin(), sources.end(),
                                        [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  if (storageOf(source.tensor) == storage && !writes) return;  // it gave what it was given
  std::vector<MatrixPtr> others;
  std::optional<Kind> otherWeights;
  for (const auto& each : sources) {
    if (each.tensor.is_same(source.tensor)) continue;
    // Scores have either sign.
    const auto kind = each.value().stage == Stage::Weights ? each.value().kind : Kind::Signed;
    if (each.value().stage == source.value().stage && each.value().stage != Stage::Scores) {
      otherWeights = otherWeights == Kind::Signed ? Kind::Signed : kind;
    } else if (source.value().stage == Stage::Weights) {
      otherWeights = Kind::Signed;
    }
    if (each.value().matrix != source.value().matrix) others.push_back(each.value().matrix);
  }
  if (call.rule.does == Does::Scales && otherWeights && source.value().stage == Stage::Weights) {
    for (const auto& each : sources) {
      if (each.value().stage != Stage::Weights || !areOfTwoAxes(source, each, result)) continue;
      for (const auto* of : {&source, &each}) {
        listMatrix(of->matrix(),
                   "other weights multiply it, of other queries and keys: attention along two axes at once, or links "
                   "between the positions of a memory");
      }
      forget(result);
      return;
    }
  }
  const auto value = after(call, source, result, otherWeights);
  if (!value) {
    forget(result);
    return;
  }
  // What a copy takes the place of is gone.
  const bool replaces = writes && call.rule.does == Does::Copies && call.rule.operand == 1 &&
                        source.tensor.sizes() == result.sizes() &&
                        (!result.is_view() || result.numel() == result._base().numel());
  const auto* const written = writes && !replaces ? find(result) : nullptr;
  if (written && written->value) {
    // In place, of all of it or of a part.
    auto& note = noteOf(result);
    if (value->matrix == note.value->matrix || storageOf(source.tensor) != storage) {
      auto next = *value;
      next.matrix = note.value->matrix;
      if (value->matrix != next.matrix) {
        next.normalized = kNone;
        others.push_back(value->matrix);
      }
      for (const auto& other : others) {
        if (!other->descendsFrom(*next.matrix)) next.matrix->parents.push_back(other);
      }
      note.value = std::make_shared<Value>(std::move(next));
    }
    return;
  }
  // Written into a part of something larger: what is followed is all of that.
  const bool part = writes && result.is_view() && result._base().defined() && result._base().numel() != result.numel();
  const at::Tensor whole = part ? at::Tensor(result._base()) : result;
  std::vector<int64_t> from;
  std::vector<bool> changed;
  for (int64_t dim = 0; dim < whole.dim(); ++dim) {
    auto at = dim;
    if (part) {
      for (at = result.dim() - 1; at >= 0; --at) {
        if (result.stride(at) == whole.stride(dim) && result.size(at) > 1) break;
      }
    }
    const auto here = at < 0 ? kForeign : aligned(source.tensor, result, at);
    const bool broadcast = here < 0 || (source.tensor.size(here) == 1 && whole.size(dim) != 1);
    from.push_back(here);
    changed.push_back(!broadcast && source.tensor.size(here) != whole.size(dim));
  }
  // What scales weights times values scales what their sum gives.
  const bool scales = call.rule.does == Does::Scales || call.rule.does == Does::Copies;
  auto multiplied = scales ? source.note->multiplied : nullptr;
  const bool alone = std::all_of(sources.begin(), sources.end(), [&](const Operand& each) {
    return each.tensor.is_same(source.tensor) || isLayers(each);
  });
  if (call.rule.does == Does::Scales && source.value().stage == Stage::Weights && alone && !multiplied) {
    multiplied = multipliedBy(source, tensors, result);
  }
  // What reads a state and is subtracted from values has their features.
  const auto* const known = find(result);
  auto features = known && value->stage == Stage::Scores ? known->features : std::vector<Feature>();
  follow(source, whole, from, changed, part, *value, std::move(others));
  if (!features.empty() && find(result)) noteOf(result).features = std::move(features);
  if (multiplied) {
    if (const auto* note = find(result); note && note->value) noteOf(result).multiplied = std::move(multiplied);
  }
}

}  // namespace lta::flow
