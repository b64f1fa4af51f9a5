// Validates unpickled values against the types that a program declares.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <set>
#include <utility>

namespace lta::script {

// Compiled code doesn't check: it reads attributes by slot, so that an object of another class would be memory
// corruption.
class TypeCheck {
 public:
  // Returns true if the value is of the type; lists and dictionaries then get the declared element types. Throws
  // ERR_MODEL_LOAD for an inconsistent tensor (sparse indices out of range, scales for another number of channels).
  bool fits(const c10::IValue& value, const c10::TypePtr& type);

 private:
  bool fitsEach(const c10::IValue& value, const c10::TypePtr& type);

  // Checked containers with their types: archives may share containers many times over.
  std::set<std::pair<const void*, const void*>> seen_;
};

}  // namespace lta::script
