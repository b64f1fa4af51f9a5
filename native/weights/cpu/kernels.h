// Kernels on rows of a tile. Those for float are compiled for several instruction sets; one is chosen at process start.
#pragma once

#include <cstdint>

#include "weights/codes.h"

namespace lta {

// Packs the key [keys, depth] of a head, times `factor`, into panels[column / panelColumns()][depth][column %
// panelColumns()], padded with zeros. `stride`: elements between keys.
void arrangeKey(const float* key, int64_t stride, int64_t keys, int64_t depth, float factor, float* panels);

// scores [rows, columns] = query [rows, depth] · keyᵀ with a key packed by arrangeKey; `columns` must be a multiple of
// panelColumns(). `stride`, `queryStride`: elements between rows. Faster than a general product for small depths.
int64_t panelColumns();
// Rows per step; a multiple of it leaves no slower remainder.
int64_t rowsAtOnce();
void multiply(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
              int64_t columns, float* scores, int64_t stride);
// scores += the same
void multiplyAdd(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
                 int64_t columns, float* scores, int64_t stride);

// scores [keys] = query [depth] · keyᵀ with an unpacked key [keys, depth], for too few rows to pay for packing.
// `stride`: elements between keys.
void multiplyRow(const float* query, const float* key, int64_t stride, int64_t keys, int64_t depth, float* scores);

// A mask of rows `stride` elements apart (0: shared): additive, or true for visible keys. Null for none.
struct RowMask {
  const float* added = nullptr;
  const bool* shown = nullptr;
  int64_t stride = 0;
};

// Product and exponential at once, while scores are in the L1 cache: elements [rows, keys] = e^(query · keyᵀ), masked,
// and the sum of each row. No maximum is subtracted: rows whose sum isn't sound (see below) must be recomputed. Writes
// whole panels, padded with zeros.
void multiplyExponentials(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
                          int64_t keys, const RowMask& mask, float* elements, int64_t stride, float* sums);

// Whether a row with this sum is as accurate as a float32 softmax: its largest exponential neither near overflow nor so
// small that others underflowed.
inline bool isSound(float sum) { return sum > 1e-8f && sum < 1e30f; }

// row + mask
void addMask(float* row, const float* mask, int64_t count);
void addMask(double* row, const double* mask, int64_t count);

// row where the mask is true, -inf elsewhere
void applyMask(float* row, const bool* mask, int64_t count);
void applyMask(double* row, const bool* mask, int64_t count);

// Softmax except for the division: e^(row - maximum) in place; returns the factor that makes the sum 1. A row without
// finite scores becomes zero; the factor is NaN for one with NaN or +inf.
float exponentials(float* row, int64_t count);
double exponentials(double* row, int64_t count);

// to = row * factor with non-temporal stores, for results that aren't read again soon.
void scaleInto(float* to, const float* row, float factor, int64_t count);
void scaleInto(double* to, const double* row, double factor, int64_t count);

// row * factor as float16, rounded to nearest, ties to even: its bits. `to` may be where the row is.
void toHalves(uint8_t* to, const float* row, float factor, int64_t count);
void toHalves(uint8_t* to, const double* row, double factor, int64_t count);

// row * factor as codes. Gives an element that has none, or 0. `to` may be where the row is.
float toCodes(uint8_t* to, const float* row, float factor, int64_t count, CodeScale scale);
double toCodes(uint8_t* to, const double* row, double factor, int64_t count, CodeScale scale);

// Copies bytes with non-temporal stores.
void copyInto(uint8_t* to, const uint8_t* from, int64_t count);

// row *= factor
void scale(float* row, float factor, int64_t count);
void scale(double* row, double factor, int64_t count);

// to = row * factor; whether all of it is finite. `to` may be where the row is.
bool scaleOut(float* to, const float* row, float factor, int64_t count);

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

// The k-th largest value; reorders them.
float kthLargest(float* values, int64_t count, int64_t k);
double kthLargest(double* values, int64_t count, int64_t k);

// Writes the positions of elements that are at least `bound`, in order; returns their number.
int64_t atLeast(const float* row, int64_t count, float bound, int32_t* positions);
int64_t atLeast(const double* row, int64_t count, double bound, int32_t* positions);

}  // namespace lta
