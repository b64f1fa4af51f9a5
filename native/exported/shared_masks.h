#pragma once

#include <optional>
#include <vector>

#include "exported/graph.h"

namespace lta::exported {

// Registers `lta::additive_mask`, once a process.
void registerMaskOperator();

// The same graph, in which a mask of booleans that several attentions take is made a mask to add once, where libtorch
// would do so for each; bit-identical. None where there is no such mask. `kept` as for `findLastUses`.
std::optional<Graph> withSharedMasks(const Graph& graph, const std::vector<int>& kept);

}  // namespace lta::exported
