#pragma once

#include <string>
#include <vector>

#include "exported/graph.h"
#include "exported/module_stack.h"

namespace lta::exported {

// A region that a model calls several times (`torch.compiler.nested_compile_region`) is written with the modules of one
// of these calls. Which modules the others are of is told by the weights that they are given: names them.
// In graphs of conditions and loops, exporters may leave modules out: there, nodes have those of the node that runs the
// graph, and captures take them for the modules that the weights on their way belong to; hooks don't.
// `owners`: of each slot that holds a weight, the module that has it, else empty. `weights`: the names of all.
void nameRegions(Graph& graph, const std::vector<std::string>& owners, const std::vector<std::string>& weights,
                 ModuleStacks& modules);

}  // namespace lta::exported
