// A library of custom operators, as users build them.
#include <ATen/ATen.h>
#include <torch/library.h>

namespace {

at::Tensor scaled(const at::Tensor& x, double by) { return x * by + 1; }

}  // namespace

TORCH_LIBRARY(lta_test, library) { library.def("scaled(Tensor x, float by) -> Tensor", scaled); }
