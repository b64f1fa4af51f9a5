#include "script/self_containing.h"

#include "runtime/error.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// The value behind operators that only give it another type, which the optimizer takes away.
const jit::Value* same(const jit::Value* value) {
  while (value->node()->kind() == c10::prim::unchecked_cast ||
         value->node()->kind() == c10::prim::unchecked_unwrap_optional) {
    value = value->node()->input(0);
  }
  return value;
}

void look(const jit::Block& block) {
  for (const auto* node : block.nodes()) {
    const bool fills = node->kind() == c10::aten::append || node->kind() == c10::aten::insert;
    if (fills && node->inputs().size() > 1) {
      const auto* list = same(node->inputs().front());
      if (list == same(node->inputs().back())) {
        throw Error("ERR_MODEL_RUN",
                    "Expected a program that puts no list into itself, which libtorch can't optimize, but received one "
                    "that does");
      }
    }
    for (const auto* inner : node->blocks()) look(*inner);
  }
}

}  // namespace

void refuseListsInThemselves(const jit::Graph& graph) { look(*graph.block()); }

}  // namespace lta::script
