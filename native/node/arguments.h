// Validates what the raw addon receives. lib/ checks arguments in the caller's terms; these turn a bug of lib/ into an
// error instead of a crash. Each throws ERR_INVALID_ARGUMENT unless the value is as named; `what` names the argument.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace lta::node {

// A value for error messages: "5 of type number", "an Array of length 2".
std::string shown(Napi::Value value);
[[noreturn]] void mismatch(const std::string& expected, const std::string& what, Napi::Value value);

std::string stringArgument(Napi::Value value, const std::string& what);
bool booleanArgument(Napi::Value value, const std::string& what);
double numberArgument(Napi::Value value, const std::string& what);
// Between the safe integers by default.
int64_t integerArgument(Napi::Value value, const std::string& what, int64_t least = -9007199254740991,
                        int64_t most = 9007199254740991);
Napi::Object objectArgument(Napi::Value value, const std::string& what);
Napi::Array arrayArgument(Napi::Value value, const std::string& what);
Napi::Function functionArgument(Napi::Value value, const std::string& what);
at::Tensor tensorArgument(Napi::Value value, const std::string& what);

std::vector<int64_t> integersArgument(Napi::Value value, const std::string& what);
std::vector<std::string> stringsArgument(Napi::Value value, const std::string& what);
std::vector<at::Tensor> tensorsArgument(Napi::Value value, const std::string& what);

// Returns the index of a string among `choices`.
template <size_t kCount>
size_t choiceArgument(Napi::Value value, const std::string& what, const char* const (&choices)[kCount]) {
  std::string expected;
  for (size_t i = 0; i < kCount; ++i) {
    if (value.IsString() && value.As<Napi::String>().Utf8Value() == choices[i]) return i;
    expected += (i == 0 ? "'" : " or '") + std::string(choices[i]) + "'";
  }
  mismatch(expected, what, value);
}

// An optional property; undefined counts as omitted.
inline std::optional<Napi::Value> option(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsUndefined() ? std::nullopt : std::optional(value);
}

// A boolean option; false if omitted.
bool flag(const Napi::Object& options, const char* name);

}  // namespace lta::node
