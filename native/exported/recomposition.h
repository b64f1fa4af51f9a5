// Layers that an exporter took apart, as the operators that they were.
#pragma once

#include "exported/program.h"

namespace lta::exported {

// The graph of a program with aten::linear in place of addmm by a weight, between views, which is what
// `run_decompositions` makes of it (GPT-2's Conv1D is written that way), and with aten::layer_norm in place of
// native_layer_norm of which only the first result is read. Only weights that lta::linear (fused/operators.h) takes are
// looked at, and no products that attention may be made of.
Graph recomposed(const Program& program);

}  // namespace lta::exported
