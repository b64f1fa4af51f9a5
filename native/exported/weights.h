#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "exported/package.h"

namespace lta::exported {

// A tensor that a program refers to by name.
struct Weight {
  std::string name;
  at::Tensor tensor;
  bool isState = false;  // of the model's state dictionary, not a constant
};

// Reads the tensors of a program, those of its state and its constants, in the file's order. Those that share a storage
// share it here. Each lies inside its record. Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE for objects of Python.
std::vector<Weight> readWeights(const Package& package, bool untrusted);

}  // namespace lta::exported
