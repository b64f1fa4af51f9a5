#pragma once

#include <cstdint>

namespace lta {

// What is done to the rows of a tile of scores. The versions for float exist for several kinds of processors, of which
// the one at hand is chosen when the process starts.

// The key [keys, depth] of a head, times `factor`, as panels of panelColumns() columns each,
// panels[column / panelColumns()][depth][column % panelColumns()], filled up with zeros. `stride` counts elements from
// one key to the next.
void arrangeKey(const float* key, int64_t stride, int64_t keys, int64_t depth, float factor, float* panels);

// scores [rows, columns] = query [rows, depth] · keyᵀ. The key comes from arrangeKey, and `columns` is a multiple of
// panelColumns(). `stride` and `queryStride` count elements from one row to the next. Faster than a general product
// where depth is small.
int64_t panelColumns();
// How many rows it takes at once; a multiple of them leaves no rest, which takes longer.
int64_t rowsAtOnce();
void multiply(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
              int64_t columns, float* scores, int64_t stride);

// scores [keys] = query [depth] · keyᵀ, with the key [keys, depth] as it is: for few rows, which aren't worth arranging
// it. `stride` counts elements from one key to the next.
void multiplyRow(const float* query, const float* key, int64_t stride, int64_t keys, int64_t depth, float* scores);

// A mask over the keys of some rows, `stride` elements apart, 0 where they share one: what is added to scores, or where
// they are shown. Null where there is none.
struct RowMask {
  const float* added = nullptr;
  const bool* shown = nullptr;
  int64_t stride = 0;
};

// The same and e^score at once, while the scores are in the first cache: elements [rows, keys] = e^(query · keyᵀ),
// masked, and the sum of each row. Nothing is subtracted before the exponential as softmaxes do it: where a row's sum
// isn't sound (see below), its elements are of no use. Rows are written in whole panels, zeros at the end.
void multiplyExponentials(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
                          int64_t keys, const RowMask& mask, float* elements, int64_t stride, float* sums);

// Whether the exponentials of a row with that sum lost nothing that a float32 softmax has: the largest of them is
// neither near overflow, nor so small that others vanished beside it.
inline bool isSound(float sum) { return sum > 1e-8f && sum < 1e30f; }

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

// The entropy of row * factor in nats: -Σ p ln(p), to which zeros add nothing.
float entropy(const float* row, float factor, int64_t count);
double entropy(const double* row, double factor, int64_t count);

// maxima [bins]: the largest element of each bin, where element i of a row is in bin i % bins. `count` is a multiple of
// `bins`, which is a power of two from 32 to 256. False, and the maxima of no use, where there is a NaN.
bool binMaxima(const float* row, int64_t count, int64_t bins, float* maxima);
bool binMaxima(const double* row, int64_t count, int64_t bins, double* maxima);

// The k-th largest of some values, which are reordered.
float kthLargest(float* values, int64_t count, int64_t k);
double kthLargest(double* values, int64_t count, int64_t k);

// The positions of the elements that are at least `bound`, in order, and how many they are.
int64_t atLeast(const float* row, int64_t count, float bound, int32_t* positions);
int64_t atLeast(const double* row, int64_t count, double bound, int32_t* positions);

}  // namespace lta
