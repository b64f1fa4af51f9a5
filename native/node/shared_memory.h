// Tensors on the memory of JavaScript.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

namespace lta::node {

// A CPU tensor on the memory of a typed array, which is kept alive until the last tensor on it is freed, on any thread.
// lib/ ensures that nobody can detach or resize the underlying buffer.
at::Tensor tensorOn(Napi::TypedArray array, at::IntArrayRef shape, at::ScalarType type);

}  // namespace lta::node
