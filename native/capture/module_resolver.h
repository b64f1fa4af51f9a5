// Which module is running. Knows no kind of model.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace lta {

// Tells, while a model runs, which of its modules is running. Implemented where modules are known (TorchScript, native
// modules), so that the attention code needs to know neither.
class ModuleResolver {
 public:
  virtual ~ModuleResolver() = default;
  // Dotted name of the innermost module that the calling thread is in; empty for the model itself or where the model
  // has no modules left.
  virtual std::string current() const = 0;
  // Dotted name of the module that owns this parameter; empty where none does.
  virtual std::string ownerOf(const at::Tensor& parameter) const = 0;
  // Whether a tensor is a parameter of the model, or a view of one.
  virtual bool isParameter(const at::Tensor& tensor) const = 0;
};

}  // namespace lta
