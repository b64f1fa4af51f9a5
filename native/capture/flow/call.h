// A call of an operator that has a rule, and what its arguments say.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "capture/flow/rules.h"

namespace lta::flow {

struct Call {
  const Rule& rule;
  const std::string& name;  // as attentions tell it
  const c10::FunctionSchema& schema;
  const std::vector<c10::IValue>& arguments;

  // An undefined tensor where there is none at that place.
  at::Tensor tensor(size_t place) const;
  std::optional<c10::IValue> argument(const char* name) const;
};

std::vector<int64_t> intsOf(const c10::IValue& value);

// A number that an operator is given, where it is one that the CPU has.
std::optional<double> numberOf(const c10::IValue& value);

}  // namespace lta::flow
