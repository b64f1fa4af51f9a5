#include "script/fused_parts.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "check.h"
#include "script/fusion.h"
#include "script/load.h"

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

TEST("a fusion computes every argument of what it fuses") {
  if (!lta::script::hasFusion()) return;
  const char* const bodies[] = {
      "torch.gelu(y * 3, approximate=\"tanh\")",
      "torch.gelu(y)",
      "torch.div(y, z.abs() + 0.5, rounding_mode=\"floor\")",
      "torch.div(y * 5, z.abs() + 0.5, rounding_mode=\"trunc\")",
      "torch.round(y, decimals=2)",
      "torch.round(y)",
      "torch.elu(y, 0.7, 1.5, 2.0)",
      "torch.elu(y, 0.7)",
      "torch.add(y, z, alpha=3)",
      "torch.softmax(y, -1, 7)",
      "torch.clamp(y, min=-0.2)",
      "torch.linear(y, self.w, given)",
  };
  at::manual_seed(1);
  const auto x = at::randn({3, 5, 16});
  for (const auto* const body : bodies) {
    torch::jit::Module module("M");
    for (const char* name : {"w", "v"}) module.register_parameter(name, at::randn({16, 16}), false);
    for (const char* name : {"b", "c"}) module.register_parameter(name, at::randn({16}), false);
    module.define(std::string(R"(
def forward(self, x, given: Optional[Tensor]):
  y = torch.linear(x, self.w, self.b)
  z = torch.linear(x, self.v, self.c)
  return [torch.linear(x, self.v, given), )") +
                  body + "]\n");
    std::ostringstream file;
    module.save(file);
    lta::script::LoadOptions options;
    options.optimize = options.fuse = true;
    const auto fused = lta::script::loadBytes(file.str(), options);
    const c10::NoGradGuard noGrad;
    for (const bool given : {true, false}) {
      const auto bias = given ? c10::IValue(at::randn({16})) : c10::IValue();
      const auto expected = module.forward({x, bias}).toTensorVector();
      for (int run = 0; run < 4; ++run) {
        const auto result = fused->run({std::vector<c10::IValue>{x, bias}}, {}).toTensorVector();
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT(at::allclose(result[i], expected[i], 1e-5, 1e-5, /*equal_nan=*/true));
        }
      }
    }
  }
}
