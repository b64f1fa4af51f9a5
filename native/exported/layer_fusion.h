// Linear layers and what follows them, as single operators.
#pragma once

#include "exported/program.h"

namespace lta::exported {

// The graph of a program with lta::linear and lta::feed_forward (fused/operators.h) in place of linears by its weights,
// and of the activations, additions and layer norms behind them; graphs of conditions and loops stay as they are.
// Results differ by rounding. The new nodes belong to the modules of the linears, and have their names.
Graph fuseLayers(const Program& program);

}  // namespace lta::exported
