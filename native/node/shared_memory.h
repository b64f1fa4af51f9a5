#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

namespace lta::node {

// A CPU tensor on the memory of a typed array, which is kept until the last tensor on that memory is gone, on whichever
// thread that happens. The layer above sees to it that the memory stays where it is: nobody may be able to detach or
// resize the buffer behind the array.
at::Tensor tensorOn(Napi::TypedArray array, at::IntArrayRef shape, at::ScalarType type);

}  // namespace lta::node
