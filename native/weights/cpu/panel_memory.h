// Memory of packed operands.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "runtime/scratch.h"

namespace lta {

// Memory for panels, up to some size kept by the thread: freeing it between the model's own allocations makes the
// allocator return pages that the model then faults in again.
class PanelMemory {
 public:
  // Once; until this ends.
  float* take(Scratch<float>& kept, size_t count) {
    constexpr size_t kKept = 8 * 1024 * 1024 / sizeof(float);
    if (count <= kKept) return kept_.emplace(kept, count).data();
    own_.resize(count);
    return own_.data();
  }

 private:
  std::vector<float> own_;
  std::optional<Scratch<float>::Use> kept_;
};

}  // namespace lta
