#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {
namespace {

// Dimensions along which a tensor has elements of its own, but for `except`.
int64_t ownDims(const at::Tensor& tensor, int64_t except = kNone) {
  int64_t count = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (dim != except && tensor.size(dim) > 1 && tensor.stride(dim) != 0) ++count;
  }
  return count;
}

}  // namespace

bool Flow::picksMatrices(Does does, const at::Tensor& table) {
  return (does == Does::Picks || does == Does::Selects || does == Does::Indexes) && table.dim() > 2;
}

// Whether what an operator gives is weights of a layer, for each of the batch: picked from parameters, or several of
// them mixed. (Rows that are picked, as of an embedding, are activations.)
bool Flow::isMadeTable(const Call& call, const at::Tensor& result) const {
  const auto does = call.rule.does;
  const auto first = call.tensor(0);
  if (picksMatrices(does, first)) {
    if (isTable(first)) return true;
    if (!isFixed(first) || isFixed(result)) return false;
    if (does == Does::Indexes) {
      const auto indexed = indexedDims(call, result.dim());
      if (!indexed) return false;
      auto own = ownDims(first);
      for (auto each = indexed->first; each < indexed->first + indexed->count; ++each)
        own -= first.size(each) > 1 ? 1 : 0;
      return own > 1;
    }
    const auto dim = call.argument("dim");
    return dim && dim->isInt() && ownDims(first, wrapped(dim->toInt(), first.dim())) > 1;
  }
  const auto second = call.arguments.size() > 1 ? call.tensor(1) : at::Tensor();
  const bool both = first.defined() && second.defined();
  if (does == Does::Scales && both) {
    for (const auto& [table, numbers] : {std::pair(first, second), std::pair(second, first)}) {
      if (isTable(table)) return numbers.numel() < table.numel();
      if (!isFixed(table) || isFixed(numbers) || ownDims(table) < 2) continue;
      int64_t own = 0, shared = 0;
      for (int64_t dim = 0; dim < result.dim(); ++dim) {
        const auto here = aligned(table, result, dim), there = aligned(numbers, result, dim);
        if (here < 0 || table.size(here) < 2) continue;
        ++(there < 0 || numbers.size(there) == 1 ? own : shared);
      }
      if (own > 1 && shared > 0) return true;
    }
    return false;
  }
  if (!anyTable_) return false;
  switch (does) {
    case Does::Copies:
    case Does::Reshapes:
    case Does::Sums:
    case Does::Averages:
      return isTable(first);
    case Does::Adds:
    case Does::Subtracts:
      return both && (isTable(first) || isTable(second)) && (isTable(first) || isFixed(first) || first.dim() == 0) &&
             (isTable(second) || isFixed(second) || second.dim() == 0);
    case Does::Concatenates:
    case Does::Stacks: {
      if (!call.arguments[0].isTensorList()) return false;
      const auto tensors = call.arguments[0].toTensorVector();
      return std::any_of(tensors.begin(), tensors.end(), [&](const at::Tensor& each) { return isTable(each); }) &&
             std::all_of(tensors.begin(), tensors.end(),
                         [&](const at::Tensor& each) { return isTable(each) || isFixed(each); });
    }
    default:
      return false;
  }
}

// Whether a result is made, element by element or by picking some, of what such weights gave: the strides and sizes
// along which those differ, as `Note::tables`.
std::optional<std::vector<std::pair<int64_t, int64_t>>> Flow::tablesBehind(const Call& call,
                                                                           const at::Tensor& result) const {
  const auto does = call.rule.does;
  const bool moves = does >= Does::Picks && does <= Does::Stacks;
  if (!anyTable_ || !(isPointwise(does) || moves || does == Does::Reshapes)) return std::nullopt;
  std::optional<std::vector<std::pair<int64_t, int64_t>>> tables;
  const auto look = [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    if (!note || !note->byTable || tables) return;
    const bool inPlace = isPointwise(does) && tensor.sizes() == result.sizes() && tensor.strides() == result.strides();
    tables.emplace();
    if (inPlace || storageOf(tensor) == storageOf(result)) tables = note->tables;
  };
  for (const auto& argument : call.arguments) {
    if (argument.isTensor()) look(argument.toTensor());
    if (!argument.isTensorList()) continue;
    for (const at::Tensor& tensor : argument.toTensorVector()) look(tensor);
  }
  return tables;
}

bool Flow::isByTable(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || !note->byTable) return false;
  const auto stride = tensor.stride(dim);
  return note->tables.empty() || std::any_of(note->tables.begin(), note->tables.end(), [&](const auto& along) {
           return stride >= along.first && stride < along.first * along.second;
         });
}

// A softmax of what a layer made of each sample mixes rows of a table of constants: slots of a memory, unless those are
// weights of a layer.
void Flow::mixesRows(const Operand& weights, const at::Tensor& table, int64_t own, const at::Tensor& result) {
  if (!weights || weights.value().stage != Stage::Weights || weights.tensor.dim() != 2 || table.dim() != 2) return;
  const auto& matrix = weights.value().matrix;
  if (!matrix->softmax || !matrix->layerKeys || !matrix->metNothing.empty() || result.size(own) < 2) return;
  matrix->metNothing =
      "a softmax over what a layer made of each sample, and a product with a table of constants: attention over the "
      "slots of a memory, or a layer's activation";
  matrices_.push_back(matrix);
  noteOf(result).mixes = matrix;
}

// What was mixed multiplies as the weights of a layer do: by a router.
void Flow::usedAsKernel(const at::Tensor& mixed) {
  if (const auto* note = find(mixed); note && note->mixes) note->mixes->meet();
}

// A product of constants is a constant: what a layer makes of them, or scores of two of those.
void Flow::fixedProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& result) {
  fixed_.add(result);
  const auto isOfLayer = [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    return note && note->fixed == Fixed::OfLayer;
  };
  if (isOfLayer(a) && isOfLayer(b)) {
    auto lead = leadOf(a);
    auto& made = newNote(result);
    made.fixed = Fixed::Scores;
    made.lead = lead;
  } else if (a.dim() == 2 || b.dim() == 2) {
    newNote(result).fixed = Fixed::OfLayer;
  }
}

// As it is in another form.
void Flow::stayFixed(const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (!storageOf(result) || !isFixed(result)) return;
  for (const auto& tensor : tensors) {
    const auto* note = find(tensor);
    if (!note || note->fixed == Fixed::No || storageOf(tensor) == storageOf(result)) continue;
    const auto fixed = note->fixed;
    auto& made = noteOf(result);
    made.fixed = std::max(made.fixed, fixed);
  }
}

bool Flow::isTable(const at::Tensor& tensor) const {
  if (!anyTable_) return false;
  const auto* note = find(tensor);
  return note && note->table;
}

// Whether one layer made both dimensions of an operand, those that a product sums over and those that it leaves.
bool Flow::isGenerated(const at::Tensor& tensor, int64_t summed, int64_t own) const {
  if (tensor.dim() < 3 || own < 0) return false;
  const auto* const along = featureAlong(tensor, summed);
  const auto* const beside = featureAlong(tensor, own);
  return along && beside && !along->stacked && !beside->stacked && along->whole == beside->whole &&
         tensor.size(summed) * tensor.size(own) <= along->whole;
}

}  // namespace lta::flow
