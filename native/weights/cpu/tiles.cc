#include "weights/cpu/tiles.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "runtime/scratch.h"
#include "weights/cpu/kernels.h"
#include "weights/cpu/result_memory.h"
#include "weights/cpu/topk.h"
#include "weights/layout.h"

namespace lta {
namespace {

// Sized so that a tile stays in a core's own cache from product to softmax and the product has enough rows to be
// efficient.
constexpr int64_t kTileBytes = 256 * 1024;
constexpr int64_t kLeastTileRows = 16;
// Below this many elements per thread, waking another one doesn't pay.
constexpr int64_t kGrain = 16 * 1024;

// The index in a dimension of `size` that serves `index` of `count`: itself, its group's, or the only one.
int64_t serving(int64_t size, int64_t index, int64_t count) { return size == count ? index : index / (count / size); }

// Computes tiles from query and key: scores, mask, softmax. Half types are computed in float32.
template <typename T>
class Computed {
 public:
  Computed(const SdpaArguments& call, const Rows& rows)
      : causal_(call.causal), key_(asFourDimensions(call.key).to(kType)) {
    query_ = asFourDimensions(call.query);
    allHeads_ = query_.size(1);
    batch = std::max(query_.size(0), key_.size(0));
    if (key_.size(1) > allHeads_) allHeads_ = key_.size(1);
    if (call.mask && call.mask->defined()) {
      const auto lead = call.query.dim() - 2;
      const auto leading = at::infer_size(
          call.query.sizes().slice(0, lead),
          call.groupedQuery ? call.query.sizes().slice(0, lead) : call.key.sizes().slice(0, call.key.dim() - 2));
      mask_ = withoutExpansion(broadcastMask(*call.mask, leading, query_.size(2), key_.size(2)), 2);
      if (mask_.size(2) > 1) mask_ = pick(mask_, 2, rows.queries);
      // Additive masks of another type are converted per tile.
      if (mask_.scalar_type() == at::kBool || mask_.scalar_type() == kType) {
        if (mask_.stride(3) != 1) mask_ = mask_.contiguous();
      }
    }
    positions_ = chosen(rows.queries, query_.size(2));
    heads_ = chosen(rows.heads, allHeads_);
    const double scale = call.scale.value_or(1.0 / std::sqrt(static_cast<double>(query_.size(3))));
    query_ = pick(query_, 2, rows.queries).to(kType);
    heads = static_cast<int64_t>(heads_.size());
    queries = query_.size(2);
    keys = key_.size(2);
    // Packing the key costs as much as a few rows of the product. The packed product is faster than the general one up
    // to this depth.
    constexpr int64_t kFewRows = 5;
    if (std::is_same_v<T, float> && queries > kFewRows && query_.size(3) <= 256) {
      makePanels(static_cast<float>(scale));
    } else {
      query_ = query_.mul(scale);
      fewRows_ = queries <= kFewRows;
      if (fewRows_ && key_.stride(3) != 1) key_ = key_.contiguous();
    }
    if (query_.stride(3) != 1) query_ = query_.contiguous();
  }

  int64_t batch, heads, queries, keys;

  // Computes rows [first, first + count) of one head and batch entry in `memory`, `stride` elements apart, and calls
  // take(row, elements, factor) for each; weights are elements × factor.
  template <typename Take>
  void tile(int64_t entry, int64_t head, int64_t first, int64_t count, T* memory, int64_t stride, Take take) const {
    const auto headIndex = heads_[static_cast<size_t>(head)];
    // Keys that no row of a causal tile sees are skipped.
    auto visible = keys;
    if (causal_) {
      const auto last = *std::max_element(positions_.begin() + first, positions_.begin() + first + count);
      visible = std::min(keys, last + 1);
    }
    const auto mask = maskOf(entry, headIndex, first, count);
    const T* const query =
        query_.template const_data_ptr<T>() + offsetOf(query_, entry, headIndex) + first * query_.stride(2);
    const auto queryStride = query_.stride(2);
    const auto depth = query_.size(3);

    if constexpr (std::is_same_v<T, float>) {
      const auto panel = panelColumns();
      const auto* panels = panels_;
      if (panels) {
        panels += panelsOfHead_ *
                  (serving(key_.size(0), entry, batch) * key_.size(1) + serving(key_.size(1), headIndex, allHeads_));
      }
      const auto scores = [&](int64_t row, int64_t rows) {
        multiply(query + row * queryStride, queryStride, rows, panels, depth, (visible + panel - 1) / panel * panel,
                 memory + row * stride, stride);
      };
      if (panels && !causal_) {
        thread_local Scratch<float> scratch;
        const Scratch<float>::Use use(scratch, static_cast<size_t>(count));
        auto* const sums = use.data();
        multiplyExponentials(query, queryStride, count, panels, depth, keys, {mask.added, mask.shown, mask.stride},
                             memory, stride, sums);
        for (int64_t row = 0; row < count; ++row) {
          const auto sum = sums[row];
          T* const elements = memory + row * stride;
          if (isSound(sum)) {
            take(row, elements, 1.0f / sum);
          } else {
            scores(row, 1);
            take(row, elements, softmaxOfRow(elements, first + row, row, mask));
          }
        }
        return;
      }
      if (panels) {
        scores(0, count);
      } else if (fewRows_) {
        const auto* const key = key_.template const_data_ptr<float>() + offsetOf(key_, entry, headIndex);
        for (int64_t row = 0; row < count; ++row) {
          multiplyRow(query + row * queryStride, key, key_.stride(2), visible, depth, memory + row * stride);
        }
      }
    }
    if (!panels_ && !(fewRows_ && std::is_same_v<T, float>)) {
      const auto options = at::TensorOptions().dtype(kType);
      auto scores = at::from_blob(memory, {count, visible}, {stride, 1}, options);
      const auto key = key_.select(0, serving(key_.size(0), entry, batch))
                           .select(0, serving(key_.size(1), headIndex, allHeads_))
                           .narrow(0, 0, visible);
      at::mm_out(scores, at::from_blob(const_cast<T*>(query), {count, depth}, {queryStride, 1}, options), key.t());
    }
    for (int64_t row = 0; row < count; ++row) {
      T* const elements = memory + row * stride;
      take(row, elements, softmaxOfRow(elements, first + row, row, mask));
    }
  }

 private:
  // The mask of a tile, in the form of RowMask.
  struct TileMask {
    const T* added = nullptr;
    const bool* shown = nullptr;
    int64_t stride = 0;
    at::Tensor converted;
  };

  // Offset of a head's matrix, in elements.
  int64_t offsetOf(const at::Tensor& tensor, int64_t entry, int64_t head) const {
    return serving(tensor.size(0), entry, batch) * tensor.stride(0) +
           serving(tensor.size(1), head, allHeads_) * tensor.stride(1);
  }

  TileMask maskOf(int64_t entry, int64_t head, int64_t first, int64_t count) const {
    TileMask mask;
    if (!mask_.defined()) return mask;
    const bool shared = mask_.size(2) == 1;
    mask.stride = shared ? 0 : mask_.stride(2);
    const auto offset = offsetOf(mask_, entry, head) + first * mask.stride;
    if (mask_.scalar_type() == at::kBool) {
      mask.shown = mask_.template const_data_ptr<bool>() + offset;
    } else if (mask_.scalar_type() == kType) {
      mask.added = mask_.template const_data_ptr<T>() + offset;
    } else {
      mask.converted = mask_.select(0, serving(mask_.size(0), entry, batch))
                           .select(0, serving(mask_.size(1), head, allHeads_))
                           .narrow(0, shared ? 0 : first, shared ? 1 : count)
                           .to(kType)
                           .contiguous();
      mask.added = mask.converted.template const_data_ptr<T>();
      mask.stride = shared ? 0 : keys;
    }
    return mask;
  }

  // Softmax of one row of scores except for the factor that it returns. `position` is the row's index among all
  // selected rows.
  T softmaxOfRow(T* elements, int64_t position, int64_t row, const TileMask& mask) const {
    const auto visible = causal_ ? std::min(keys, positions_[static_cast<size_t>(position)] + 1) : keys;
    if (mask.shown) applyMask(elements, mask.shown + row * mask.stride, visible);
    if (mask.added) addMask(elements, mask.added + row * mask.stride, visible);
    const T factor = exponentials(elements, visible);
    std::fill(elements + visible, elements + keys, T(0));
    return factor;
  }

  // Packs the key for `multiply`: [B, H, panels, depth, columns of a panel], scaled.
  void makePanels(float scale) {
    const auto columns = (keys + panelColumns() - 1) / panelColumns() * panelColumns();
    const auto depth = key_.size(3);
    const auto keyHeads = key_.size(1);
    panelsOfHead_ = columns * depth;
    float* const panels = scratch(static_cast<size_t>(key_.size(0) * keyHeads * panelsOfHead_));
    if (key_.stride(3) != 1) key_ = key_.contiguous();
    const auto* const elements = key_.template const_data_ptr<T>();
    at::parallel_for(
        0, key_.size(0) * keyHeads, std::max<int64_t>(1, kGrain / panelsOfHead_), [&](int64_t i, int64_t end) {
          for (; i < end; ++i) {
            const auto offset = i / keyHeads * key_.stride(0) + i % keyHeads * key_.stride(1);
            if constexpr (std::is_same_v<T, float>) {
              arrangeKey(elements + offset, key_.stride(2), keys, depth, scale, panels + i * panelsOfHead_);
            }
          }
        });
    panels_ = panels;
  }

  // Memory for the panels, kept by the thread: freeing it between the model's own allocations makes the allocator
  // return pages that the model then faults in again.
  float* scratch(size_t count) {
    constexpr size_t kKept = 8 * 1024 * 1024 / sizeof(float);
    thread_local Scratch<float> kept;
    if (count <= kKept) return kept_.emplace(kept, count).data();
    own_.resize(std::max(own_.size(), count));
    return own_.data();
  }

  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  bool causal_;
  at::Tensor query_, key_, mask_;  // the query is scaled if there are no panels
  bool fewRows_ = false;
  const float* panels_ = nullptr;
  int64_t panelsOfHead_ = 0;
  std::vector<float> own_;
  std::optional<Scratch<float>::Use> kept_;
  int64_t allHeads_ = 0;
  std::vector<int64_t> heads_, positions_;
};

// Tiles of existing weights, [B, H, Q, K].
template <typename T>
class Existing {
 public:
  Existing(const at::Tensor& weights, const Rows& rows)
      : weights_(weights), heads_(chosen(rows.heads, weights.size(1))), positions_(rows.queries) {
    batch = weights.size(0);
    heads = static_cast<int64_t>(heads_.size());
    queries = positions_ ? static_cast<int64_t>(positions_->size()) : weights.size(2);
    keys = weights.size(3);
  }

  int64_t batch, heads, queries, keys;

  template <typename Take>
  void tile(int64_t entry, int64_t head, int64_t first, int64_t count, T* memory, int64_t stride, Take take) const {
    const auto matrix = weights_.select(0, entry).select(0, heads_[static_cast<size_t>(head)]);
    const auto rows =
        positions_
            ? pick(matrix, 0, std::vector<int64_t>(positions_->begin() + first, positions_->begin() + first + count))
            : matrix.narrow(0, first, count);
    at::from_blob(memory, {count, keys}, {stride, 1}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value))
        .copy_(rows);
    for (int64_t row = 0; row < count; ++row) take(row, memory + row * stride, T(1));
  }

 private:
  const at::Tensor weights_;
  const std::vector<int64_t> heads_;
  const std::optional<std::vector<int64_t>> positions_;
};

// Runs `work(entry, head, first, count)` for all tiles on this run's intra-op threads. `heads` is 1 if a tile covers
// all heads.
template <typename Work>
void forEachTile(int64_t batch, int64_t heads, int64_t queries, int64_t rows, int64_t elementsPerRow, Work work) {
  const auto blocks = (queries + rows - 1) / rows;
  const auto grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, rows * elementsPerRow));
  at::parallel_for(0, batch * heads * blocks, grain, [&](int64_t begin, int64_t end) {
    // Worker threads lack this thread's dispatch state; what is computed here must not be recorded.
    const at::AutoDispatchBelowADInplaceOrView plain;
    for (auto i = begin; i < end; ++i) {
      const auto block = i % blocks;
      const auto head = i / blocks % heads;
      const auto first = block * rows;
      work(i / blocks / heads, head, first, std::min(rows, queries - first));
    }
  });
}

template <typename T, typename Source>
Weights reduceTiles(const Source& source, const Wanted& wanted) {
  constexpr auto type = c10::CppTypeToScalarType<T>::value;
  const auto [batch, heads, queries, keys] = std::tuple(source.batch, source.heads, source.queries, source.keys);
  const auto columns = wanted.topK ? std::min(*wanted.topK, keys) : keys;
  const std::vector<int64_t> sizes = wanted.averageHeads ? std::vector<int64_t>{batch, queries, columns}
                                                         : std::vector<int64_t>{batch, heads, queries, columns};
  const auto dtype = wanted.dtype.value_or(type);
  Weights result{emptyResult(sizes, dtype), {}};
  if (wanted.topK) result.keys = emptyResult(sizes, at::kLong);
  if (result.weights.numel() == 0) return result;
  if (heads == 0) {  // an empty mean, as in PyTorch
    result.weights.fill_(std::numeric_limits<double>::quiet_NaN());
    if (result.keys.defined()) result.keys.copy_(at::arange(columns, result.keys.options()));
    return result;
  }

  auto rows = std::clamp(kTileBytes / static_cast<int64_t>(keys * sizeof(T)), kLeastTileRows, queries + kLeastTileRows);
  // Enough tiles for every thread.
  const auto outer = batch * (wanted.averageHeads ? 1 : heads);
  const auto least = (4 * at::get_num_threads() + outer - 1) / outer;
  rows = std::min({rows, queries, std::max(kLeastTileRows, (queries + least - 1) / least)});
  rows = std::min(queries, (rows + rowsAtOnce() - 1) / rowsAtOnce() * rowsAtOnce());

  const auto outerHeads = wanted.averageHeads ? 1 : heads;
  // Whole panels, and not a multiple of the page size, for which rows would compete for the same cache sets.
  const auto stride = (keys + 63) / 64 * 64 + 16;
  const bool sameType = dtype == type;
  const auto options = at::TensorOptions().dtype(type);
  const auto work = [&, heads = heads, queries = queries, keys = keys](int64_t entry, int64_t head, int64_t first,
                                                                       int64_t count) {
    thread_local Scratch<T> scratch;
    const typename Scratch<T>::Use memory(scratch, static_cast<size_t>(count * (stride + keys)));
    T* const staging =
        memory.data() + count * stride;  // [count, keys], for rows that aren't written to the result directly
    const auto offset = ((entry * outerHeads + head) * queries + first) * columns;
    T* const out = sameType ? result.weights.template mutable_data_ptr<T>() + offset : nullptr;
    // Consumes complete rows.
    const auto finish = [&](int64_t row, T* elements) {
      if (!wanted.topK) return;
      largestOfRow(elements, keys, columns, staging + row * columns,
                   result.keys.template mutable_data_ptr<int64_t>() + offset + row * columns);
    };
    if (wanted.averageHeads) {
      // Accumulates in the result itself, if possible.
      T* const sums = out && !wanted.topK ? out : staging;
      std::fill(sums, sums + count * keys, T(0));
      for (int64_t h = 0; h < heads; ++h) {
        source.tile(entry, h, first, count, memory.data(), stride, [&](int64_t row, T* elements, T factor) {
          addScaled(sums + row * keys, elements, factor / static_cast<T>(heads), keys);
        });
      }
      if (wanted.topK) {
        for (int64_t row = 0; row < count; ++row) {
          std::copy(sums + row * keys, sums + (row + 1) * keys, memory.data());
          finish(row, memory.data());
        }
      }
    } else {
      source.tile(entry, head, first, count, memory.data(), stride, [&](int64_t row, T* elements, T factor) {
        if (wanted.topK) {
          // The largest exponentials are the largest weights, so only those need scaling.
          finish(row, elements);
          scale(staging + row * columns, factor, columns);
        } else {
          scaleInto((out ? out : staging) + row * keys, elements, factor, keys);
        }
      });
    }
    if (out && wanted.topK) std::copy(staging, staging + count * columns, out);
    if (!out) {
      result.weights.view(-1)
          .narrow(0, offset, count * columns)
          .copy_(at::from_blob(staging, {count * columns}, options));
    }
  };
  forEachTile(batch, outerHeads, queries, rows, keys * (wanted.averageHeads ? heads : 1), work);
  return result;
}

}  // namespace

Weights computeInTiles(const SdpaArguments& call, const Wanted& wanted) {
  if (call.query.scalar_type() == at::kDouble) return reduceTiles<double>(Computed<double>(call, wanted.rows), wanted);
  return reduceTiles<float>(Computed<float>(call, wanted.rows), wanted);
}

Weights reduceInTiles(const at::Tensor& weights, const Wanted& wanted) {
  if (weights.scalar_type() == at::kDouble) return reduceTiles<double>(Existing<double>(weights, wanted.rows), wanted);
  return reduceTiles<float>(Existing<float>(weights, wanted.rows), wanted);
}

}  // namespace lta
