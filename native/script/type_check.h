#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <set>
#include <utility>

namespace lta::script {

// Whether values are of the types that a program declares for them. Compiled code doesn't look: it reads slots of
// objects by number, so that an object of another class is memory of others.
class TypeCheck {
 public:
  // Lists and dictionaries get the types of their elements from the declaration, once all of those fit. Throws
  // ERR_MODEL_LOAD for a tensor whose own parts contradict each other (indices outside a sparse one, scales for another
  // number of channels).
  bool fits(const c10::IValue& value, const c10::TypePtr& type);

 private:
  bool fitsEach(const c10::IValue& value, const c10::TypePtr& type);

  // Containers that were seen, as what. Archives hold what may share containers of each other many times over.
  std::set<std::pair<const void*, const void*>> seen_;
};

}  // namespace lta::script
