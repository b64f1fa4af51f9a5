// Who makes and who reads the values of a program's graph, and which of them are weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "exported/program.h"

namespace lta::exported {

// Nodes are told by their places; what rewrites the graph keeps it true. Where nothing is stored, kNoSlot, is of
// nobody.
class GraphIndex {
 public:
  // Who reads an output of the graph.
  static constexpr size_t kOutput = SIZE_MAX;

  // `graph` is the program's, or what has become of it.
  GraphIndex(const Program& program, const Graph& graph);

  std::optional<size_t> producer(int slot) const;
  const std::vector<size_t>& readers(int slot) const;
  // Undefined for what is no weight.
  at::Tensor weight(int slot) const;

  // A node that was put there, or is about to be removed.
  void add(const Node& node, size_t place);
  void remove(const Node& node, size_t place);
  // A slot that the graph didn't have.
  void addSlot(int slot, size_t producer, size_t reader);

 private:
  struct Value {
    at::Tensor weight;
    std::optional<size_t> producer;
    std::vector<size_t> readers;
  };
  const Value& at(int slot) const;
  Value& at(int slot) { return values_[static_cast<size_t>(slot)]; }

  std::vector<Value> values_;  // by slot
};

}  // namespace lta::exported
