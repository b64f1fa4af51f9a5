// Attention weights that products take in parts (slices, a head or a sample at a time), put together.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "capture/flow/arrangement.h"
#include "capture/retained_tensors.h"

namespace lta {

class Assembly {
 public:
  struct Part {
    std::shared_ptr<RetainedTensor> operand;
    flow::Arrangement arrange;
    at::Tensor gradientPoint;  // with the option `gradients`
  };

  // `sizes`: of the whole, [leading dimensions…, Q, K].
  explicit Assembly(std::vector<int64_t> sizes) : sizes_(std::move(sizes)) {}

  // Whether a part has nothing in common with those that there are.
  bool isApart(const flow::Arrangement& part) const;
  // Whether one of them has all of it.
  bool contains(const flow::Arrangement& part) const;
  void add(Part part);
  // The only part from now on.
  void replace(Part part);
  // Whether the parts are all of it.
  bool isWhole() const;

  // What the parts cover along each dimension: the whole, or as much as any product took.
  std::vector<int64_t> sizes() const;
  // Whether that is every key of each of its queries.
  bool hasWholeRows() const;
  // The weights, zero where no product took them. `sizes()` of them.
  at::Tensor weights() const;
  const std::vector<Part>& parts() const { return parts_; }
  // Something of a part's shape, where the part lies in the whole.
  at::Tensor place(const Part& part, const at::Tensor& gradient) const;

 private:
  std::vector<std::vector<int64_t>> covered() const;
  bool hasNoGaps() const;
  void write(const Part& part, const at::Tensor& from, at::Tensor& into) const;

  const std::vector<int64_t> sizes_;
  std::vector<Part> parts_;
  bool overlap_ = false;
};

}  // namespace lta
