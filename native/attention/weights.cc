#include "attention/weights.h"

#include <ATen/ATen.h>
#include <ATen/NestedTensorImpl.h>

#include <cmath>
#include <limits>

namespace lta {
namespace {

at::Tensor indexTensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

at::Tensor pick(const at::Tensor& tensor, int64_t dim, const std::optional<std::vector<int64_t>>& indices) {
  if (!indices) return tensor;
  // A run of neighbours is a view, which costs nothing.
  bool run = !indices->empty();
  for (size_t i = 1; i < indices->size() && run; ++i) run = (*indices)[i] == (*indices)[i - 1] + 1;
  if (run) return tensor.narrow(dim, indices->front(), static_cast<int64_t>(indices->size()));
  return tensor.index_select(dim, indexTensor(*indices, tensor.device()));
}

// [.., H, L, E] as [B, H, L, E]: batch first, whatever lies between counts as heads.
at::Tensor asFourDimensions(const at::Tensor& tensor) {
  switch (tensor.dim()) {
    case 4:
      return tensor;
    case 2:
      return tensor.unsqueeze(0).unsqueeze(0);
    case 3:
      return tensor.unsqueeze(0);
    default:
      return tensor.flatten(1, -3);
  }
}

at::Tensor broadcastMask(const at::Tensor& mask, at::IntArrayRef leading, int64_t queries, int64_t keys) {
  std::vector<int64_t> sizes(leading.begin(), leading.end());
  sizes.push_back(queries);
  sizes.push_back(keys);
  return asFourDimensions(mask.expand(sizes));
}

// Rows that no key takes part in, as a boolean tensor that broadcasts to [B, H, Q, 1].
at::Tensor maskedRows(const at::Tensor& mask) {
  const auto out = mask.scalar_type() == at::kBool ? mask.logical_not()
                                                   : mask.eq(-std::numeric_limits<double>::infinity());
  return out.all(-1, /*keepdim=*/true);
}

// A mask is given for few of its dimensions and expanded over the rest; work on it is done once for what there is.
at::Tensor withoutExpansion(at::Tensor mask) {
  for (int64_t dim = 0; dim < mask.dim(); ++dim) {
    if (mask.stride(dim) == 0 && mask.size(dim) > 1) mask = mask.narrow(dim, 0, 1);
  }
  return mask;
}

}  // namespace

AttentionShape shapeOf(at::IntArrayRef sizes) {
  AttentionShape shape;
  const auto dims = static_cast<int64_t>(sizes.size());
  shape.keys = sizes[dims - 1];
  shape.queries = dims > 1 ? sizes[dims - 2] : 1;
  if (dims == 3) {
    shape.batch = sizes[0];
    shape.headsKnown = false;
  } else if (dims > 3) {
    shape.batch = sizes[0];
    for (int64_t dim = 1; dim < dims - 2; ++dim) shape.heads *= sizes[dim];
  }
  return shape;
}

AttentionShape shapeOf(const SdpaArguments& call) {
  std::vector<int64_t> sizes;
  if (call.query.is_nested()) {
    // [B, H, lengths differ, E]: the padded shape, which is what the weights get.
    const auto longest = [](const at::Tensor& tensor) {
      const auto lengths = at::native::get_nested_tensor_impl(tensor)->get_nested_sizes();
      return lengths.select(1, 1).max().item<int64_t>();
    };
    return {call.query.size(0), call.query.size(1), longest(call.query), longest(call.key), true};
  }
  const auto lead = call.query.dim() - 2;
  if (call.groupedQuery || call.key.dim() != call.query.dim()) {
    sizes.assign(call.query.sizes().begin(), call.query.sizes().begin() + lead);
  } else {
    sizes = at::infer_size(call.query.sizes().slice(0, lead), call.key.sizes().slice(0, lead));
  }
  sizes.push_back(call.query.size(-2));
  sizes.push_back(call.key.size(-2));
  return shapeOf(sizes);
}

at::Tensor selectRows(const at::Tensor& weights, const Rows& rows) {
  return pick(pick(weights, 1, rows.heads), 2, rows.queries);
}

namespace {

// A jagged batch: padded, its padded keys masked, its padded queries zero (they don't exist for the kernel).
at::Tensor computeNested(const SdpaArguments& call, const Rows& rows) {
  const auto padded = [](const at::Tensor& tensor) { return at::nested_to_padded_tensor(tensor, 0.0); };
  const auto present = [](const at::Tensor& tensor, int64_t longest) {
    const auto lengths = at::native::get_nested_tensor_impl(tensor)->get_nested_sizes().select(1, 1).to(tensor.device());
    return at::arange(longest, lengths.options()).unsqueeze(0).lt(lengths.unsqueeze(1));  // [B, longest]
  };
  SdpaArguments dense = call;
  dense.query = padded(call.query);
  dense.key = padded(call.key);
  const auto queries = present(call.query, dense.query.size(2));
  const auto keys = present(call.key, dense.key.size(2));
  dense.mask = queries.unsqueeze(1).unsqueeze(3).logical_and(keys.unsqueeze(1).unsqueeze(2));
  return computeWeights(dense, rows);
}

}  // namespace

at::Tensor computeWeights(const SdpaArguments& call, const Rows& rows) {
  if (call.query.is_nested()) return computeNested(call, rows);
  const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto lead = call.query.dim() - 2;
  const auto allQueries = call.query.size(-2);
  const auto keys = call.key.size(-2);
  const double scale = call.scale.value_or(1.0 / std::sqrt(static_cast<double>(call.query.size(-1))));

  auto query = asFourDimensions(call.query);
  auto key = asFourDimensions(call.key);
  const auto heads = query.size(1);
  query = selectRows(query, rows);
  const auto batch = std::max(query.size(0), key.size(0));
  const auto pickedHeads = query.size(1);
  const auto queries = query.size(2);

  // The key's heads, each beside the query heads that it serves: all query heads of a group become rows of one product,
  // so that grouped keys are never repeated.
  int64_t group = 1;
  if (key.size(1) != heads && key.size(1) != 0 && heads % key.size(1) == 0) group = heads / key.size(1);
  if (group > 1 && rows.heads) {
    std::vector<int64_t> serving;
    for (const auto head : *rows.heads) serving.push_back(head / group);
    key = pick(key, 1, serving);
    group = 1;
  } else if (group == 1) {
    if (key.size(1) == heads) key = pick(key, 1, rows.heads);
  }
  query = query.to(type);
  key = key.to(type);
  const auto keyHeads = group > 1 ? key.size(1) : pickedHeads;
  const auto embed = query.size(3);
  const auto products = at::bmm(
      query.expand({batch, pickedHeads, queries, embed}).reshape({batch * keyHeads, group * queries, embed}).mul(scale),
      key.expand({batch, keyHeads, keys, embed}).reshape({batch * keyHeads, keys, embed}).transpose(1, 2));
  auto scores = products.view({batch, pickedHeads, queries, keys});

  at::Tensor empty;  // rows without any key, where a mask makes some possible
  if (call.mask && call.mask->defined()) {
    const auto leading = call.query.sizes().slice(0, lead);
    auto mask = broadcastMask(*call.mask, leading, allQueries, keys);
    const auto maskRows = Rows{mask.size(1) == heads ? rows.heads : std::nullopt, rows.queries};
    mask = withoutExpansion(selectRows(mask, maskRows));
    if (mask.scalar_type() == at::kBool) {
      scores.masked_fill_(mask.logical_not(), -std::numeric_limits<double>::infinity());
    } else {
      scores.add_(mask);
    }
    empty = maskedRows(mask);
  }
  if (call.causal) {
    auto rowIndex = rows.queries ? indexTensor(*rows.queries, scores.device())
                                 : at::arange(allQueries, at::TensorOptions().dtype(at::kLong).device(scores.device()));
    const auto column = at::arange(keys, rowIndex.options());
    scores.masked_fill_(column.unsqueeze(0).gt(rowIndex.unsqueeze(1)), -std::numeric_limits<double>::infinity());
  }
  at::_softmax_out(scores, scores, -1, /*half_to_float=*/false);
  if (empty.defined() && empty.any().item<bool>()) scores.masked_fill_(empty, 0.0);
  return scores;
}

}  // namespace lta
