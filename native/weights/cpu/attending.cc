#include "weights/cpu/attending.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "weights/cpu/kernels.h"

namespace lta {
namespace {

// Keys that are summed up by themselves: few enough for their values to stay in the L1 cache, and for sums to lose
// little.
constexpr int64_t kBlock = 64;

// A block of values [keys, embed], `stride` apart, into panels[column / panelColumns()][key][column % panelColumns()],
// padded with zeros.
void arrangeValues(const float* values, int64_t stride, int64_t keys, int64_t embed, float* panels) {
  const auto panel = panelColumns();
  for (int64_t first = 0; first < embed; first += panel) {
    const auto columns = std::min(panel, embed - first);
    for (int64_t key = 0; key < keys; ++key, panels += panel) {
      std::memcpy(panels, values + key * stride + first, static_cast<size_t>(columns) * sizeof(float));
      std::fill(panels + columns, panels + panel, 0.0f);
    }
  }
}

}  // namespace

Attending::Attending(const at::Tensor& query, const at::Tensor& given, bool causal)
    : keys_(given.size(2)),
      embed_(given.size(3)),
      columns_((embed_ + panelColumns() - 1) / panelColumns() * panelColumns()),
      valueHeads_(given.size(1)),
      heads_(query.size(1)),
      causal_(causal),
      output_(at::empty_like(query)) {
  const auto value = given.stride(3) == 1 ? given : given.contiguous();
  thread_local Scratch<float> kept;
  panels_ = memory_.take(kept, static_cast<size_t>(value.size(0) * valueHeads_ * keys_ * columns_));
  const auto* const from = value.const_data_ptr<float>();
  const auto blocks = (keys_ + kBlock - 1) / kBlock;
  at::parallel_for(0, value.size(0) * valueHeads_ * blocks, 8, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const auto matrix = i / blocks, first = i % blocks * kBlock;
      const auto offset = matrix / valueHeads_ * value.stride(0) + matrix % valueHeads_ * value.stride(1);
      arrangeValues(from + offset + first * value.stride(2), value.stride(2), std::min(kBlock, keys_ - first), embed_,
                    panels_ + (matrix * keys_ + first) * columns_);
    }
  });
}

// The sums of some rows, [rows, columns_].
void Attending::multiplyRows(const float* panels, const float* elements, int64_t stride, int64_t rows, int64_t visible,
                             float* sums) const {
  for (int64_t first = 0; first < visible; first += kBlock) {
    // Whole blocks, since those are what was packed: what isn't visible is zero.
    const auto multiplyBlock = first == 0 ? multiply : multiplyAdd;
    multiplyBlock(elements + first, stride, rows, panels + first * columns_, std::min(kBlock, keys_ - first), columns_,
                  sums, columns_);
  }
}

void Attending::tile(int64_t entry, int64_t head, int64_t first, int64_t count, float* elements, int64_t stride,
                     const float* factors) {
  const auto* const panels = panels_ + (entry * valueHeads_ + head / (heads_ / valueHeads_)) * keys_ * columns_;
  const auto visible = causal_ ? std::min(keys_, first + count) : keys_;
  thread_local Scratch<float> scratch;
  const Scratch<float>::Use memory(scratch, static_cast<size_t>(count * columns_));
  auto* const sums = memory.data();
  multiplyRows(panels, elements, stride, count, visible, sums);
  auto* const output = output_.mutable_data_ptr<float>() + entry * output_.stride(0) + head * output_.stride(1);
  const bool isDense = output_.stride(3) == 1;
  for (int64_t row = 0; row < count; ++row) {
    auto* const into = output + (first + row) * output_.stride(2);
    auto* const own = sums + row * columns_;
    auto* const scaled = isDense ? into : own;
    // Exponentials that aren't divided yet may be too large for large values.
    if (!scaleOut(scaled, own, factors[row], embed_)) {
      scale(elements + row * stride, factors[row], keys_);
      multiplyRows(panels, elements + row * stride, stride, 1, visible, own);
      std::copy(own, own + embed_, scaled);
    }
    for (int64_t i = 0; !isDense && i < embed_; ++i) into[i * output_.stride(3)] = own[i];
  }
}

}  // namespace lta
