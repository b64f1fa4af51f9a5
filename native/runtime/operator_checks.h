#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

// Arguments with which some operators of libtorch crash, read beyond their tensors or never end. Programs of every kind
// check them ahead of the call.
namespace lta {

// Throws where an operator can't be called with these arguments, as many as it has.
using OperatorCheck = void (*)(c10::ArrayRef<c10::IValue> arguments);

// What is to be checked ahead of an operator: one of the dispatcher, or one of TorchScript alone; null for nothing.
OperatorCheck checkOf(const c10::FunctionSchema& schema, bool dispatched);

// Dtypes, layouts and memory formats are integers to a program, and libtorch takes any integer for one.
struct Enumeration;
// That of an argument; null where it has none.
const Enumeration* enumerationOf(const c10::Argument& argument);
// Throws where a value is an integer that numbers no member.
void checkEnumeration(const Enumeration& enumeration, const c10::IValue& value);

}  // namespace lta
