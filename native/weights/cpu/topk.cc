#include "weights/cpu/topk.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "runtime/scratch.h"
#include "weights/cpu/kernels.h"

namespace lta {
namespace {

// Larger ones first, equal ones by position; NaN first, as in PyTorch's topk.
template <typename T>
bool before(T a, int64_t i, T b, int64_t j) {
  const bool nanA = a != a;
  const bool nanB = b != b;
  if (nanA != nanB) return nanA;
  if (!nanA && a != b) return a > b;
  return i < j;
}

template <typename T>
void sortLargest(const T* row, int64_t count, int64_t k, T* values, int64_t* positions) {
  thread_local Scratch<int64_t> scratch;
  const Scratch<int64_t>::Use use(scratch, static_cast<size_t>(count));
  auto* const order = use.data();
  std::iota(order, order + count, 0);
  const auto first = [row](int64_t i, int64_t j) { return before(row[i], i, row[j], j); };
  std::partial_sort(order, order + k, order + count, first);
  for (int64_t i = 0; i < k; ++i) {
    positions[i] = order[i];
    values[i] = row[positions[i]];
  }
}

// The first elements of an order that grows by insertion until it is full.
template <typename T>
class Largest {
 public:
  Largest(int64_t k, T* values, int64_t* positions) : k_(k), values_(values), positions_(positions) {}

  void add(T value, int64_t position) {
    if (size_ == k_ && !before(value, position, values_[k_ - 1], positions_[k_ - 1])) return;
    if (size_ < k_) ++size_;
    int64_t at = size_ - 1;
    for (; at > 0 && before(value, position, values_[at - 1], positions_[at - 1]); --at) {
      values_[at] = values_[at - 1];
      positions_[at] = positions_[at - 1];
    }
    values_[at] = value;
    positions_[at] = position;
  }

 private:
  const int64_t k_;
  T* const values_;
  int64_t* const positions_;
  int64_t size_ = 0;
};

// The k-th largest of the bins' maxima is no larger than the k-th largest element: only what reaches it matters. Where
// the largest elements lie anyhow, hardly more than k do, as long as there are some more bins than k.
template <typename T>
void largest(const T* row, int64_t count, int64_t k, T* values, int64_t* positions) {
  constexpr int64_t kFew = 64;  // up to so many, insertions cost less than a heap
  if (k > kFew || count > std::numeric_limits<int32_t>::max()) return sortLargest(row, count, k, values, positions);
  int64_t bins = 32;
  while (2 * bins < 5 * k) bins *= 2;
  Largest<T> found(k, values, positions);
  if (count < 2 * bins) {
    for (int64_t at = 0; at < count; ++at) found.add(row[at], at);
    return;
  }
  const auto whole = count - count % bins;
  T maxima[256];
  if (!binMaxima(row, whole, bins, maxima)) return sortLargest(row, count, k, values, positions);
  const T bound = kthLargest(maxima, bins, k);
  thread_local Scratch<int32_t> scratch;
  const Scratch<int32_t>::Use use(scratch, static_cast<size_t>(whole));
  const auto* const candidates = use.data();
  const auto candidatesCount = atLeast(row, whole, bound, use.data());
  for (int64_t i = 0; i < candidatesCount; ++i) found.add(row[candidates[i]], candidates[i]);
  for (int64_t at = whole; at < count; ++at) {
    if (row[at] >= bound || row[at] != row[at]) found.add(row[at], at);
  }
}

}  // namespace

void largestOfRow(const float* row, int64_t count, int64_t k, float* values, int64_t* positions) {
  largest(row, count, k, values, positions);
}
void largestOfRow(const double* row, int64_t count, int64_t k, double* values, int64_t* positions) {
  largest(row, count, k, values, positions);
}

}  // namespace lta
