#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace lta::node {

// What JavaScript gives, checked. The layer above has checked it in the caller's terms; these keep a slip of that layer
// from being more than an error. Each throws ERR_INVALID_ARGUMENT where the value isn't what it says; `what` names it.

// A value as an error message shows it: "5 of type number", "an Array of length 2".
std::string shown(Napi::Value value);
[[noreturn]] void mismatch(const std::string& expected, const std::string& what, Napi::Value value);

std::string stringArgument(Napi::Value value, const std::string& what);
bool booleanArgument(Napi::Value value, const std::string& what);
double numberArgument(Napi::Value value, const std::string& what);
// An integer that a double holds exactly.
int64_t integerArgument(Napi::Value value, const std::string& what, int64_t least = -9007199254740991,
                        int64_t most = 9007199254740991);
Napi::Object objectArgument(Napi::Value value, const std::string& what);
Napi::Array arrayArgument(Napi::Value value, const std::string& what);
Napi::Function functionArgument(Napi::Value value, const std::string& what);
at::Tensor tensorArgument(Napi::Value value, const std::string& what);

std::vector<int64_t> integersArgument(Napi::Value value, const std::string& what);
std::vector<std::string> stringsArgument(Napi::Value value, const std::string& what);
std::vector<at::Tensor> tensorsArgument(Napi::Value value, const std::string& what);

// One of several strings, by its place among them.
template <size_t kCount>
size_t choiceArgument(Napi::Value value, const std::string& what, const char* const (&choices)[kCount]) {
  std::string expected;
  for (size_t i = 0; i < kCount; ++i) {
    if (value.IsString() && value.As<Napi::String>().Utf8Value() == choices[i]) return i;
    expected += (i == 0 ? "'" : " or '") + std::string(choices[i]) + "'";
  }
  mismatch(expected, what, value);
}

// A member of an object that holds options; undefined stands for one that is left out.
inline std::optional<Napi::Value> option(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsUndefined() ? std::nullopt : std::optional(value);
}

// An option that is a boolean; false where it is left out.
bool flag(const Napi::Object& options, const char* name);

}  // namespace lta::node
