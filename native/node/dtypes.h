// The table of element types. lib/core/dtype.ts has the same one; a test compares them.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/complex.h>
#include <napi.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>

namespace lta::node {

// PyTorch's name and the typed array of such elements. Half types are passed as their bits, booleans as bytes, complex
// numbers as their real and imaginary parts.
struct DType {
  const char* name;
  at::ScalarType type;
  napi_typedarray_type array;
  size_t bytes;       // of an element
  size_t components;  // numbers of the array that an element takes
};

namespace detail {

template <typename Element>
constexpr DType dtype(const char* name, napi_typedarray_type array) {
  return {name, c10::CppTypeToScalarType<Element>::value, array, sizeof(Element),
          c10::is_complex<Element>::value ? 2u : 1u};
}

}  // namespace detail

inline constexpr DType kDTypes[] = {
    detail::dtype<float>("float32", napi_float32_array),
    detail::dtype<double>("float64", napi_float64_array),
    detail::dtype<c10::Half>("float16", napi_uint16_array),
    detail::dtype<c10::BFloat16>("bfloat16", napi_uint16_array),
    detail::dtype<c10::complex<float>>("complex64", napi_float32_array),
    detail::dtype<c10::complex<double>>("complex128", napi_float64_array),
    detail::dtype<int64_t>("int64", napi_bigint64_array),
    detail::dtype<int32_t>("int32", napi_int32_array),
    detail::dtype<int16_t>("int16", napi_int16_array),
    detail::dtype<int8_t>("int8", napi_int8_array),
    detail::dtype<uint8_t>("uint8", napi_uint8_array),
    detail::dtype<uint16_t>("uint16", napi_uint16_array),
    detail::dtype<uint32_t>("uint32", napi_uint32_array),
    detail::dtype<uint64_t>("uint64", napi_biguint64_array),
    detail::dtype<bool>("bool", napi_uint8_array),
};

// Element size of a typed array.
constexpr size_t elementBytes(napi_typedarray_type array) {
  switch (array) {
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array:
      return 8;
    case napi_float32_array:
    case napi_int32_array:
    case napi_uint32_array:
      return 4;
    case napi_int16_array:
    case napi_uint16_array:
      return 2;
    default:
      return 1;
  }
}

// Otherwise memory would be read out of bounds.
static_assert(std::all_of(std::begin(kDTypes), std::end(kDTypes),
                          [](const DType& each) { return each.bytes == elementBytes(each.array) * each.components; }));

// PyTorch's name, also of types without a typed array ("quint8").
std::string nameOf(at::ScalarType type);
// Null if the type isn't in the table.
const DType* findDType(at::ScalarType type);
// The entry of a name from JavaScript. Throws ERR_INVALID_ARGUMENT.
const DType& dtypeArgument(Napi::Value value);

}  // namespace lta::node
