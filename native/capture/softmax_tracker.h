#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "torch/storage.h"

namespace lta {

// Follows the results of softmax operators to the product that consumes them: a softmax whose dimension is summed over
// in a product with another tensor is attention, a classifier's is not. Between the two the result may be viewed,
// reshaped, cast, dropped out, masked, scaled: views share its storage, and element-wise copies are reported through
// `derive`. Only weak references are kept, so that nothing lives longer than it would.
class SoftmaxTracker {
 public:
  struct Consumed {
    at::Tensor operand;                                    // of the product
    std::function<at::Tensor(const at::Tensor&)> arrange;  // views a tensor of the operand's shape as [..., Q, K]
    std::vector<int64_t> softmaxSizes;  // sizes of the softmax's own result, or of what it was a view of
    std::string module;                 // the module in which the softmax ran
  };

  bool empty() const { return tracked_.empty(); }

  // `result` = softmax(`input`) along `dim`.
  void softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, std::string module);

  // `result` was made from `source` element by element, or copied from it.
  void derive(const at::Tensor& source, const at::Tensor& result);

  // Whether the storage of `tensor` is followed.
  bool tracks(const at::Tensor& tensor) const;

  // A product a · b, summed over the last dimension of `a` and the last but one of `b`. Gives the attention weights
  // where one of the operands holds some that no product consumed before. `may` tells which of the two can be weights,
  // given what the other one is.
  struct May {
    bool a = true;
    bool b = true;
  };
  std::optional<Consumed> product(const at::Tensor& a, const at::Tensor& b, May may);
  std::optional<Consumed> product(const at::Tensor& a, const at::Tensor& b) { return product(a, b, May{}); }

  // The same for a product that sums over `dim` of `operand`, which `arrange` views as [..., Q, K].
  using Arrange = std::function<at::Tensor(const at::Tensor&)>;
  std::optional<Consumed> product(const at::Tensor& operand, int64_t dim, Arrange arrange);

 private:
  struct Softmax {
    std::vector<int64_t> sizes;
    std::string module;
    bool consumed = false;
  };
  // One memory layout in which the values of a softmax exist.
  struct Tracked {
    WeakStorage storage;
    int64_t stride;  // of the softmax's dimension
    int64_t size;
    std::shared_ptr<Softmax> softmax;
  };

  const Tracked* find(const at::Tensor& tensor) const;
  void track(const at::Tensor& tensor, int64_t dim, std::shared_ptr<Softmax> softmax);

  std::vector<Tracked> tracked_;
};

}  // namespace lta
