#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"

namespace lta::flow {
namespace {

// The dimension of the only key; none where there are several.
int64_t keysOfSizeOne(const Matrix& matrix) {
  if (matrix.key != kNone) return matrix.sizes[static_cast<size_t>(matrix.key)] == 1 ? matrix.key : kNone;
  for (auto dim = matrix.dims() - 1; dim >= 0; --dim) {
    const auto place = static_cast<size_t>(dim);
    if (matrix.roles[place] == Role::Free && matrix.sizes[place] == 1) return dim;
  }
  return kNone;
}

}  // namespace

// What is the same along a dimension is it, too, once others were reduced.
void Flow::constantBeyond(const Call& call, const at::Tensor& result) {
  const auto tensor = call.tensor(0);
  const auto argument = call.argument("dim");
  if (!argument || tensor.layout() != at::kStrided || tensor.is_nested()) return;
  auto dims = intsOf(*argument);
  for (auto& dim : dims) dim = wrapped(dim, tensor.dim());
  const bool keepdim = result.dim() == tensor.dim();
  std::vector<std::pair<int64_t, int64_t>> constant;
  int64_t at = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    const bool reduces = std::find(dims.begin(), dims.end(), dim) != dims.end();
    if (reduces && !keepdim) continue;
    const auto here = at++;
    if (here >= result.dim()) return;
    if (!reduces && tensor.size(dim) > 1 && !varies(tensor, dim)) {
      constant.emplace_back(result.stride(here), result.size(here));
    }
  }
  if (!constant.empty() && storageOf(result)) noteOf(result).constant = std::move(constant);
}

std::optional<Consumed> Flow::reduced(const Call& call, const at::Tensor& result) {
  const auto source = operandOf(call.tensor(0));
  if (source.note) gatedSummed(call);
  if (source.note && writtenOutSummed(call, result)) {
    raisedSummed(call, result);
    return std::nullopt;
  }
  if (!source) {
    if (source.note && source.note->context) decide(*source.note, false);
    constantBeyond(call, result);
    raisedSummed(call, result);
    return std::nullopt;
  }
  if (call.tensor(1).defined()) {  // max of two tensors
    elementwise(call, result);
    return std::nullopt;
  }
  const auto argument = call.argument("dim");
  auto dims = argument ? intsOf(*argument) : std::vector<int64_t>();
  if (dims.empty()) dims = identity(source.tensor.dim());
  for (auto& dim : dims) dim = wrapped(dim, source.tensor.dim());
  const auto& matrix = source.matrix();
  std::vector<int64_t> gone;  // of the matrix
  for (const auto dim : dims) {
    for (const auto& component : source.view->dims[static_cast<size_t>(dim)]) {
      if (component.span.dim != kForeign) gone.push_back(component.span.dim);
    }
  }
  const auto goes = [&](int64_t dim) { return dim != kNone && std::find(gone.begin(), gone.end(), dim) != gone.end(); };
  if (source.note->multiplied && (call.rule.does == Does::Sums || call.rule.does == Does::Averages)) {
    const auto& multiplied = *source.note->multiplied;
    const auto& value = *multiplied.value;
    const auto key = multiplied.key;
    // The dimension of the matrix here that stands for its keys.
    const bool onlyKey = gone.empty() && keysOfSizeOne(*value.matrix) == key;
    const bool overKeys = value.matrix->key == kNone
                              ? dims.size() == 1 && source.tensor.stride(dims.front()) == multiplied.stride
                              : goes(matrix.key) || (matrix.key == kNone && !gone.empty()) || onlyKey;
    if (overKeys && key != kNone && dims.size() == 1) {
      if (value.exponential) {
        listMatrix(*value.matrix, "weights that nothing had normalized multiplied the values (a softmax in blocks)");
        return std::nullopt;
      }
      Aim aim;
      aim.key = key;
      aim.row = multiplied.channel;
      if (isMixture(*value.matrix, aim, multiplied.beside) || isPlaced(*value.matrix, multiplied.beside)) {
        return std::nullopt;
      }
      auto consumed = consume(multiplied.operand->get(), multiplied.view, multiplied.value, aim);
      consumed.point = multiplied.given;
      return consumed;
    }
  }
  bool ofEach = false;  // a number for each query, or for each key
  for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
    const bool tells = dim == matrix.key || dim == matrix.query || matrix.roles[static_cast<size_t>(dim)] == Role::Free;
    ofEach = ofEach || (tells && goes(dim));
  }
  if (ofEach && matrix.outer && call.rule.does == Does::Sums && source.value().stage == Stage::Scores) {
    listMatrix(source.matrix(), kRecurrence);
    return std::nullopt;
  }
  if (call.rule.does == Does::LogSums && source.value().stage == Stage::Scores) {
    logSummed(source.matrix());
  }
  if (ofEach || gone.empty()) {
    auto dim = gone.size() == 1 ? gone.front() : kNone;
    if (gone.empty() && dims.size() == 1) dim = keysOfSizeOne(matrix);
    if (dim != kNone) {
      const bool whole = source.view->covers(dim, matrix.sizes[static_cast<size_t>(dim)]);
      const auto& value = source.value();
      Reduced reduced{value.matrix, call.rule.does, dim, value.version, whole};
      if (call.rule.does == Does::LogSums) reduced.exponentOf = value.version;
      if (call.rule.does == Does::Sums && value.exponential) {
        reduced.exponentOf = value.exponentOf;
        reduced.unshifted = value.unshifted;
      }
      newNote(result).reduced = std::move(reduced);
    }
    return std::nullopt;
  }
  // Over heads, or the batch.
  const auto keep = call.argument("keepdim");
  const bool keepdim = keep && keep->isBool() && keep->toBool();
  std::vector<int64_t> from;
  for (int64_t dim = 0; dim < source.tensor.dim(); ++dim) {
    const bool reduces = std::find(dims.begin(), dims.end(), dim) != dims.end();
    if (!reduces) from.push_back(dim);
    if (reduces && keepdim) from.push_back(kForeign);
  }
  if (static_cast<int64_t>(from.size()) != result.dim()) return std::nullopt;
  Value value = source.value();
  value.last = std::make_shared<Step>(call.name, value.last);
  value.version = ++versions_;
  if (value.stage == Stage::Weights && call.rule.does != Does::Averages) {
    value.kind = loosened(value.kind);
    value.normalized = kNone;
  }
  follow(source, result, from, std::vector<bool>(from.size(), false), /*combined=*/true, std::move(value));
  return std::nullopt;
}

}  // namespace lta::flow
