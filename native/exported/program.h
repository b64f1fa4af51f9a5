#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/options.h"
#include "exported/graph.h"
#include "exported/module_calls.h"
#include "exported/package.h"
#include "exported/signature.h"
#include "exported/weights.h"

namespace lta::exported {

// An input of the graph that the program brings along: a weight, by its place among all of them.
struct BoundInput {
  int slot = kNoSlot;
  size_t weight = 0;
};

// An output of the graph: what users get, the new value of a weight or of an input, or a token that kept operators in
// their order.
struct Output {
  enum class Kind : uint8_t { User, Weight, Input, Token };
  Kind kind = Kind::User;
  size_t place = 0;  // of the weight, or of the users' input
};

// What a weight is to the model that was exported.
enum class WeightRole : uint8_t { Parameter, Buffer, Constant };

// A program of torch.export as it lies in a file.
struct Program {
  Graph graph;
  std::vector<Weight> weights;
  std::vector<WeightRole> roles;  // of the weights
  std::vector<BoundInput> bound;
  std::vector<int> inputs;  // slots of the users' inputs; none for constants
  std::vector<int> tokens;  // slots of those that keep operators in their order: tensors without an element
  std::vector<Output> outputs;
  Signature signature;
  std::vector<engine::ModuleInfo> modules;
  std::unordered_map<std::string, ModuleHooks> hooks;  // by module
  int64_t schemaMinor = 0;                             // of the format's version
};

// The module that has a weight of this name.
std::string ownerOf(const std::string& weight);

// The slots that hold weights.
std::vector<int> slotsOfWeights(const Program& program);

// What a program may be, and do.
struct ProgramOptions {
  bool untrusted = false;
};

// Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE, ERR_UNKNOWN_OPERATOR, ERR_UNTRUSTED.
Program readProgram(const Package& package, const ProgramOptions& options);

}  // namespace lta::exported
