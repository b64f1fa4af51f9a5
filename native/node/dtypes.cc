#include "node/dtypes.h"

#include "node/arguments.h"

namespace lta::node {

std::string nameOf(at::ScalarType type) {
  if (const auto* entry = findDType(type)) return entry->name;
  return std::string(c10::getDtypeNames(type).first);
}

const DType* findDType(at::ScalarType type) {
  const auto* const found =
      std::find_if(std::begin(kDTypes), std::end(kDTypes), [type](const DType& each) { return each.type == type; });
  return found == std::end(kDTypes) ? nullptr : found;
}

const DType& dtypeArgument(Napi::Value value) {
  if (value.IsString()) {
    const auto name = value.As<Napi::String>().Utf8Value();
    for (const auto& entry : kDTypes) {
      if (name == entry.name) return entry;
    }
  }
  mismatch("one of PyTorch's types of elements", "dtype", value);
}

}  // namespace lta::node
