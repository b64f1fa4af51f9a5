#include "weights/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <c10/util/Half.h>

#include "runtime/scratch.h"
#include "weights/cpu/layers.h"

#define LTA_INLINE inline __attribute__((always_inline))

namespace lta {
namespace {

struct Kernels {
  int64_t panel;
  int64_t rows;
  void (*arrangeKey)(const float*, int64_t, int64_t, int64_t, float, float*);
  void (*multiply)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  void (*multiplyAdd)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  void (*multiplyRow)(const float*, const float*, int64_t, int64_t, int64_t, float*);
  void (*multiplyExponentials)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, const RowMask&, float*,
                               int64_t, float*);
  void (*addMask)(float*, const float*, int64_t);
  void (*applyMask)(float*, const bool*, int64_t);
  float (*exponentials)(float*, int64_t);
  void (*scaleInto)(float*, const float*, float, int64_t);
  void (*toHalves)(uint8_t*, const float*, float, int64_t);
  float (*toCodes)(uint8_t*, const float*, float, int64_t, CodeScale);
  void (*copyInto)(uint8_t*, const uint8_t*, int64_t);
  void (*scale)(float*, float, int64_t);
  bool (*scaleOut)(float*, const float*, float, int64_t);
  void (*addScaled)(float*, const float*, float, int64_t);
  float (*entropy)(const float*, float, int64_t);
  // The largest of each bin of a row, element i being in bin i % bins. `count` is a multiple of `bins`, which are 32,
  // 64, 128 or 256. False where there is NaN among the elements.
  bool (*binMaxima)(const float*, int64_t, int64_t, float*);
  // `count` must be a multiple of 32. Counts for each value how many are larger, which is branch-free and faster than
  // selection for few values.
  float (*kthLargest)(const float*, int64_t, int64_t);
  // See kernels.h; `count` must be a multiple of 32.
  int64_t (*atLeast)(const float*, int64_t, float, int32_t*);
};

// A number of rows, told to a template by an argument.
template <int Count>
struct RowCount {
  static constexpr int value = Count;
};

// One binary for every processor of an architecture: kernels are compiled per instruction set and chosen at run time.
#define LTA_LANES 4
#define LTA_PANEL 8
#define LTA_ROWS 4
#define LTA_STREAM(to, vector) store(to, vector)
#define LTA_SIGNS(vector) signsOf(vector)
#define LTA_HALVES(vector) halvesOf(vector)
namespace any {
typedef float FourFloats __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));
typedef uint16_t FourHalves __attribute__((vector_size(8)));
LTA_INLINE FourHalves halvesOf(const FourFloats& vector) {
  const FourInts bits = (FourInts)vector;
  const FourInts size = bits & 0x7fffffff;
  const FourInts normal = (size + (0xfff - (112 << 23)) + ((size >> 13) & 1)) >> 13;
  // The last place of 0.5 is the smallest float16.
  const FourInts subnormal = (FourInts)((FourFloats)size + 0.5f) - 0x3f000000;
  FourInts half = size < 0x38800000 ? subnormal : normal;
  half = size >= 0x477ff000 ? FourInts{} + 0x7c00 : half;  // what rounds to more than the largest
  half = size > 0x7f800000 ? FourInts{} + 0x7e00 : half;   // NaN
  return __builtin_convertvector(half | ((bits >> 16) & 0x8000), FourHalves);
}
LTA_INLINE uint32_t signsOf(const FourInts& vector) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(vector[i] < 0) << i;
  return bits;
}
#include "weights/cpu/kernels.inc"
#include "weights/cpu/layers.inc"
}  // namespace any
#undef LTA_LANES
#undef LTA_PANEL
#undef LTA_ROWS
#undef LTA_STREAM
#undef LTA_SIGNS
#undef LTA_HALVES

#if defined(__x86_64__)
#if defined(__clang__)
#define LTA_STREAM(to, vector) __builtin_nontemporal_store(vector, reinterpret_cast<Floats*>(to))
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#define LTA_STREAM(to, vector) __builtin_ia32_movntps256(to, vector)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define LTA_LANES 8
#define LTA_PANEL 16
#define LTA_ROWS 6
#define LTA_SIGNS(vector) static_cast<uint32_t>(__builtin_ia32_movmskps256((Floats)(vector)))
#define LTA_HALVES(vector) __builtin_ia32_vcvtps2ph256(vector, 0)
namespace avx2 {
#include "weights/cpu/kernels.inc"
#include "weights/cpu/layers.inc"
}  // namespace avx2
#undef LTA_LANES
#undef LTA_PANEL
#undef LTA_ROWS
#undef LTA_SIGNS
#undef LTA_HALVES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#undef LTA_STREAM
#define LTA_STREAM(to, vector) __builtin_ia32_movntps512(to, vector)
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif
#define LTA_LANES 16
#define LTA_PANEL 32
#define LTA_ROWS 8
#define LTA_SIGNS(vector) static_cast<uint32_t>(__builtin_ia32_cvtd2mask512(vector))
typedef short SixteenShorts __attribute__((vector_size(32)));
#define LTA_HALVES(vector) __builtin_ia32_vcvtps2ph512_mask(vector, 0, SixteenShorts{}, 0xffff)
namespace avx512 {
#include "weights/cpu/kernels.inc"
#include "weights/cpu/layers.inc"
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if defined(__x86_64__)
// Compilers differ in what of this __builtin_cpu_supports knows.
bool supportsF16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1U << 29U)) != 0;
}
#endif

enum class InstructionSet { Any, Avx2, Avx512 };

InstructionSet instructionSet() {
#if defined(__x86_64__)
  // Honours libtorch's own variable, so that each can be tested on a machine that supports all of them.
  const char* capability = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string most = capability ? capability : "avx512";
  if (most == "default") return InstructionSet::Any;
  if (most != "avx2" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return InstructionSet::Avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supportsF16c()) return InstructionSet::Avx2;
#endif
  return InstructionSet::Any;
}

const InstructionSet chosen = instructionSet();

template <typename Table>
const Table* choose(const Table* any, [[maybe_unused]] const Table* avx2, [[maybe_unused]] const Table* avx512) {
  return chosen == InstructionSet::Avx512 ? avx512 : chosen == InstructionSet::Avx2 ? avx2 : any;
}

#if defined(__x86_64__)
const Kernels& kernels = *choose(&any::kernels, &avx2::kernels, &avx512::kernels);
#else
const Kernels& kernels = any::kernels;
#endif

}  // namespace

const LayerKernels& layerKernels() {
#if defined(__x86_64__)
  return *choose(&any::layerKernels, &avx2::layerKernels, &avx512::layerKernels);
#else
  return any::layerKernels;
#endif
}

bool layersPay() { return chosen != InstructionSet::Any; }

int64_t panelColumns() { return kernels.panel; }
int64_t rowsAtOnce() { return kernels.rows; }

void arrangeKey(const float* key, int64_t stride, int64_t keys, int64_t depth, float factor, float* panels) {
  kernels.arrangeKey(key, stride, keys, depth, factor, panels);
}

void multiply(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
              int64_t columns, float* scores, int64_t stride) {
  kernels.multiply(query, queryStride, rows, panels, depth, columns, scores, stride);
}

void multiplyAdd(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
                 int64_t columns, float* scores, int64_t stride) {
  kernels.multiplyAdd(query, queryStride, rows, panels, depth, columns, scores, stride);
}

void multiplyRow(const float* query, const float* key, int64_t stride, int64_t keys, int64_t depth, float* scores) {
  kernels.multiplyRow(query, key, stride, keys, depth, scores);
}

void multiplyExponentials(const float* query, int64_t queryStride, int64_t rows, const float* panels, int64_t depth,
                          int64_t keys, const RowMask& mask, float* elements, int64_t stride, float* sums) {
  kernels.multiplyExponentials(query, queryStride, rows, panels, depth, keys, mask, elements, stride, sums);
}

void addMask(float* row, const float* mask, int64_t count) { kernels.addMask(row, mask, count); }
void addMask(double* row, const double* mask, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] += mask[i];
}

void applyMask(float* row, const bool* mask, int64_t count) { kernels.applyMask(row, mask, count); }
void applyMask(double* row, const bool* mask, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] = mask[i] ? row[i] : -std::numeric_limits<double>::infinity();
}

float exponentials(float* row, int64_t count) { return kernels.exponentials(row, count); }
double exponentials(double* row, int64_t count) {
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  double max = kNone;
  for (int64_t at = 0; at < count; ++at) {
    if (row[at] != row[at]) return row[at];
    max = std::max(max, row[at]);
  }
  if (max == -kNone) return std::numeric_limits<double>::quiet_NaN();
  if (max == kNone) {
    std::fill(row, row + count, 0.0);
    return 1.0;
  }
  double sum = 0;
  for (int64_t at = 0; at < count; ++at) {
    row[at] = std::exp(row[at] - max);
    sum += row[at];
  }
  return 1.0 / sum;
}

void scaleInto(float* to, const float* row, float factor, int64_t count) { kernels.scaleInto(to, row, factor, count); }
void scaleInto(double* to, const double* row, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = row[i] * factor;
}

void toHalves(uint8_t* to, const float* row, float factor, int64_t count) { kernels.toHalves(to, row, factor, count); }
void toHalves(uint8_t* to, const double* row, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto half = c10::Half(static_cast<float>(row[i] * factor)).x;
    std::memcpy(to + 2 * i, &half, sizeof half);
  }
}

float toCodes(uint8_t* to, const float* row, float factor, int64_t count, CodeScale scale) {
  return kernels.toCodes(to, row, factor, count, scale);
}
double toCodes(uint8_t* to, const double* row, double factor, int64_t count, CodeScale scale) {
  double uncodable = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double weight = row[i] * factor;
    if (isCodable(weight, scale)) {
      to[i] = codeOf(weight, scale);
    } else {
      uncodable = weight;
    }
  }
  return uncodable;
}

void copyInto(uint8_t* to, const uint8_t* from, int64_t count) { kernels.copyInto(to, from, count); }

void scale(float* row, float factor, int64_t count) { kernels.scale(row, factor, count); }
bool scaleOut(float* to, const float* row, float factor, int64_t count) {
  return kernels.scaleOut(to, row, factor, count);
}
void scale(double* row, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] *= factor;
}

void addScaled(float* sums, const float* row, float factor, int64_t count) {
  kernels.addScaled(sums, row, factor, count);
}
void addScaled(double* sums, const double* row, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += row[i] * factor;
}

float entropy(const float* row, float factor, int64_t count) { return kernels.entropy(row, factor, count); }
double entropy(const double* row, double factor, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double p = row[i] * factor;
    sum -= p == 0 ? 0 : p * std::log(p);
  }
  return sum < 0 ? 0.0 : sum;
}

bool binMaxima(const float* row, int64_t count, int64_t bins, float* maxima) {
  return kernels.binMaxima(row, count, bins, maxima);
}
bool binMaxima(const double* row, int64_t count, int64_t bins, double* maxima) {
  bool nan = false;
  std::copy(row, row + bins, maxima);
  for (int64_t i = 0; i < count; ++i) {
    maxima[i % bins] = std::max(maxima[i % bins], row[i]);
    nan = nan || row[i] != row[i];
  }
  return !nan;
}

namespace {

template <typename T>
T selectLargest(T* values, int64_t count, int64_t k) {
  std::nth_element(values, values + k - 1, values + count, std::greater<T>());
  return values[k - 1];
}

}  // namespace

float kthLargest(float* values, int64_t count, int64_t k) {
  return count <= 64 ? kernels.kthLargest(values, count, k) : selectLargest(values, count, k);
}
double kthLargest(double* values, int64_t count, int64_t k) { return selectLargest(values, count, k); }

int64_t atLeast(const float* row, int64_t count, float bound, int32_t* positions) {
  return kernels.atLeast(row, count, bound, positions);
}
int64_t atLeast(const double* row, int64_t count, double bound, int32_t* positions) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (row[i] >= bound) positions[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace lta
