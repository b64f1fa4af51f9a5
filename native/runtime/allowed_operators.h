#pragma once

#include <ATen/core/operator_name.h>

#include <string>

// The operators that programs from untrusted sources may use: those that only compute.
namespace lta {

// Of namespace aten, by name without the overload: what models are written with.
bool isAllowedOperator(const std::string& name);

// Also what exporters make of those, of any namespace.
bool isAllowedInGraphs(const c10::OperatorName& name);

}  // namespace lta
