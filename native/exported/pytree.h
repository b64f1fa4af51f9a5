#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exported/expression.h"
#include "exported/json.h"

namespace lta::exported {

// How the flat inputs or outputs of a program form tuples, lists, dictionaries and objects: torch.export's TreeSpec.
struct Pytree {
  enum class Kind : uint8_t {
    Leaf,
    Sequence,    // a tuple, list or deque
    NamedTuple,  // one with names of its elements
    Mapping,     // a dictionary of any class
    Object,      // of a class that is registered as a pytree node: with names where its flattening tells them
  };

  Kind kind = Kind::Leaf;
  std::string type;                 // Python's name of the class; empty for a leaf
  std::vector<std::string> names;   // of the children, where they have some
  std::vector<std::string> absent;  // fields of an object that were None, and aren't among the children
  std::vector<Pytree> children;
  size_t leafCount = 1;

  // Where a part of a value stands among the leaves of the whole: the first leaf of the subtree that `path` leads to;
  // none where it leads to none, or to one that is no leaf.
  std::optional<size_t> leafAt(const std::vector<PathStep>& path, size_t from = 0) const;
  const Pytree* child(const PathStep& step, size_t& before) const;
};

// Reads a TreeSpec. `namedTuples`: the fields of named tuples by type, where the file has them. Throws ERR_MODEL_LOAD.
Pytree readPytree(std::string_view text, const std::optional<Json>& namedTuples);

}  // namespace lta::exported
