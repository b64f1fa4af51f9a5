#include "capture/flow/call.h"

#include <ATen/ATen.h>

namespace lta::flow {
at::Tensor Call::tensor(size_t place) const {
  return place < arguments.size() && arguments[place].isTensor() ? arguments[place].toTensor() : at::Tensor();
}

std::optional<c10::IValue> Call::argument(const char* argumentName) const {
  const auto place = schema.argumentIndexWithName(argumentName);
  if (!place || arguments[static_cast<size_t>(*place)].isNone()) return std::nullopt;
  return arguments[static_cast<size_t>(*place)];
}

bool Call::divides() const { return name == "div" || name == "divide" || name == "true_divide"; }

std::vector<int64_t> intsOf(const c10::IValue& value) {
  if (value.isInt()) return {value.toInt()};
  if (value.isIntList()) return value.toIntVector();
  return {};
}

std::optional<double> numberOf(const c10::IValue& value) {
  if (value.isScalar())
    return value.toScalar().isComplex() ? std::nullopt : std::optional(value.toScalar().to<double>());
  if (!value.isTensor() || !value.toTensor().defined()) return std::nullopt;
  const auto& tensor = value.toTensor();
  if (tensor.dim() != 0 || !tensor.is_cpu() || tensor.is_complex()) return std::nullopt;
  return tensor.item<double>();
}

std::optional<IndexedDims> indexedDims(const Call& call, int64_t resultDims) {
  const auto& list = call.arguments[1];
  if (!list.isList()) return std::nullopt;
  const auto dims = call.tensor(0).dim();
  IndexedDims indexed;
  int64_t wide = 0, dim = 0;
  for (const c10::IValue& each : list.toListRef()) {
    if (!each.isTensor() || !each.toTensor().defined()) {
      ++dim;
      continue;
    }
    const auto& index = each.toTensor();
    const bool mask = index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
    if (indexed.first == kNone) indexed.first = dim;
    if (dim != indexed.first + indexed.count) return std::nullopt;
    indexed.count += mask ? index.dim() : 1;
    wide = std::max<int64_t>(wide, mask ? 1 : index.dim());
    dim += mask ? index.dim() : 1;
  }
  if (indexed.first == kNone) return std::nullopt;
  indexed.keeps = indexed.count == 1 && wide == 1;
  for (int64_t each = 0; each < indexed.first; ++each) indexed.from.push_back(each);
  for (int64_t each = 0; each < wide; ++each) indexed.from.push_back(indexed.keeps ? indexed.first : kForeign);
  for (int64_t each = indexed.first + indexed.count; each < dims; ++each) indexed.from.push_back(each);
  if (static_cast<int64_t>(indexed.from.size()) != resultDims) return std::nullopt;
  return indexed;
}

}  // namespace lta::flow
