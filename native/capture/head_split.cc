#include "capture/head_split.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lta {
namespace {

struct BatchAndHeads {
  int64_t batch;
  int64_t heads;
};

// What a view of [lead, Q, D] or of its transpose [Q, lead, D] to `shape` tells of `lead`, if it does. `moved`: whether
// it may be of the latter; of the former, what is beside D is queries.
std::optional<BatchAndHeads> split(at::IntArrayRef shape, int64_t lead, int64_t queries, int64_t depth, bool moved) {
  if (shape.size() < 2) return std::nullopt;  // all of it in a row tells nothing
  const auto last = shape.back();
  if (last != depth) {  // [..., H · D]
    if (!moved && queries > 1) return std::nullopt;
    if (last <= 0 || depth == 0 || last % depth != 0 || lead % (last / depth) != 0) return std::nullopt;
    return BatchAndHeads{lead / (last / depth), last / depth};
  }
  if (shape.size() != 4) return std::nullopt;
  if (shape[0] * shape[1] == lead && shape[2] == queries) return BatchAndHeads{shape[0], shape[1]};  // [B, H, Q, D]
  if (shape[0] == queries && shape[1] * shape[2] == lead) return BatchAndHeads{shape[1], shape[2]};  // [Q, B, H, D]
  return std::nullopt;
}

}  // namespace

bool HeadSplit::follow(const at::Tensor& product, Resolved resolved) {
  auto* storage = storageOf(product);
  if (!storage || product.dim() != 3) return false;
  std::erase_if(products_, [](const Product& p) { return p.storage.expired(); });
  products_.push_back({weakly(storage), product.size(0), product.size(1), product.size(2), std::move(resolved),
                       !product.is_contiguous()});
  return true;
}

HeadSplit::Product* HeadSplit::find(const at::Tensor& tensor) {
  const auto* storage = storageOf(tensor);
  if (!storage) return nullptr;
  for (auto it = products_.rbegin(); it != products_.rend(); ++it) {
    if (isStorage(it->storage, storage)) return &*it;
  }
  return nullptr;
}

void HeadSplit::derive(const at::Tensor& source, const at::Tensor& result) {
  auto* product = find(source);
  auto* storage = storageOf(result);
  if (!product || !storage || storage == storageOf(source) || source.numel() != result.numel()) return;
  product->storage = weakly(storage);
  product->moved = product->moved || (!source.is_contiguous() && result.is_contiguous());
}

std::optional<HeadSplit::Split> HeadSplit::view(const at::Tensor& source, at::IntArrayRef shape) {
  auto* product = find(source);
  // What has another last dimension by now tells nothing of heads.
  if (!product || source.dim() == 0 || source.size(-1) != product->depth) return std::nullopt;
  // Nor does what it is a part of by now.
  if (source.numel() != product->lead * product->queries * product->depth) return std::nullopt;
  std::vector<int64_t> full(shape.begin(), shape.end());
  int64_t known = 1;
  int64_t* free = nullptr;
  for (auto& size : full) {
    if (size == -1) {
      free = &size;
    } else {
      known *= size;
    }
  }
  if (free) *free = known > 0 ? source.numel() / known : 0;
  const bool moved = product->moved || !source.is_contiguous() || source.numel() == 0;
  const auto told = split(full, product->lead, product->queries, product->depth, moved);
  if (!told) return std::nullopt;
  if (told->heads == 1 && told->batch > 1 && full.size() == 4) {
    product->single = true;
    return std::nullopt;
  }
  Split result{std::move(product->resolved), told->batch, told->heads};
  products_.erase(products_.begin() + (product - products_.data()));
  return result;
}

std::vector<HeadSplit::Split> HeadSplit::takeSingle() {
  std::vector<Split> splits;
  for (auto& product : products_) {
    if (product.single) splits.push_back({std::move(product.resolved), product.lead, 1});
  }
  std::erase_if(products_, [](const Product& product) { return product.single; });
  return splits;
}

}  // namespace lta
