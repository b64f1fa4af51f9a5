// What nodes of a program make of its weights alone. Knows graphs, not models or runs.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "exported/graph.h"
#include "exported/interpreter.h"
#include "exported/program.h"

namespace lta::exported {

// A program cut in two: the nodes whose values are the same in every run, and those that depend on its inputs.
// What nodes write in place counts: a value is folded only where all that write to its memory are folded too, and no
// other node reads it before. Operators that draw random numbers, and those of other namespaces than PyTorch's own,
// are never folded, nor are values that the program returns, which belong to its users. Results have the same bits.
class FoldedProgram {
 public:
  // Of a program's graph, or of one that has its inputs, outputs and slots. `program` is only read here.
  FoldedProgram(const Program& program, const Graph& graph);

  // Whether there is anything to fold.
  bool isEmpty() const { return constants_.nodes.empty(); }
  // Their names.
  std::vector<std::string> foldedNodes() const;

  // The values that the rest reads, by slot: computed by the first run, which may fail or be cancelled. Null while
  // another run computes them.
  struct Values;
  std::shared_ptr<const Values> values(const Frame& weights);

  // Runs what isn't folded, on a frame with weights and inputs.
  std::vector<c10::IValue> run(const Values& values, Frame frame) const;

 private:
  Graph constants_;  // its outputs are the values that the rest reads
  Graph rest_;
  std::vector<int> slots_;  // of those outputs
  std::mutex mutex_;
  std::shared_ptr<const Values> values_;
};

}  // namespace lta::exported
