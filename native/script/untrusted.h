#pragma once

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/frontend/source_range.h>
#include <torch/csrc/jit/frontend/tree.h>

#include <memory>
#include <string>
#include <unordered_set>

namespace lta::script {

// What a program from an untrusted source may be made of: operators that compute, by name (allowed_operators.inc).
// Nothing reads or writes files, prints, forks, or is of a custom class or namespace. Looked at twice: in the code,
// before anything that libtorch does with it, and in what libtorch compiled of it, before the first run. All throw
// ERR_UNTRUSTED.
class UntrustedCode {
 public:
  // The code was checked by checkDepth.
  void addSource(const std::shared_ptr<torch::jit::Source>& source);
  void check() const;

 private:
  void visit(const torch::jit::TreeRef& tree, bool called);

  std::unordered_set<std::string> methods_;  // that the archive's classes have
  std::unordered_set<std::string> called_;   // on values of whatever type
};

// The name of a type, or a type written as code.
void checkTypeName(const std::string& type);

// A function that sets the state of an object runs while the archive is read: it may do no more than move values.
void checkSetState(torch::jit::Function& function);

// Every operation of what was compiled. Warnings are taken out, since they print.
void checkCompiled(const torch::jit::CompilationUnit& units);

}  // namespace lta::script
