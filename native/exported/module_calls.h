#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "exported/graph.h"
#include "exported/pytree.h"

namespace lta::exported {

// What a call of a module takes and gives, in a program that was exported with preserve_module_call_signature.
struct CallSignature {
  Pytree inputTree;  // of (args, kwargs)
  Pytree outputTree;
  std::vector<Argument> inputs;  // leaves of the positional arguments
  std::vector<Argument> outputs;
};
// By call: the name of the module, with "@n" from its second call on.
using CallSignatures = std::unordered_map<std::string, CallSignature>;

// What hooks on a module can be given.
struct ModuleHooks {
  enum class Kind : uint8_t {
    None,
    Single,  // the only tensor that goes in, and the only one that comes out
    Exact,   // what the module's forward takes and gives
  };
  Kind kind = Kind::None;
  bool inputs = false;    // whether they are known
  bool outputs = false;   // whether they are known
  bool separate = false;  // whether no tensor stands for two of them, so that each has a gradient of its own
  Pytree inputTree;       // of an exact one: of its positional arguments
  Pytree outputTree;
};

// Finds the calls of modules in a graph and in those inside, by what nodes say of the modules that they came from.
// `weights`: slots that hold the program's own tensors. `isState`, of each output of the graph: no module gave it, but
// one wrote it to what was there before: a buffer, an input, a cache.
void findModuleCalls(Graph& graph, const CallSignatures& signatures, const std::vector<int>& weights,
                     const std::vector<bool>& isState);

// What hooks on each module can be given, by name; modules without an entry aren't called in the graph.
std::unordered_map<std::string, ModuleHooks> hooksOfModules(const Graph& graph, const CallSignatures& signatures);

}  // namespace lta::exported
