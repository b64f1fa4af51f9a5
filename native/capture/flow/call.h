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
#include "capture/flow/value.h"

namespace lta::flow {

struct Call {
  const Rule& rule;
  const std::string& name;  // as attentions tell it
  const c10::FunctionSchema& schema;
  const std::vector<c10::IValue>& arguments;

  // An undefined tensor where there is none at that place.
  at::Tensor tensor(size_t place) const;
  std::optional<c10::IValue> argument(const char* name) const;
  // Of those that scale: whether by the reciprocal of what stands second.
  bool divides() const;
};

std::vector<int64_t> intsOf(const c10::IValue& value);

// A number that an operator is given, where it is one that the CPU has.
std::optional<double> numberOf(const c10::IValue& value);

// What an index does to dimensions.
struct IndexedDims {
  int64_t first = kNone;  // of those that stand together and are indexed
  int64_t count = 0;
  bool keeps = false;         // one list for one dimension keeps what that is; others leave no trace of it
  std::vector<int64_t> from;  // by dimension of the result
};

// None where those that are indexed don't stand together.
std::optional<IndexedDims> indexedDims(const Call& call, int64_t resultDims);

}  // namespace lta::flow
