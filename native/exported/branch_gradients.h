#pragma once

#include <ATen/core/ivalue.h>

#include <vector>

namespace lta::exported {

// Has all operands of a condition take part in the gradients of what its branch gave, as in Python: what only the other
// branch reads gets zeros. Where gradients aren't recorded, nothing changes.
void reachOperands(std::vector<c10::IValue>& outputs, const std::vector<c10::IValue>& operands);

}  // namespace lta::exported
