// Destroys deeply nested values without recursion.
#pragma once

#include <ATen/core/ivalue.h>

namespace lta {

// Releases a reference to a value. Its destructor would recurse into nested lists, dictionaries, tuples and objects; a
// model that nests them a million deep would overflow the stack.
void releaseValue(c10::IValue&& value);

// Owns a value and releases it that way.
class ReleasedValue {
 public:
  ReleasedValue() = default;
  ReleasedValue(c10::IValue value) : value_(std::move(value)) {}
  ReleasedValue(const ReleasedValue&) = default;
  ReleasedValue(ReleasedValue&&) = default;
  ReleasedValue& operator=(ReleasedValue other) {
    value_.swap(other.value_);
    return *this;
  }
  ~ReleasedValue() { releaseValue(std::move(value_)); }

  operator const c10::IValue&() const { return value_; }

 private:
  c10::IValue value_;
};

}  // namespace lta
