#include "torch/nested.h"

#include <ATen/NestedTensorImpl.h>

namespace lta {

at::Tensor sizesOfNested(const at::Tensor& nested) {
  return at::native::get_nested_tensor_impl(nested)->get_nested_sizes();
}

}  // namespace lta
