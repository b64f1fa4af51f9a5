#pragma once

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace lta::script {

// How classes and functions of an archive lead to each other. Libtorch compiles what a definition names while it
// compiles that one, and calls itself for each: a chain of too many runs out of stack.
class CodeChains {
 public:
  // A file of code whose definitions are named `qualifier`.name. It was checked by checkDepth.
  void add(const std::string& qualifier, const std::shared_ptr<torch::jit::Source>& source);

  // Throws ERR_MODEL_LOAD where a chain is too long, or types inside types are too many.
  void check(bool untrusted) const;

 private:
  struct Definition {
    uint32_t functions = 1;
    uint64_t tokens = 0;
    std::vector<std::string> members;  // the names among them that its own type has
    std::vector<std::string> names;    // dotted ones that it mentions, which may begin with another definition's
  };

  std::vector<std::vector<uint32_t>> edges() const;
  uint32_t definitionOf(std::string name) const;

  std::vector<Definition> definitions_;
  std::unordered_map<std::string, uint32_t> byName_;
};

// Throws ERR_MODEL_LOAD where functions that call each other several times become too large once all calls are in
// place, as they are before they run.
void checkInlinedSize(const torch::jit::CompilationUnit& units, bool untrusted);

}  // namespace lta::script
