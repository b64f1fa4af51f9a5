#include <ATen/core/Dict.h>
#include <ATen/core/List.h>

#include "check.h"
#include "runtime/release_value.h"

namespace {

constexpr int kDeep = 1'000'000;

c10::IValue listOf(c10::IValue value) {
  c10::impl::GenericList list(c10::AnyType::get());
  list.push_back(std::move(value));
  return list;
}

c10::IValue dictOf(c10::IValue value) {
  c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
  dict.insert("key", std::move(value));
  return dict;
}

}  // namespace

TEST("a value nested a million deep is released without recursion") {
  c10::IValue value(1);
  for (int i = 0; i < kDeep; ++i) {
    value = i % 3 == 0   ? listOf(std::move(value))
            : i % 3 == 1 ? dictOf(std::move(value))
                         : c10::IValue(c10::ivalue::Tuple::create(std::move(value)));
  }
  lta::ReleasedValue held(std::move(value));
  held = lta::ReleasedValue();
}

TEST("values with other references stay intact") {
  const auto inner = listOf(listOf(c10::IValue(5)));
  lta::releaseValue(listOf(inner));
  EXPECT(inner.toListRef().size() == 1 && inner.toListRef()[0].toListRef()[0].toInt() == 5);
}
