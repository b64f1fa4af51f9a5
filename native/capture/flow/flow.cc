#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "capture/flow/dimensions.h"

namespace lta::flow {
namespace {

// Dropout outside of training.
bool dropsNothing(const Call& call) {
  if (call.name != "dropout" && call.name != "feature_dropout") return false;
  const auto train = call.argument("train");
  return train && train->isBool() && !train->toBool();
}

}  // namespace

bool Flow::concerns(c10::ArrayRef<c10::IValue> arguments) const {
  if (notes_.empty()) return false;
  for (const auto& argument : arguments) {
    if (argument.isTensor()) {
      if (find(argument.toTensor())) return true;
    } else if (argument.isTensorList()) {
      for (const at::Tensor& tensor : argument.toTensorVector()) {
        if (find(tensor)) return true;
      }
    }
  }
  return false;
}

bool Flow::follows(const at::Tensor& tensor) const {
  const auto* note = find(tensor);
  return note && (note->value || note->context || note->chosen);
}

bool Flow::isWeights(const at::Tensor& tensor) const {
  const auto* note = find(tensor);
  return note && note->value && note->value->stage == Stage::Weights;
}

bool Flow::lives(const Matrix& matrix) const {
  return std::any_of(notes_.begin(), notes_.end(), [&](const auto& entry) {
    const auto& note = entry.second;
    return note.value && note.value->matrix.get() == &matrix && !note.storage.expired();
  });
}

std::optional<Consumed> Flow::ran(const Call& call, const at::Tensor& result) {
  if (call.rule.does == Does::Takes) taken(call);
  if (!storageOf(result) || result.is_nested()) return std::nullopt;
  auto consumed = followed(call, result);
  if (call.name == "select_scatter" || call.name == "slice_scatter") placedTerms(call, result);
  if (!consumed && !isPointwise(call.rule.does)) losing(call, result);
  if (auto tables = tablesBehind(call, result)) {
    auto& note = noteOf(result);
    note.byTable = true;
    note.tables = std::move(*tables);
  }
  if (isMadeTable(call, result)) {
    noteOf(result).table = true;
    anyTable_ = true;
  }
  return consumed;
}

std::optional<Consumed> Flow::followed(const Call& call, const at::Tensor& result) {
  if (dropsNothing(call)) {
    static constexpr Rule kCopies{"clone", Does::Copies};
    if (storageOf(call.tensor(0)) != storageOf(result))
      elementwise({kCopies, call.name, call.schema, call.arguments}, result);
    return std::nullopt;
  }
  if (isPointwise(call.rule.does)) {
    elementwise(call, result);
    return std::nullopt;
  }
  switch (call.rule.does) {
    case Does::Accumulates:
    case Does::Normalizes:
      if (call.rule.does == Does::Normalizes && normalizesPairs(call, result)) break;
      elementwise(call, result);
      if (call.rule.does == Does::Accumulates) pooled(call, result);
      break;
    case Does::LogSoftmax: {
      const auto dim = call.argument("dim");
      if (dim) softmax(call.tensor(0), result, dim->toInt(), call.name == "softmax" ? "softmax" : "log_softmax");
      break;
    }
    case Does::Sums:
    case Does::Averages:
    case Does::Extremes:
    case Does::LogSums:
    case Does::Norms: {
      summedTerms(call);
      auto consumed = reduced(call, result);
      if (!consumed) pooled(call, result);
      return consumed;
    }
    case Does::Concatenates:
    case Does::Stacks:
      joined(call, result);
      joinedTerms(call, result);
      break;
    case Does::Picks:
    case Does::Selects:
    case Does::Indexes:
    case Does::Scatters:
    case Does::Resamples:
    case Does::Pads:
    case Does::Repeats:
      indexed(call, result);
      break;
    case Does::Convolves:
      convolved(call, result);
      break;
    case Does::Unfolds:
      unfolded(call, result);
      break;
    case Does::Recurs: {
      auto& note = newNote(result);
      note.layer = true;
      note.features = {{result.stride(-1), result.size(-1), true, false, result.size(-1)}};
      break;
    }
    case Does::Layers: {
      const auto& given = call.tensor(0);
      const auto own = call.name.starts_with("conv") ? int64_t{1} : result.dim() - 1;
      auto features = sharedFeatures(given, identity(own), result);
      for (auto& feature : features) feature.scored = feature.stacked;
      if (result.size(own) > 1)
        features.push_back({result.stride(own), result.size(own), true, false, result.size(own)});
      auto& note = newNote(result);
      note.layer = true;
      note.by = call.arguments[1].isObject() ? call.arguments[1].toObjectRef().slots().data() : nullptr;
      note.features = std::move(features);
      break;
    }
    case Does::Embeds:
      // A layer of numbers that choose one row each.
      if (result.dim() > 1 && result.size(-1) > 1 && !isFixed(result)) {
        newNote(result).features = {{result.stride(-1), result.size(-1), true, false, result.size(-1)}};
      }
      break;
    case Does::Chooses:
      if (const auto source = operandOf(call.tensor(0)); source && source.matrix().ofFeatures) {
        newNote(result).chosen = source.value().matrix;
      }
      break;
    case Does::Marks:
      if (const auto* note = find(call.tensor(0)); note && note->chosen) {
        chosen(note->chosen);
      } else if (const auto scores = operandOf(call.tensor(0)); scores && scores.matrix().ofFeatures) {
        // Those as large as the largest.
        const auto* largest = find(call.tensor(1));
        const bool ofThem = largest && largest->reduced && largest->reduced->does == Does::Extremes;
        if (ofThem && largest->reduced->matrix == scores.value().matrix) chosen(scores.value().matrix);
      }
      break;
    case Does::Reshapes:
      reshaped(call.tensor(0), result);
      break;
    default:
      break;
  }
  return std::nullopt;
}

// Scores of many channels, which are normalized over these, are what a model knows of pairs of positions (triangle
// multiplication and its layer norm): features, as if a layer had made them.
bool Flow::normalizesPairs(const Call& call, const at::Tensor& result) {
  if (!call.name.ends_with("layer_norm") && call.name != "rms_norm") return false;
  const auto source = operandOf(call.tensor(0));
  if (!source || source.value().stage != Stage::Scores || isLayers(source) || !storageOf(result)) return false;
  const auto& channels = source.view->dims.back();
  const bool lead = std::all_of(channels.begin(), channels.end(), [&](const Component& component) {
    const auto of = component.span.dim;
    return of != kForeign && source.matrix().roles[static_cast<size_t>(of)] == Role::Lead;
  });
  if (channels.empty() || !lead || result.size(-1) < 2) return false;
  auto& note = newNote(result);
  note.layer = true;
  note.features = {{result.stride(-1), result.size(-1), true, false, result.size(-1)}};
  return true;
}

// The largest of each row takes the place of weights.
void Flow::chosen(const MatrixPtr& matrix) {
  if (!matrix->metNothing.empty()) return;
  matrix->metNothing = "one of its keys is chosen, the others have no weight (hard attention)";
  if (!matrix->softmax) matrices_.push_back(matrix);
}

void Flow::listMatrix(Matrix& matrix, std::string reason) {
  const bool told = matrix.isTold();
  matrix.meet();
  if (told) return;
  list({matrix.module, matrix.operatorName, matrix.sizes, std::move(reason)});
}

// One of libtorch's takes them in a way that isn't followed.
void Flow::taken(const Call& call) {
  for (size_t place = 0; place < call.arguments.size(); ++place) {
    const auto operand = operandOf(call.tensor(place));
    if (!operand || isLayers(operand)) continue;
    auto& matrix = operand.matrix();
    if (!matrix.met && matrix.metNothing.empty())
      listMatrix(matrix, "what '" + call.name + "' makes of it can't be followed");
  }
}

bool Flow::taken(const std::string& name, const std::vector<c10::IValue>& arguments, const at::Tensor& result) {
  if (const auto* given = find(result); given && given->value) return true;  // what it is made of was followed
  bool any = false;
  for (const auto& argument : arguments) {
    if (!argument.isTensor()) continue;
    const auto* note = find(argument.toTensor());
    if (!note || !note->value) continue;
    auto& matrix = *note->value->matrix;
    if (!matrix.fromScores && !matrix.softmax) continue;
    any = true;
    if (matrix.met || !matrix.metNothing.empty()) continue;
    matrix.metNothing = "the operator '" + name + "' takes it, and what that does isn't known";
    if (matrix.fromScores && !matrix.softmax) matrices_.push_back(note->value->matrix);
  }
  return any;
}

std::vector<Unseen> Flow::unseen() const {
  auto all = unseen_;
  for (const auto& matrix : matrices_) {
    if (matrix->met || (matrix->unexplained && !matrix->weighs && matrix->metNothing.empty())) continue;
    all.push_back({matrix->module, matrix->operatorName, matrix->sizes,
                   matrix->metNothing.empty() ? "its result met no product with values that could be followed"
                                              : matrix->metNothing});
  }
  return all;
}

}  // namespace lta::flow
