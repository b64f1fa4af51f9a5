// Maps parameters, and views of them, to the modules that own them.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "capture/module_resolver.h"
#include "torch/storage.h"

namespace lta::engine {

// Dotted module names by parameter. Tensors keep their identity when `to` replaces their data.
using ParameterOwners = std::unordered_map<const c10::TensorImpl*, std::string>;

// Resolves parameters by identity, and views of them by the storages at construction. `kCurrentModule` returns the
// module that the calling thread is in.
template <std::string (*kCurrentModule)()>
class ParameterResolver final : public ModuleResolver {
 public:
  explicit ParameterResolver(std::shared_ptr<const ParameterOwners> owners) : owners_(std::move(owners)) {
    for (const auto& [parameter, owner] : *owners_) {
      if (parameter->has_storage()) storages_.insert(parameter->storage().unsafeGetStorageImpl());
    }
  }

  std::string current() const override { return kCurrentModule(); }

  std::string ownerOf(const at::Tensor& parameter) const override {
    const auto found = owners_->find(parameter.unsafeGetTensorImpl());
    return found == owners_->end() ? std::string() : found->second;
  }

  bool isParameter(const at::Tensor& tensor) const override {
    const auto* storage = storageOf(tensor);
    return storage && storages_.count(storage) != 0;
  }

 private:
  const std::shared_ptr<const ParameterOwners> owners_;
  std::unordered_set<const c10::StorageImpl*> storages_;
};

}  // namespace lta::engine
