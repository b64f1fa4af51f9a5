// How many heads there are in [batch · heads, Q, K].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "torch/storage.h"

namespace lta {

// Attention on [batch · heads, Q, K] doesn't say how many heads there are; what the model does with the product
// [batch · heads, Q, D] does: sooner or later it is viewed as [B, H, Q, D] or merged into [..., H · D]. This follows
// each such product through transposes and copies to that view.
class HeadSplit {
 public:
  using Resolved = std::function<void(int64_t batch, int64_t heads)>;

  bool empty() const { return products_.empty(); }
  bool follows(const at::Tensor& tensor) { return find(tensor) != nullptr; }

  // What a view told: `resolved(batch, heads)` is the caller's to call.
  struct Split {
    Resolved resolved;
    int64_t batch;
    int64_t heads;
  };

  // Follows `product`, [batch · heads, Q, D], to the view that shows the number of heads. False for what has another
  // number of dimensions.
  bool follow(const at::Tensor& product, Resolved resolved);
  // `result` is a copy of `source`.
  void derive(const at::Tensor& source, const at::Tensor& result);
  // `source` is viewed or reshaped to `shape`. Gives what was followed, where this tells its heads.
  std::optional<Split> view(const at::Tensor& source, at::IntArrayRef shape);
  // At the end of a run: those that a view told a single head of, and no other view more.
  std::vector<Split> takeSingle();

 private:
  struct Product {
    WeakStorage storage;
    int64_t lead;     // batch · heads
    int64_t queries;  // Q
    int64_t depth;    // D
    Resolved resolved;
    bool moved = false;   // its dimensions are in another order in memory by now
    bool single = false;  // a view had one head, which may as well be a dimension that an einsum puts in
  };
  Product* find(const at::Tensor& tensor);

  std::vector<Product> products_;
};

}  // namespace lta
