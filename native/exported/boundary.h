#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <string>
#include <vector>

#include "hooks/hook.h"

namespace lta::exported {

// What a node does that was put into a graph for hooks.
struct Boundary {
  enum class Side : uint8_t {
    Enter,  // takes a call's inputs; gives them as hooks leave them, and a state
    Leave,  // takes those inputs, the outputs and the state; gives the outputs
    Value,  // takes what a node gives, and gives it
  };

  Side side = Side::Value;
  std::string place;                // of the hooks
  ModuleCall call;                  // what they are told; of a value, its node
  size_t inputs = 0;                // of the call
  bool isList = false;              // of a value: the node gives several
  bool isLast = false;              // nothing reads the outputs: they may have any shape
  std::vector<bool> isReplaceable;  // of what it gives
  std::vector<size_t> sameAs;       // of inputs: the first that is the same value
};

// Fires the hooks of the calling thread's run (see hook_run.h). Throws ERR_HOOK_FAILED for a value that can't take the
// place of another in a graph: of another type or shape, or where the graph doesn't tell who reads it.
void runBoundary(const Boundary& boundary, std::vector<c10::IValue>& stack);

}  // namespace lta::exported
