#include "weights/cpu/tiles.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "runtime/scratch.h"
#include "runtime/shared_tasks.h"
#include "weights/cpu/attending.h"
#include "weights/cpu/kernels.h"
#include "weights/cpu/panel_memory.h"
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

// Whether a mask hides nothing, as those of batches without padding do. Looks as far as the first that is hidden.
bool showsAll(const at::Tensor& mask) {
  return mask.scalar_type() == at::kBool && mask.is_contiguous() &&
         std::memchr(mask.const_data_ptr(), 0, static_cast<size_t>(mask.numel())) == nullptr;
}

// Computes tiles from query and key: scores, mask, softmax. Half types are computed in float32.
template <typename T>
class Computed {
 public:
  Computed(const SdpaArguments& call, const Wanted& wanted)
      : causal_(call.causal), logSumExp_(wanted.logSumExp), key_(asFourDimensions(call.key).to(kType)) {
    const auto& rows = wanted.rows;
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
      if (showsAll(mask_)) mask_ = at::Tensor();
    }
    positions_ = chosen(rows.queries, query_.size(2));
    heads_ = chosen(rows.heads, allHeads_);
    const double scale = call.scale.value_or(1.0 / std::sqrt(static_cast<double>(query_.size(3))));
    query_ = pick(query_, 2, rows.queries).to(kType);
    heads = static_cast<int64_t>(heads_.size());
    queries = query_.size(2);
    keys = key_.size(2);
    if (std::is_same_v<T, float> && queries > kFewRows && query_.size(3) <= kMostDepth) {
      makePanels(static_cast<float>(scale));
    } else {
      query_ = query_.mul(scale);
      fewRows_ = queries <= kFewRows;
      if (fewRows_ && key_.stride(3) != 1) key_ = key_.contiguous();
    }
    if (query_.stride(3) != 1) query_ = query_.contiguous();
  }

  int64_t batch, heads, queries, keys;

  // Computes rows `first` … `first + count` of head `head` of batch entry `entry` in `memory`, `stride` elements each,
  // and gives each of them to take(row, its elements e^(score - shift), the factor that makes weights of them, shift).
  // The shift is told where logSumExp is wanted. What the scores were is put into `scores`, [count, keys], unless that
  // is null.
  template <typename Take>
  void tile(int64_t entry, int64_t head, int64_t first, int64_t count, T* memory, int64_t stride, T* scores,
            Take take) const {
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
      const auto product = [&](int64_t row, int64_t rows) {
        multiply(query + row * queryStride, queryStride, rows, panels, depth, (visible + panel - 1) / panel * panel,
                 memory + row * stride, stride);
      };
      if (panels && !causal_ && !scores) {
        thread_local Scratch<float> scratch;
        const Scratch<float>::Use use(scratch, static_cast<size_t>(count));
        auto* const sums = use.data();
        multiplyExponentials(query, queryStride, count, panels, depth, keys, {mask.added, mask.shown, mask.stride},
                             memory, stride, sums);
        for (int64_t row = 0; row < count; ++row) {
          const auto sum = sums[row];
          T* const elements = memory + row * stride;
          if (isSound(sum)) {
            take(row, elements, 1.0f / sum, 0.0f);
          } else {
            product(row, 1);
            takeRow(elements, first + row, row, mask, nullptr, take);
          }
        }
        return;
      }
      if (panels) {
        product(0, count);
      } else if (fewRows_) {
        const auto* const key = key_.template const_data_ptr<float>() + offsetOf(key_, entry, headIndex);
        for (int64_t row = 0; row < count; ++row) {
          multiplyRow(query + row * queryStride, key, key_.stride(2), visible, depth, memory + row * stride);
        }
      }
    }
    if (!panels_ && !(fewRows_ && std::is_same_v<T, float>)) {
      const auto options = at::TensorOptions().dtype(kType);
      auto product = at::from_blob(memory, {count, visible}, {stride, 1}, options);
      const auto key = key_.select(0, serving(key_.size(0), entry, batch))
                           .select(0, serving(key_.size(1), headIndex, allHeads_))
                           .narrow(0, 0, visible);
      at::mm_out(product, at::from_blob(const_cast<T*>(query), {count, depth}, {queryStride, 1}, options), key.t());
    }
    for (int64_t row = 0; row < count; ++row) {
      takeRow(memory + row * stride, first + row, row, mask, scores ? scores + row * keys : nullptr, take);
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

  // Makes weights of a tile's row of scores, but for the factor, and gives it to `take`. `position` is its place among
  // all rows.
  template <typename Take>
  void takeRow(T* elements, int64_t position, int64_t row, const TileMask& mask, T* scores, const Take& take) const {
    const auto visible = causal_ ? std::min(keys, positions_[static_cast<size_t>(position)] + 1) : keys;
    if (mask.shown) applyMask(elements, mask.shown + row * mask.stride, visible);
    if (mask.added) addMask(elements, mask.added + row * mask.stride, visible);
    constexpr auto kNone = -std::numeric_limits<T>::infinity();
    if (scores) std::fill(std::copy(elements, elements + visible, scores), scores + keys, kNone);
    T shift = kNone;
    for (int64_t i = 0; logSumExp_ && i < visible; ++i) shift = elements[i] > shift ? elements[i] : shift;
    const T factor = exponentials(elements, visible);
    std::fill(elements + visible, elements + keys, T(0));
    take(row, elements, factor, shift);
  }

  // Packs the key for `multiply`: [B, H, panels, depth, columns of a panel], scaled.
  void makePanels(float scale) {
    const auto columns = (keys + panelColumns() - 1) / panelColumns() * panelColumns();
    const auto depth = key_.size(3);
    const auto keyHeads = key_.size(1);
    panelsOfHead_ = columns * depth;
    thread_local Scratch<float> kept;
    float* const panels = memory_.take(kept, static_cast<size_t>(key_.size(0) * keyHeads * panelsOfHead_));
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

  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  bool causal_;
  bool logSumExp_;
  at::Tensor query_, key_, mask_;  // the query scaled where there are no panels
  bool fewRows_ = false;
  const float* panels_ = nullptr;
  int64_t panelsOfHead_ = 0;
  PanelMemory memory_;
  int64_t allHeads_ = 0;
  std::vector<int64_t> heads_, positions_;
};

// Tiles of existing weights, [B, H, Q, K].
template <typename T>
class Existing {
 public:
  Existing(const at::Tensor& weights, const Wanted& wanted)
      : weights_(weights), heads_(chosen(wanted.rows.heads, weights.size(1))), positions_(wanted.rows.queries) {
    batch = weights.size(0);
    heads = static_cast<int64_t>(heads_.size());
    queries = positions_ ? static_cast<int64_t>(positions_->size()) : weights.size(2);
    keys = weights.size(3);
  }

  int64_t batch, heads, queries, keys;

  template <typename Take>
  void tile(int64_t entry, int64_t head, int64_t first, int64_t count, T* memory, int64_t stride, T*, Take take) const {
    const auto matrix = weights_.select(0, entry).select(0, heads_[static_cast<size_t>(head)]);
    const auto rows =
        positions_
            ? pick(matrix, 0, std::vector<int64_t>(positions_->begin() + first, positions_->begin() + first + count))
            : matrix.narrow(0, first, count);
    at::from_blob(memory, {count, keys}, {stride, 1}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value))
        .copy_(rows);
    for (int64_t row = 0; row < count; ++row) take(row, memory + row * stride, T(1), T(0));
  }

 private:
  const at::Tensor weights_;
  const std::vector<int64_t> heads_;
  const std::optional<std::vector<int64_t>> positions_;
};

// How the rows of a head are divided: into tiles, and those into chunks, each of which one thread works on in order.
struct Division {
  int64_t outer;  // how many heads there are in all; entries of the batch where a tile is about all heads at once
  int64_t queries;
  int64_t rows;    // of a tile
  int64_t chunks;  // of a head
  int64_t elementsPerRow;
};

// Runs `work(head, chunk, first, count)` for all tiles, on the threads of this run; `head` is one of `outer`.
template <typename Work>
void forEachTile(const Division& division, const Work& work) {
  const auto& [outer, queries, rows, chunks, elementsPerRow] = division;
  const auto tiles = (queries + rows - 1) / rows;
  const auto chunksOfThread =
      std::max<int64_t>(1, kGrain / std::max<int64_t>(1, rows * elementsPerRow * (tiles / chunks)));
  const auto threads = std::clamp<int64_t>(outer * chunks / chunksOfThread, 1, threadsOfLoops());
  shareTasks(outer * chunks, threads, [&](int64_t i) {
    // Other threads don't have this one's state: what is computed here is no part of the model.
    const at::AutoDispatchBelowADInplaceOrView plain;
    const auto chunk = i % division.chunks;
    const auto last = (chunk + 1) * tiles / division.chunks;
    for (auto tile = chunk * tiles / division.chunks; tile < last; ++tile) {
      const auto first = tile * division.rows;
      work(i / division.chunks, chunk, first, std::min(division.rows, division.queries - first));
    }
  });
}

uint8_t* bytesOf(const at::Tensor& result, int64_t offset) {
  return static_cast<uint8_t*>(result.mutable_data_ptr()) + offset * result.element_size();
}

// Values that a tile has in `from`, to their place in a result of any type. Leaves something else there.
template <typename T>
void convertInto(const at::Tensor& result, int64_t offset, T* from, int64_t count) {
  if (result.scalar_type() == at::kHalf) {
    auto* const halves = reinterpret_cast<uint8_t*>(from);
    toHalves(halves, from, T(1), count);
    return copyInto(bytesOf(result, offset), halves, count * result.element_size());
  }
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  result.view(-1).narrow(0, offset, count).copy_(at::from_blob(from, {count}, options));
}

// `attending`: gets each tile as well.
template <typename T, typename Source>
Weights reduceTiles(const Source& source, const Wanted& wanted, Attending* attending = nullptr) {
  constexpr auto type = c10::CppTypeToScalarType<T>::value;
  const auto batch = source.batch, heads = source.heads, queries = source.queries, keys = source.keys;
  const auto columns = wanted.topK ? std::min(*wanted.topK, keys) : keys;
  const bool averages = wanted.averageHeads;
  auto result = makeWeights({batch, heads, queries, keys}, wanted, type, emptyResult);
  if (fillWhereEmpty(result, {batch, heads, queries, keys}, wanted)) return result;

  auto rows = std::clamp(kTileBytes / static_cast<int64_t>(keys * sizeof(T)), kLeastTileRows, queries + kLeastTileRows);
  // Enough tiles for every thread to have some.
  const auto outerHeads = averages ? 1 : heads;
  const auto outer = batch * outerHeads;
  const auto least = (4 * threadsOfLoops() + outer - 1) / outer;
  rows = std::min({rows, queries, std::max(kLeastTileRows, (queries + least - 1) / least)});
  rows = std::min(queries, (rows + rowsAtOnce() - 1) / rowsAtOnce() * rowsAtOnce());
  const auto tiles = (queries + rows - 1) / rows;
  // What rows are summed up in is a chunk's own, so that the sum doesn't depend on which thread comes first.
  const auto chunks = wanted.received ? std::min(tiles, least) : tiles;
  std::vector<double> received(wanted.received ? static_cast<size_t>(outer * chunks * keys) : 0);

  // Whole panels, and no multiple of a page, where rows would share the few places that a cache has for them.
  const auto stride = (keys + 63) / 64 * 64 + 16;
  const auto matrixOf = [&](const at::Tensor& tensor) -> T* {
    return tensor.defined() && tensor.scalar_type() == type ? tensor.template mutable_data_ptr<T>() : nullptr;
  };
  T* const outWeights = matrixOf(result.weights);
  T* const outScores = averages || wanted.topK ? nullptr : matrixOf(result.scores);
  // Weights in fewer bytes leave a tile as they are going to be.
  const bool isNarrow = wanted.weights && (wanted.codes || result.weights.scalar_type() == at::kHalf);
  std::atomic<double> uncodable{0};
  const auto narrow = [&](uint8_t* to, const T* elements, T factor, int64_t count) {
    if (!wanted.codes) return toHalves(to, elements, factor, count);
    if (const auto element = toCodes(to, elements, factor, count, *wanted.codes); element != 0) uncodable = element;
  };
  const auto put = [](const at::Tensor& tensor, int64_t at, T value) {
    if (tensor.scalar_type() == type) {
      tensor.template mutable_data_ptr<T>()[at] = value;
    } else {
      tensor.template mutable_data_ptr<float>()[at] = static_cast<float>(value);
    }
  };

  const auto work = [&](int64_t place, int64_t chunk, int64_t first, int64_t count) {
    const auto entry = place / outerHeads, head = place % outerHeads;
    const auto row0 = place * queries + first;
    const auto offset = row0 * columns;
    // A tile of one head, then what its rows become where they don't go out as they are, [count, keys] each.
    const auto area = count * keys;
    const auto scoresAreas = !wanted.scores ? 0 : 1 + (averages ? 1 : 0) + (wanted.topK ? 1 : 0);
    thread_local Scratch<T> scratch;
    const typename Scratch<T>::Use memory(scratch,
                                          static_cast<size_t>(count * stride + area * (1 + scoresAreas) + keys));
    T* const tile = memory.data();
    T* const columnSums = tile + count * stride;
    T* const made = columnSums + keys;
    T* const scoresOfHead = !wanted.scores ? nullptr : outScores ? outScores + offset : made + area;
    T* const scores = averages && wanted.scores ? made + 2 * area : scoresOfHead;
    T* const largestScores = made + scoresAreas * area;  // with topK
    T* const out = outWeights ? outWeights + offset : nullptr;
    auto* const packed = reinterpret_cast<uint8_t*>(made);
    const auto width = isNarrow ? result.weights.element_size() : 0;
    if (wanted.received) std::fill(columnSums, columnSums + keys, T(0));
    // Few rows at a time are summed up in the type of the weights, so that nothing is lost.
    constexpr int64_t kSummed = 32;
    const auto addColumnSums = [&] {
      auto* const total = received.data() + (place * chunks + chunk) * keys;
      for (int64_t key = 0; key < keys; ++key) total[key] += columnSums[key];
      std::fill(columnSums, columnSums + keys, T(0));
    };

    // Takes a row that is complete.
    const auto finish = [&](int64_t row, T* elements, T factor) {
      if (wanted.entropy) put(result.entropy, row0 + row, entropy(elements, factor, keys));
      if (wanted.received) {
        addScaled(columnSums, elements, factor, keys);
        if (row % kSummed == kSummed - 1) addColumnSums();
      }
      if (!wanted.topK) return;
      // The largest exponentials are the largest weights: only those need the factor.
      auto* const positions = result.keys.template mutable_data_ptr<int64_t>() + offset + row * columns;
      largestOfRow(elements, keys, columns, made + row * columns, positions);
      scale(made + row * columns, factor, columns);
      for (int64_t i = 0; wanted.scores && i < columns; ++i) {
        largestScores[row * columns + i] = scores[row * keys + positions[i]];
      }
    };
    std::vector<T> factors(attending ? static_cast<size_t>(count) : 0);
    const auto attend = [&](int64_t ofHead) {
      if constexpr (std::is_same_v<T, float>) {
        if (attending) attending->tile(entry, ofHead, first, count, tile, stride, factors.data());
      }
    };
    if (averages) {
      // The sum is collected where it is going to stay, if it can.
      T* const sums = out && !wanted.topK ? out : made;
      std::fill(sums, sums + area, T(0));
      if (wanted.scores) std::fill(scores, scores + area, T(0));
      std::vector<T> logSums(static_cast<size_t>(count));
      const T share = T(1) / static_cast<T>(heads);
      for (int64_t h = 0; h < heads; ++h) {
        source.tile(entry, h, first, count, tile, stride, scoresOfHead,
                    [&](int64_t row, T* elements, T factor, T shift) {
                      if (attending) factors[static_cast<size_t>(row)] = factor;
                      addScaled(sums + row * keys, elements, factor / static_cast<T>(heads), keys);
                      if (wanted.logSumExp) logSums[static_cast<size_t>(row)] += (shift - std::log(factor)) * share;
                    });
        if (wanted.scores) addScaled(scores, scoresOfHead, share, area);
        attend(h);
      }
      for (int64_t row = 0; row < count; ++row) {
        if (wanted.logSumExp) put(result.logSumExp, row0 + row, logSums[static_cast<size_t>(row)]);
        T* elements = sums + row * keys;
        if (wanted.topK) elements = std::copy(elements, elements + keys, tile) - keys;
        finish(row, elements, T(1));
      }
    } else {
      source.tile(entry, head, first, count, tile, stride, scoresOfHead,
                  [&](int64_t row, T* elements, T factor, T shift) {
                    if (attending) factors[static_cast<size_t>(row)] = factor;
                    if (wanted.logSumExp) put(result.logSumExp, row0 + row, shift - std::log(factor));
                    if (isNarrow && !wanted.topK) {
                      narrow(packed + row * keys * width, elements, factor, keys);
                    } else if (wanted.weights && !wanted.topK) {
                      scaleInto((out ? out : made) + row * keys, elements, factor, keys);
                    }
                    finish(row, elements, factor);
                  });
      attend(head);
    }
    if (out && wanted.topK) std::copy(made, made + count * columns, out);
    if (isNarrow) {
      if (averages || wanted.topK) narrow(packed, made, T(1), count * columns);
      copyInto(bytesOf(result.weights, offset), packed, count * columns * width);
    } else if (wanted.weights && !out) {
      convertInto(result.weights, offset, made, count * columns);
    }
    if (wanted.scores && !outScores) {
      convertInto(result.scores, offset, wanted.topK ? largestScores : scores, count * columns);
    }
    if (wanted.received) addColumnSums();
  };
  forEachTile({outer, queries, rows, chunks, keys * (averages ? heads : 1)}, work);
  if (wanted.received) {
    const auto all = at::from_blob(received.data(), {outer, chunks, keys}, at::TensorOptions().dtype(at::kDouble));
    result.received.copy_(all.sum(1).view_as(result.received));
  }
  if (const double element = uncodable; element != 0) result.uncodable = element;
  return result;
}

}  // namespace

Weights computeInTiles(const SdpaArguments& call, const Wanted& wanted) {
  if (call.query.scalar_type() == at::kDouble) return reduceTiles<double>(Computed<double>(call, wanted), wanted);
  return reduceTiles<float>(Computed<float>(call, wanted), wanted);
}

Weights attendInTiles(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted, at::Tensor& output) {
  Attending attending(call.query, value, call.causal);
  auto weights = reduceTiles<float>(Computed<float>(call, wanted), wanted, &attending);
  output = attending.output();
  return weights;
}

Weights reduceInTiles(const at::Tensor& weights, const Wanted& wanted) {
  if (weights.scalar_type() == at::kDouble) return reduceTiles<double>(Existing<double>(weights, wanted), wanted);
  return reduceTiles<float>(Existing<float>(weights, wanted), wanted);
}

}  // namespace lta
