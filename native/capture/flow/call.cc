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

}  // namespace lta::flow
