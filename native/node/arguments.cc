#include "node/arguments.h"

#include <ATen/core/jit_type.h>

#include <cmath>

#include "node/script_object_wrap.h"
#include "node/tensor_wrap.h"
#include "runtime/error.h"

namespace lta::node {

std::string shown(Napi::Value value) {
  if (value.IsUndefined() || value.IsEmpty()) return "undefined";
  if (value.IsNull()) return "null";
  if (TensorWrap::is(value)) return "a Tensor";
  if (const auto* object = ScriptObjectWrap::find(value)) {
    return "a ScriptObject of type " + object->value().type()->annotation_str();
  }
  if (value.IsArray()) return "an Array of length " + std::to_string(value.As<Napi::Array>().Length());
  if (value.IsTypedArray()) return "a typed array (make a Tensor of it with Tensor.from)";
  if (value.IsNumber() || value.IsBoolean() || value.IsBigInt()) {
    return value.ToString().Utf8Value() + " of type " +
           (value.IsNumber()    ? "number"
            : value.IsBoolean() ? "boolean"
                                : "bigint");
  }
  if (value.IsString()) {
    const auto text = value.As<Napi::String>().Utf8Value();
    return (text.size() > 100 ? "a string of " + std::to_string(text.size()) + " bytes"
                              : "'" + text + "' of type string");
  }
  return value.IsFunction() ? "a function" : value.IsSymbol() ? "a symbol" : "an object";
}

void mismatch(const std::string& expected, const std::string& what, Napi::Value value) {
  throw Error("ERR_INVALID_ARGUMENT", "Expected " + expected + " for " + what + " but received " + shown(value));
}

std::string stringArgument(Napi::Value value, const std::string& what) {
  if (!value.IsString()) mismatch("a string", what, value);
  return value.As<Napi::String>().Utf8Value();
}

bool booleanArgument(Napi::Value value, const std::string& what) {
  if (!value.IsBoolean()) mismatch("a boolean", what, value);
  return value.As<Napi::Boolean>().Value();
}

double numberArgument(Napi::Value value, const std::string& what) {
  if (!value.IsNumber()) mismatch("a number", what, value);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t integerArgument(Napi::Value value, const std::string& what, int64_t least, int64_t most) {
  const auto expected = [&] { return "an integer from " + std::to_string(least) + " to " + std::to_string(most); };
  if (!value.IsNumber()) mismatch(expected(), what, value);
  const auto number = value.As<Napi::Number>().DoubleValue();
  if (std::trunc(number) != number || !(number >= static_cast<double>(least) && number <= static_cast<double>(most))) {
    mismatch(expected(), what, value);
  }
  return static_cast<int64_t>(number);
}

Napi::Object objectArgument(Napi::Value value, const std::string& what) {
  if (!value.IsObject() || value.IsArray() || value.IsFunction()) mismatch("an object", what, value);
  return value.As<Napi::Object>();
}

Napi::Array arrayArgument(Napi::Value value, const std::string& what) {
  if (!value.IsArray()) mismatch("an array", what, value);
  return value.As<Napi::Array>();
}

Napi::Function functionArgument(Napi::Value value, const std::string& what) {
  if (!value.IsFunction()) mismatch("a function", what, value);
  return value.As<Napi::Function>();
}

at::Tensor tensorArgument(Napi::Value value, const std::string& what) {
  if (!TensorWrap::is(value)) mismatch("a Tensor", what, value);
  return TensorWrap::of(value);
}

namespace {

template <typename Element, typename Convert>
std::vector<Element> elementsOf(Napi::Value value, const std::string& what, Convert convert) {
  const auto array = arrayArgument(value, what);
  std::vector<Element> list;
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(convert(array.Get(i), "an element of " + what));
  return list;
}

}  // namespace

std::vector<int64_t> integersArgument(Napi::Value value, const std::string& what) {
  return elementsOf<int64_t>(
      value, what, [](Napi::Value element, const std::string& place) { return integerArgument(element, place); });
}

std::vector<std::string> stringsArgument(Napi::Value value, const std::string& what) {
  return elementsOf<std::string>(value, what, stringArgument);
}

std::vector<at::Tensor> tensorsArgument(Napi::Value value, const std::string& what) {
  return elementsOf<at::Tensor>(value, what, tensorArgument);
}

bool flag(const Napi::Object& options, const char* name) {
  const auto value = option(options, name);
  return value && booleanArgument(*value, name);
}

}  // namespace lta::node
