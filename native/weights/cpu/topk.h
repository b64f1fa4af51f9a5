#pragma once

#include <cstdint>

namespace lta {

// The `k` largest of `count` ≥ k elements and their positions, largest first, equal ones by position; NaN first.
void largestOfRow(const float* row, int64_t count, int64_t k, float* values, int64_t* positions);
void largestOfRow(const double* row, int64_t count, int64_t k, double* values, int64_t* positions);

}  // namespace lta
