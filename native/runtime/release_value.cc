#include "runtime/release_value.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>

#include <utility>
#include <vector>

namespace lta {
namespace {

bool isContainer(const c10::IValue& value) {
  return value.isTuple() || value.isGenericDict() || value.isObject() ||
         (value.isList() && !value.isTensorList() && !value.isIntList() && !value.isDoubleList() &&
          !value.isBoolList());
}

// Moves the nested containers of `container` to `waiting` if this is the last reference to it.
void empty(const c10::IValue& container, std::vector<c10::IValue>& waiting) {
  if (container.use_count() != 1) return;
  if (container.isTuple()) {
    auto& tuple = container.toTupleRef();
    for (size_t i = 0; i < tuple.size(); ++i) {
      if (!isContainer(tuple.elements()[i])) continue;
      waiting.push_back(tuple.elements()[i]);
      tuple.unsafeSetElement(i, c10::IValue());
    }
  } else if (container.isList()) {
    auto list = container.toList();
    for (size_t i = 0; i < list.size(); ++i) {
      auto element = list.extract(i);
      if (isContainer(element)) waiting.push_back(std::move(element));
    }
  } else if (container.isObject()) {
    auto& object = container.toObjectRef();
    for (size_t i = 0; i < object.slots().size(); ++i) {
      if (!isContainer(object.slots()[i])) continue;
      waiting.push_back(object.slots()[i]);
      object.setSlot(i, c10::IValue());
    }
  } else {
    for (auto& entry : container.toGenericDict()) {
      if (!isContainer(entry.value())) continue;
      waiting.push_back(entry.value());
      entry.setValue(c10::IValue());
    }
  }
}

}  // namespace

void releaseValue(c10::IValue&& value) {
  if (!isContainer(value)) return;
  std::vector<c10::IValue> waiting;
  waiting.push_back(std::move(value));
  while (!waiting.empty()) {
    const auto next = std::move(waiting.back());
    waiting.pop_back();
    empty(next, waiting);
  }
}

}  // namespace lta
