#pragma once

#include <ATen/core/ivalue.h>

namespace lta {

// Lets go of a value. Its own destructor calls itself for every list, dictionary and tuple inside another: values that
// a model has nested a million deep would overflow the stack there.
void releaseValue(c10::IValue&& value);

// Holds a value, and lets go of it in this way.
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
