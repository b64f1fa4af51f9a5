#include "script/fused_parts.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <memory>
#include <utility>

#include "check.h"

TEST("a fusion group whose kernel fails runs its unfused form, and later groups accept its output") {
  // int64 isn't supported: the kernel doesn't even compile.
  namespace jit = torch::jit;
  auto graph = std::make_shared<jit::Graph>();
  auto* given = graph->addInput();
  auto* added = graph->addInput();
  for (int part = 0; part < 2; ++part) {
    auto form = std::make_shared<jit::Graph>();
    jit::parseIR(R"IR(
graph(%x : Tensor, %y : Tensor):
  %one : int = prim::Constant[value=1]()
  %s : Tensor = aten::add(%x, %y, %one)
  %p : Tensor = aten::mul(%s, %s)
  return (%p)
)IR",
                 form.get());
    auto* node = graph->insertNode(graph->create(jit::prim::oneDNNFusionGroup, {given, added}, 1));
    node->g_(jit::attr::Subgraph, form);
    node->is_(jit::attr::output_layouts, {part == 0});
    given = node->output();
  }
  graph->registerOutput(given);
  lta::script::keepUnfusedForms(*graph->block());
  torch::jit::GraphFunction function("parts", graph, nullptr);
  const auto x = at::arange(6), y = at::ones({6}, at::kLong);
  const auto first = (x + y) * (x + y);
  for (int run = 0; run < 3; ++run) {
    torch::jit::Stack stack{x, y};
    function.run(stack);
    EXPECT(at::equal(stack.back().toTensor(), (first + y) * (first + y)));
  }
}
