// From weights back to the scores that they were computed from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "capture/retained_tensors.h"
#include "torch/storage.h"

namespace lta {

// Finds the scores behind weights: what a softmax was computed from, laid out as the tensor that its result has become
// on the way to a product. Views of the result share its storage, and element-wise copies are reported through
// `derive`; what was computed from it otherwise has no scores. To be used under one lock.
class ScoreTracker {
 public:
  // Gives the scores, once they are needed: what they are computed from has to be locked for reading.
  using Scores = std::function<at::Tensor()>;

  // `result` = softmax(scores), with the sizes of both alike.
  void softmax(std::shared_ptr<RetainedTensor> scores, const at::Tensor& result);
  // `result` was made from `source` element by element, or copied from it.
  void derive(const at::Tensor& source, const at::Tensor& result);
  // The scores of weights, laid out as those; null where none are known.
  Scores behind(const at::Tensor& weights) const;

 private:
  // Where elements lie in a storage.
  struct Layout {
    explicit Layout(const at::Tensor& tensor);
    // The last element in the storage, and whether all of another layout lies between that and the first.
    int64_t last() const;
    bool contains(const Layout& other) const;
    // A copy of a tensor that is laid out so, from the first element of its memory on.
    at::Tensor of(const at::Tensor& tensor) const;

    std::vector<int64_t> sizes;
    std::vector<int64_t> strides;
    int64_t offset;
  };
  struct Tracked {
    WeakStorage storage;
    Layout layout;
    Scores scores;  // with that layout, but for the offset
  };

  const Tracked* find(const at::Tensor& tensor) const;
  void track(const at::Tensor& tensor, Scores scores);
  // The part of scores laid out as `from` that lies where `to` does in the storage of both; null where it isn't one.
  static Scores viewed(const Tracked& from, const Layout& to);

  std::vector<Tracked> tracked_;
};

}  // namespace lta
