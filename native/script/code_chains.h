// Bounds the recursion of libtorch's compiler over an archive's code, without compiling it.
#pragma once

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace lta::script {

// References between definitions. libtorch compiles a definition recursively when another one names it: a chain of too
// many overflows the stack.
class CodeChains {
 public:
  // Adds a file whose definitions are named `qualifier`.name. Must have passed checkDepth.
  void add(const std::string& qualifier, const std::shared_ptr<torch::jit::Source>& source);

  // Throws ERR_MODEL_LOAD if a chain is too long or types are nested too much.
  void check(bool untrusted) const;

 private:
  struct Definition {
    uint32_t functions = 1;
    uint64_t tokens = 0;
    std::vector<std::string> members;  // of `names`, those in its own type
    std::vector<std::string> names;    // dotted names in it, possibly with a definition's name as prefix
  };

  std::vector<std::vector<uint32_t>> edges() const;
  uint32_t definitionOf(std::string name) const;

  std::vector<Definition> definitions_;
  std::unordered_map<std::string, uint32_t> byName_;
};

// Throws ERR_MODEL_LOAD if a function becomes too large by inlining: functions that call each other several times grow
// exponentially.
void checkInlinedSize(const torch::jit::CompilationUnit& units, bool untrusted);

}  // namespace lta::script
