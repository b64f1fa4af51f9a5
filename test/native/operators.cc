// A library of custom operators, as users build them.
#include <ATen/ATen.h>
#include <torch/library.h>

namespace {

at::Tensor scaled(const at::Tensor& x, double by) { return x * by + 1; }

// Adds to the sum, doubles the rest.
at::Tensor accumulate(at::Tensor& sum, at::TensorList rest, const at::Tensor& x) {
  sum.add_(x.narrow(0, 0, sum.size(0)));
  for (const auto& each : rest) each.mul_(2);
  return x.mean(0);
}

void invert(at::Tensor& x) { x.neg_(); }

}  // namespace

TORCH_LIBRARY(lta_test, library) {
  library.def("scaled(Tensor x, float by) -> Tensor", scaled);
  library.def("accumulate(Tensor(a!) sum, Tensor(b!)[] rest, Tensor x) -> Tensor");
  library.impl("accumulate", c10::DispatchKey::CPU, accumulate);
  library.def("invert(Tensor(a!) x) -> ()");
  library.impl("invert", c10::DispatchKey::CPU, invert);
}
