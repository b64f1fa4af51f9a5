#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <string_view>
#include <vector>

namespace lta::node {

// How deep lists, dictionaries and tuples may stand in each other, in both directions and in both languages (the layer
// above asks for it): conversions call themselves, also on the small stacks of workers.
inline constexpr int kMaximumDepth = 128;

// A method's inputs, converted to the types that its schema declares; defaults fill what is left out at the end.
// Throws ERR_INVALID_ARGUMENT with the place ("input 1 ('mask')[0]"), what was expected and what was received.
std::vector<c10::IValue> toInputs(Napi::Array inputs, const c10::FunctionSchema& schema, const std::string& method);

// The memory behind a typed array, also of one on a SharedArrayBuffer, which Napi::ArrayBuffer doesn't take. Where it
// lies and how long it is belong together: to be read again after any JavaScript has run.
std::string_view bytesOf(Napi::Value typedArray);

// One value of a declared type; `where` names its place in error messages.
c10::IValue toIValue(Napi::Value value, const c10::TypePtr& type, const std::string& where);

// What a model gave: tensors become NativeTensor, lists and tuples arrays (a named tuple's fields are properties of
// its array as well), dictionaries objects, or marked arrays of pairs where their keys have no text (Tensors, booleans,
// complex numbers), and what has no JavaScript form NativeScriptObject. Throws ERR_MODEL_RUN
// for what contains itself, is nested too deep, or takes too much memory: what is referred to in several places is
// copied for each of them.
Napi::Value fromIValue(Napi::Env env, const c10::IValue& value);

// A signature as users read it: "forward(Tensor x, Tensor? mask=None) -> Tensor" in pieces.
Napi::Object describeSchema(Napi::Env env, const c10::FunctionSchema& schema);

}  // namespace lta::node
