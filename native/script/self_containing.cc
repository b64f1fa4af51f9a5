#include "script/self_containing.h"

#include "runtime/error.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// The value before casts, which the optimizer removes.
const jit::Value* withoutCasts(const jit::Value* value) {
  while (value->node()->kind() == c10::prim::unchecked_cast ||
         value->node()->kind() == c10::prim::unchecked_unwrap_optional) {
    value = value->node()->input(0);
  }
  return value;
}

void checkBlock(const jit::Block& block) {
  for (const auto* node : block.nodes()) {
    const bool fills = node->kind() == c10::aten::append || node->kind() == c10::aten::insert;
    if (fills && node->inputs().size() > 1) {
      const auto* list = withoutCasts(node->inputs().front());
      if (list == withoutCasts(node->inputs().back())) {
        throw Error("ERR_MODEL_RUN",
                    "Expected a program that adds no list to itself, which libtorch can't optimize, but received one "
                    "that does");
      }
    }
    for (const auto* inner : node->blocks()) checkBlock(*inner);
  }
}

}  // namespace

void refuseSelfContainingLists(const jit::Graph& graph) { checkBlock(*graph.block()); }

}  // namespace lta::script
