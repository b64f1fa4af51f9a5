#pragma once

#include <functional>
#include <string>

#include "exported/graph.h"
#include "exported/json.h"
#include "exported/value_names.h"

namespace lta::exported {

// Reads an argument of a node or an output of a graph. `readGraph` is given a graph in an argument and tells its number
// among those of the node. Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE for kinds that aren't served.
Argument readArgument(const Json& json, const ValueNames& names, const std::function<size_t(const Json&)>& readGraph);

// The name of what an argument, or an output, refers to; empty for a constant.
std::string nameIn(const Json& argument);
// The same of the first, where it is a list.
std::string nameOfValue(const Json& output);

// A constant argument.
Argument constantArgument(c10::IValue value);

}  // namespace lta::exported
