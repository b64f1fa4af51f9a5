// Options of captures.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "capture/attention.h"

namespace lta {

// One entry of the option `layers`: modules by name (each with everything below it), or a position in execution order,
// negative from the end. `label` is what the caller wrote.
struct LayerSelector {
  std::vector<std::string> names;
  std::optional<int64_t> position;
  std::string label;
};

// A span of rows that is known only once the number of queries is.
struct QueryRange {
  int64_t start;
  int64_t end;
};

// The type of captured weights and scores, as the option `dtype` names it.
enum class KeptType : uint8_t { Float, Same, Half, LinearCodes, LogCodes };

struct CaptureOptions {
  std::vector<LayerSelector> layers;  // empty: all
  std::optional<std::vector<int64_t>> heads;
  std::optional<std::vector<int64_t>> queries;
  std::optional<QueryRange> queryRange;
  bool averageHeads = false;
  std::optional<int64_t> topK;
  // What is given of each: the weights, what their softmax is of, and what is summed up of them (see Wanted).
  bool weights = true;
  bool scores = false;
  bool logSumExp = false;
  bool received = false;
  bool entropy = false;
  // Whether fused kernels run as they would, and the weights are computed beside them; false: both at once, where that
  // can be (see canAttend).
  bool exact = true;
  bool toCpu = true;
  KeptType type = KeptType::Float;
  std::optional<int64_t> maxBytes;
  // Takes each attention as soon as it exists, on the thread that computed it, which goes on when this returns; absent:
  // they are collected. One at a time: those of one thread in execution order, those of tasks that the model forked in
  // the order in which they come. What it throws ends the run.
  std::function<void(Attention)> onAttention;
  // One forward of several that belong together: that it computes no attention, or none in a selected layer, is no
  // error (see Capture::missing).
  bool mayMiss = false;
  bool sitesOnly = false;  // note what there is, keep no weights
  bool gradients = false;  // keep what tells d(scalar)/d(weights) later
  // Hooks run while the model does: they can write into tensors without any operator, so what is kept is copied at once
  // (as it is with onAttention).
  bool hooked = false;
};

}  // namespace lta
