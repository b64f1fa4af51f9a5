#pragma once

#include <c10/core/ScalarType.h>
#include <napi.h>

#include <optional>
#include <string>

namespace lta::node {

// One element type of tensors: PyTorch's name, and the typed array that holds such elements in JavaScript. Half types
// travel as their bits, booleans as bytes.
struct DType {
  const char* name;
  at::ScalarType type;
  napi_typedarray_type array;
};

inline constexpr DType kDTypes[] = {
    {"float32", at::ScalarType::Float, napi_float32_array}, {"float64", at::ScalarType::Double, napi_float64_array},
    {"float16", at::ScalarType::Half, napi_uint16_array},   {"bfloat16", at::ScalarType::BFloat16, napi_uint16_array},
    {"int64", at::ScalarType::Long, napi_bigint64_array},   {"int32", at::ScalarType::Int, napi_int32_array},
    {"int16", at::ScalarType::Short, napi_int16_array},     {"int8", at::ScalarType::Char, napi_int8_array},
    {"uint8", at::ScalarType::Byte, napi_uint8_array},      {"bool", at::ScalarType::Bool, napi_uint8_array},
};

// The tables of both sides have to agree on sizes, or memory would be read past its end.
static_assert(sizeof(float) == 4 && sizeof(double) == 8 && sizeof(bool) == 1);
static_assert(sizeof(c10::Half) == sizeof(uint16_t) && sizeof(c10::BFloat16) == sizeof(uint16_t));

// PyTorch's name of an element type, also of those that have no typed array ("complex64").
std::string nameOf(at::ScalarType type);
// The entry of a name or type; none for what isn't in the table.
const DType* findDType(const std::string& name);
const DType* findDType(at::ScalarType type);

}  // namespace lta::node
