// The allowlist for programs from untrusted sources.
#pragma once

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/frontend/source_range.h>
#include <torch/csrc/jit/frontend/tree.h>

#include <memory>
#include <string>
#include <unordered_set>

namespace lta::script {

// Allows operators that compute, by name (allowed_operators.inc). Nothing may access files, print, fork, or use a
// custom class or namespace. Checked twice: in the source before libtorch interprets it, and in the compiled graphs
// before the first run. All throw ERR_UNTRUSTED.
class UntrustedCode {
 public:
  // The code must have passed checkDepth.
  void addSource(const std::shared_ptr<torch::jit::Source>& source);
  void check() const;

 private:
  void visit(const torch::jit::TreeRef& tree, bool called);

  std::unordered_set<std::string> methods_;  // of the archive's classes
  std::unordered_set<std::string> called_;   // methods called on values of unknown type
};

// A type's name or its source text.
void checkTypeName(const std::string& type);

// `__setstate__` runs during loading: it may only move values.
void checkSetState(torch::jit::Function& function);

// Checks every node of compiled graphs and removes warnings, which print.
void checkCompiled(const torch::jit::CompilationUnit& units);

}  // namespace lta::script
