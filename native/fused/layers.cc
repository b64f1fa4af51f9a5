#include "fused/layers.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "runtime/scratch.h"
#include "runtime/shared_tasks.h"

namespace lta::fused {
namespace {

// Rows of a block: enough to use a panel of weights several times while it is in cache, few enough to stay in cache.
constexpr int64_t kMostRows = 96;
constexpr int64_t kMostPanel = 32;
// What lies between two layers stays in a core's own cache.
constexpr int64_t kHiddenBytes = 384 * 1024;
// Fewer operations than this aren't worth a second thread.
constexpr int64_t kGrain = 128 * 1024;

int64_t ceilOf(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }
int64_t panelsOf(int64_t columns) { return ceilOf(columns, layerKernels().panel); }

// Where input and output of a block lie.
struct Block {
  const float* input;
  int64_t inputStride;
  int64_t rows;
  const float* residual;
  float* output;
  int64_t outputStride;
};

void applyPanels(const Layer& layer, const Block& block, int64_t begin, int64_t end) {
  const auto& kernels = layerKernels();
  alignas(64) float tile[kMostRows * kMostPanel];
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t column = panel * kernels.panel;
    LayerEnd after;
    after.bias = layer.bias ? layer.bias + column : nullptr;
    after.activation = layer.activation;
    after.residual = block.residual ? block.residual + column : nullptr;
    after.residualStride = layer.columns;
    kernels.apply(block.input, block.inputStride, block.rows, layer.panels + column * layer.depth, layer.depth,
                  std::min(kernels.panel, layer.columns - column), after, tile, block.output + column,
                  block.outputStride);
  }
}

void normalize(const Norm& norm, float* rows, int64_t count, int64_t columns) {
  for (int64_t row = 0; row < count; ++row) {
    layerKernels().normalize(rows + row * columns, columns, norm.weight, norm.bias, norm.epsilon);
  }
}

// How rows are cut into blocks, each thread having as many: of whole steps of the kernel.
class Blocks {
 public:
  Blocks(int64_t rows, int64_t mostRows, int64_t threads)
      : rows_(rows), step_(layerKernels().rows), steps_(ceilOf(rows, step_)) {
    count = std::min(steps_, ceilOf(ceilOf(steps_, mostRows / step_), threads) * threads);
  }
  int64_t begin(int64_t block) const { return std::min(rows_, steps_ * block / count * step_); }

  int64_t count;

 private:
  const int64_t rows_, step_, steps_;
};

// Whether blocks of rows keep all threads equally busy.
bool fillThreads(int64_t rows, int64_t threads) { return rows >= 4 * threads * layerKernels().rows; }

int64_t threadsFor(int64_t operations) { return std::clamp<int64_t>(operations / kGrain, 1, threadsOfLoops()); }

Block blockOf(const Layer& layer, const Rows& rows, int64_t begin, int64_t end) {
  return {rows.input + begin * layer.depth,
          layer.depth,
          end - begin,
          rows.residual ? rows.residual + begin * layer.columns : nullptr,
          rows.output + begin * layer.columns,
          layer.columns};
}

Scratch<float>& scratchOfThread() {
  thread_local Scratch<float> scratch;
  return scratch;
}

// Few rows: threads take panels, not rows.
void applyByPanels(const Layer& layer, const Rows& rows, int64_t threads) {
  const int64_t panels = panelsOf(layer.columns);
  const int64_t blocks = ceilOf(rows.count, kMostRows);
  const int64_t groups = std::min(panels, ceilOf(4 * threads, blocks));
  shareTasks(blocks * groups, threads, [&](int64_t task) {
    const int64_t block = task / groups, group = task % groups;
    const auto begin = block * kMostRows;
    applyPanels(layer, blockOf(layer, rows, begin, std::min(rows.count, begin + kMostRows)), panels * group / groups,
                panels * (group + 1) / groups);
  });
  if (rows.norm) normalize(*rows.norm, rows.output, rows.count, layer.columns);
}

}  // namespace

int64_t packedSize(int64_t columns, int64_t depth) { return panelsOf(columns) * layerKernels().panel * depth; }

void pack(const float* weight, int64_t columns, int64_t depth, float* panels) {
  const auto& kernels = layerKernels();
  at::parallel_for(0, panelsOf(columns), ceilOf(kGrain, kernels.panel * depth), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kernels.panel, last = std::min(columns, end * kernels.panel);
    kernels.pack(weight + first * depth, depth, last - first, depth, 1.0f, panels + first * depth);
  });
}

void apply(const Layer& layer, const Rows& rows) {
  const auto threads = threadsFor(2 * rows.count * layer.depth * layer.columns);
  if (threads > 1 && !fillThreads(rows.count, threads)) return applyByPanels(layer, rows, threads);
  const Blocks blocks(rows.count, kMostRows, threads);
  shareTasks(blocks.count, threads, [&](int64_t task) {
    const auto block = blockOf(layer, rows, blocks.begin(task), blocks.begin(task + 1));
    applyPanels(layer, block, 0, panelsOf(layer.columns));
    if (rows.norm) normalize(*rows.norm, block.output, block.rows, layer.columns);
  });
}

void apply(const Layer& first, const Layer& second, const Rows& rows) {
  const auto threads = threadsFor(2 * rows.count * (first.depth * first.columns + second.depth * second.columns));
  if (threads > 1 && !fillThreads(rows.count, threads)) {
    const Scratch<float>::Use hidden(scratchOfThread(), static_cast<size_t>(rows.count * first.columns));
    apply(first, {rows.input, rows.count, nullptr, nullptr, hidden.data()});
    return apply(second, {hidden.data(), rows.count, rows.residual, rows.norm, rows.output});
  }
  const int64_t step = layerKernels().rows;
  const int64_t fitting = kHiddenBytes / static_cast<int64_t>(sizeof(float)) / first.columns;
  const Blocks blocks(rows.count, std::clamp(fitting / step * step, 4 * step, kMostRows), threads);
  shareTasks(blocks.count, threads, [&](int64_t task) {
    const auto begin = blocks.begin(task), end = blocks.begin(task + 1);
    const Scratch<float>::Use hidden(scratchOfThread(), static_cast<size_t>((end - begin) * first.columns));
    applyPanels(first,
                {rows.input + begin * first.depth, first.depth, end - begin, nullptr, hidden.data(), first.columns}, 0,
                panelsOf(first.columns));
    auto block = blockOf(second, rows, begin, end);
    block.input = hidden.data();
    applyPanels(second, block, 0, panelsOf(second.columns));
    if (rows.norm) normalize(*rows.norm, block.output, block.rows, second.columns);
  });
}

}  // namespace lta::fused
