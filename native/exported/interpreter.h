#pragma once

#include <ATen/core/ivalue.h>

#include <vector>

#include "exported/graph.h"

namespace lta::exported {

// The values of a graph in one run, by slot.
using Frame = std::vector<c10::IValue>;

// Runs a graph whose inputs stand in a frame. Gives its outputs. What an operator throws becomes ERR_MODEL_RUN with the
// node and its module; a run that is to stop does so between operators (see run_scope.h), and in loops.
std::vector<c10::IValue> runGraph(const Graph& graph, Frame frame);

// The same with the inputs of a graph inside another.
std::vector<c10::IValue> callGraph(const Graph& graph, std::vector<c10::IValue> inputs);

// Name of the module that the node being run by the calling thread came from.
std::string currentModuleName();

}  // namespace lta::exported
