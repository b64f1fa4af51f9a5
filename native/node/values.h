// Converts values between JavaScript and TorchScript.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <string_view>
#include <vector>

namespace lta::node {

// Maximum nesting of containers, in both directions and in lib/: conversions recurse, also on the small stacks of
// workers.
inline constexpr int kMaximumDepth = 128;

// Converts a method's inputs by its schema; defaults fill omitted ones at the end. Throws ERR_INVALID_ARGUMENT with the
// path of the value ("input 1 ('mask')[0]"), the expected and the received.
std::vector<c10::IValue> toInputs(Napi::Array inputs, const c10::FunctionSchema& schema, const std::string& method);

// The memory of a typed array, also of one on a SharedArrayBuffer, which Napi::ArrayBuffer doesn't support. Must be
// read again after JavaScript has run, which may detach or resize it.
std::string_view bytesOf(Napi::Value typedArray);

// Converts one value to a declared type; `where` is its path for error messages.
c10::IValue toIValue(Napi::Value value, const c10::TypePtr& type, const std::string& where);

// Converts a model's output: tensors become NativeTensor, lists and tuples arrays (a named tuple's fields are
// properties as well), dictionaries objects, or marked arrays of pairs if their keys have no text (Tensors, booleans,
// complex numbers), and values without a JavaScript form NativeScriptObject. Throws ERR_MODEL_RUN for values that
// contain themselves, are nested too deeply or take too much memory: shared values are copied for each reference.
Napi::Value fromIValue(Napi::Env env, const c10::IValue& value);

// A signature in parts: of "forward(Tensor x, Tensor? mask=None) -> Tensor".
Napi::Object describeSchema(Napi::Env env, const c10::FunctionSchema& schema);

}  // namespace lta::node
