#pragma once

#include <cstdint>

namespace lta {

// What is done to the rows of a tile of scores. The versions for float exist for several kinds of processors, of which
// the one at hand is chosen when the process starts.

// scores [rows, columns] = query [rows, depth] · keyᵀ. The key comes as panels of panelColumns() columns each,
// panels[column / panelColumns()][depth][column % panelColumns()], and `columns` is a multiple of that. `stride` and
// `queryStride` count elements from one row to the next. Faster than a general product where depth is small.
int64_t panelColumns();
void multiply(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
              int64_t columns, float* scores, int64_t stride);

// row + mask
void addMask(float* row, const float* mask, int64_t count);
void addMask(double* row, const double* mask, int64_t count);

// row where the mask is true, -inf elsewhere
void applyMask(float* row, const bool* mask, int64_t count);
void applyMask(double* row, const bool* mask, int64_t count);

// A softmax but for its last step: e^(row - maximum) in place, and the factor that makes the row's sum 1. A row without
// any finite score becomes zero; one with NaN or infinity gives NaN.
float exponentials(float* row, int64_t count);
double exponentials(double* row, int64_t count);

// to = row * factor, past the caches: for what isn't read again soon.
void scaleInto(float* to, const float* row, float factor, int64_t count);
void scaleInto(double* to, const double* row, double factor, int64_t count);

// row *= factor
void scale(float* row, float factor, int64_t count);
void scale(double* row, double factor, int64_t count);

// sums += row * factor
void addScaled(float* sums, const float* row, float factor, int64_t count);
void addScaled(double* sums, const double* row, double factor, int64_t count);

// The `k` largest of `count` ≥ k elements and their positions, largest first, equal ones by position; NaN ahead of all.
void largestOfRow(const float* row, int64_t count, int64_t k, float* values, int64_t* positions);
void largestOfRow(const double* row, int64_t count, int64_t k, double* values, int64_t* positions);

}  // namespace lta
