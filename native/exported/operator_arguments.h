#pragma once

#include <ATen/core/function_schema.h>

#include <vector>

#include "exported/graph.h"

namespace lta::exported {

// Whether a slot holds a number, or a boolean, rather than a tensor.
using IsNumber = std::vector<bool>;

// Puts a node's arguments, read with their names, in the order of an operator's schema, with its defaults, each as that
// wants it: as Python's argument parser makes it of what is written. Throws ERR_MODEL_LOAD where they don't fit.
std::vector<Argument> arrangeArguments(const c10::FunctionSchema& schema, std::vector<Argument> given,
                                       const std::vector<std::string>& names, const IsNumber& isNumber);

// A number where a tensor is wanted: it takes no part in type promotion as a tensor would.
at::Tensor wrappedNumber(const c10::IValue& number);

}  // namespace lta::exported
