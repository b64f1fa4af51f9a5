#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "fused/operators.h"
#include "script/layer_fusion.h"

namespace {

using lta::Activation;
using lta::fused::LinearCall;
using lta::fused::OptionalTensor;

constexpr std::array<Activation, 5> kActivations{Activation::None, Activation::Gelu, Activation::GeluTanh,
                                                 Activation::Silu, Activation::Relu};

class ThreadCount {
 public:
  explicit ThreadCount(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~ThreadCount() { at::set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  const int before_;
};

// A layer of random weights.
LinearCall layerOf(const at::Tensor& input, int64_t columns, Activation activation = Activation::None) {
  const auto depth = input.size(-1);
  const auto weight = at::randn({columns, depth}) / std::sqrt(static_cast<double>(depth));
  return {input, lta::fused::PackedWeights().of(weight, at::randn({columns})), activation, std::nullopt, {}};
}

// Whether the layer gives what libtorch's operators give.
bool isRight(const LinearCall& call, double tolerance = 1e-5) {
  const auto output = lta::fused::linear(call), expected = lta::fused::unfusedLinear(call);
  return output.sizes() == expected.sizes() && output.dtype() == expected.dtype() &&
         output.strides() == expected.strides() && at::allclose(output, expected, tolerance, tolerance);
}

// Whether it does, or fails as they do.
bool isRightOrFails(const LinearCall& call) {
  try {
    lta::fused::unfusedLinear(call);
  } catch (const c10::Error&) {
    try {
      lta::fused::linear(call);
    } catch (const c10::Error&) {
      return true;
    }
    return false;
  }
  return isRight(call, 5e-5);
}

// Whether the fused operators are of use on this processor; elsewhere weights are refused.
bool pays() { return lta::fused::canPack(at::ones({2, 2}), std::nullopt); }

// A graph whose values %w0, %b0, … are constants.
std::shared_ptr<torch::jit::Graph> graphOf(const std::string& text, const std::vector<at::Tensor>& constants) {
  auto graph = std::make_shared<torch::jit::Graph>();
  torch::jit::parseIR(text, graph.get());
  const auto given = graph->inputs().size() - constants.size();
  {
    const torch::jit::WithInsertPoint start(*graph->nodes().begin());
    for (size_t i = 0; i < constants.size(); ++i) {
      graph->inputs()[given + i]->replaceAllUsesWith(graph->insertConstant(constants[i]));
    }
  }
  while (graph->inputs().size() > given) graph->eraseInput(graph->inputs().size() - 1);
  return graph;
}

// The operators of a graph, in order.
std::string operatorsOf(const std::shared_ptr<torch::jit::Graph>& graph) {
  std::string names;
  for (const auto* node : graph->nodes()) {
    if (!node->kind().is_prim()) names += std::string(node->kind().toQualString()) + " ";
  }
  return names;
}

at::Tensor run(const std::shared_ptr<torch::jit::Graph>& graph, const std::vector<at::Tensor>& inputs) {
  torch::jit::GraphFunction function("layers", graph->copy(), nullptr);
  torch::jit::Stack stack(inputs.begin(), inputs.end());
  function.run(stack);
  return stack.back().toTensor();
}

}  // namespace

TEST("a fused layer gives what libtorch's operators give, whatever its sizes") {
  if (!pays()) return;
  at::manual_seed(1);
  for (const int threads : {1, 2, 5}) {
    const ThreadCount count(threads);
    for (const int64_t rows : {0, 1, 2, 7, 50, 131, 400}) {
      for (const auto& [columns, depth] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {33, 40}, {96, 2500}}) {
        for (const auto activation : kActivations) {
          auto call = layerOf(at::randn({rows, depth}), columns, activation);
          EXPECT(isRight(call));
          call.residual = at::randn({rows, columns});
          EXPECT(isRight(call));
          if (columns == 1) continue;  // a norm of one element divides rounding by rounding
          call.norm = {at::randn({columns}), at::randn({columns}), 1e-5};
          EXPECT(isRight(call, 5e-5));
          call.weight.bias = std::nullopt;
          call.norm.weight = call.norm.bias = std::nullopt;
          EXPECT(isRight(call, 5e-5));
        }
      }
    }
  }
}

TEST("a fused layer takes every shape and layout of inputs and residuals") {
  if (!pays()) return;
  at::manual_seed(1);
  for (const auto& input :
       {at::randn({16}), at::randn({2, 3, 16}), at::randn({2, 1, 3, 16}), at::randn({2, 0, 16}), at::randn({16, 7}).t(),
        at::randn({2, 16, 5}).transpose(1, 2), at::randn({4, 32}).slice(1, 16), at::randn({1, 16}).expand({9, 16})}) {
    auto call = layerOf(input, 20, Activation::Gelu);
    EXPECT(isRight(call));
    call.norm.epsilon = 1e-5;
    for (const auto& residual :
         {at::randn({20}), at::randn({1}), at::randn({3, 2, 1, 1, 20}), at::randn({}), at::randn({20}, at::kDouble),
          at::randn({20}).to(at::kBFloat16), at::arange(20), at::randn({20, 1}).t().select(0, 0)}) {
      call.residual = residual;
      EXPECT(isRightOrFails(call));
    }
    call.residual = at::randn(lta::fused::linear({input, call.weight, Activation::None, std::nullopt, {}}).sizes());
    EXPECT(isRight(call, 5e-5));
    call.residual = call.residual->to(at::kDouble);
    EXPECT(isRightOrFails(call));
  }
}

TEST("the bits of a fused layer depend neither on threads nor on the other rows") {
  if (!pays()) return;
  at::manual_seed(1);
  const auto input = at::randn({301, 384});
  auto call = layerOf(input, 100, Activation::Gelu);
  call.residual = at::randn({301, 100});
  call.norm = {at::randn({100}), at::randn({100}), 1e-5};
  const auto output = lta::fused::linear(call);
  for (const int threads : {1, 2, 3, 7}) {
    const ThreadCount count(threads);
    EXPECT(at::equal(lta::fused::linear(call), output));
    for (const int64_t rows : {1, 5, 64, 200}) {
      auto part = call;
      part.input = input.slice(0, 100, 100 + rows);
      part.residual = call.residual->slice(0, 100, 100 + rows);
      EXPECT(at::equal(lta::fused::linear(part), output.slice(0, 100, 100 + rows)));
    }
  }
}

TEST("two layers at once give the bits of one after the other") {
  if (!pays()) return;
  at::manual_seed(1);
  for (const int threads : {1, 2, 5}) {
    const ThreadCount count(threads);
    for (const int64_t rows : {1, 30, 500}) {
      for (const int64_t hidden : {7, 600, 9000}) {
        const auto first = layerOf(at::randn({rows, 40}), hidden, Activation::Gelu);
        auto second = layerOf(lta::fused::linear(first), 24);
        second.residual = at::randn({rows, 24});
        second.norm = {at::randn({24}), std::nullopt, 1e-6};
        EXPECT(at::equal(lta::fused::feedForward(first, second), lta::fused::linear(second)));
      }
    }
  }
}

TEST("a fused GELU is as accurate as libtorch's") {
  if (!pays()) return;
  const auto x = at::linspace(-14, 14, 400001).unsqueeze(1);
  const auto one = lta::fused::PackedWeights().of(at::ones({1, 1}), std::nullopt);
  // Written so that nothing is cancelled where they are small.
  const auto wide = x.to(at::kDouble);
  const auto inner = std::sqrt(2 / M_PI) * (wide + 0.044715 * wide.pow(3));
  for (const auto& [activation, exact] : {std::pair{Activation::Gelu, wide * 0.5 * at::erfc(-wide * std::sqrt(0.5))},
                                          std::pair{Activation::GeluTanh, wide * at::sigmoid(2 * inner)}}) {
    const auto error = (lta::fused::linear({x, one, activation, std::nullopt, {}}).to(at::kDouble) - exact).abs();
    EXPECT((error / exact.abs().clamp_min(1.0)).max().item<double>() < 3e-7);
    const auto normal = exact.abs() > 1e-30;
    EXPECT((error / exact.abs()).masked_select(normal).max().item<double>() < 2e-5);
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto special = at::tensor({std::nanf(""), -1e30f, 1e30f, -0.0f}).unsqueeze(1);
  const auto infinite = at::tensor({kInfinity, -kInfinity}).unsqueeze(1);
  for (const auto activation : kActivations) {
    const LinearCall call{special, one, activation, std::nullopt, {}};
    EXPECT(at::allclose(lta::fused::linear(call), lta::fused::unfusedLinear(call), 0, 0, /*equal_nan=*/true));
    // Not beside libtorch's, whose GELU of infinity is NaN on some processors.
    const auto results = lta::fused::linear({infinite, one, activation, std::nullopt, {}});
    EXPECT(results[0].item<float>() == kInfinity);
    const auto least = results[1].item<float>();
    if (activation == Activation::None) {
      EXPECT(least == -kInfinity);
    } else if (activation == Activation::Relu) {
      EXPECT(least == 0);
    } else {
      EXPECT(std::isnan(least));  // infinity times 0, as libtorch's
    }
  }
}

TEST("fused layers compute what they stand for where a call isn't for them") {
  if (!pays()) return;
  at::manual_seed(1);
  // A weight that was written to since it was packed.
  auto call = layerOf(at::randn({4, 8}), 6, Activation::Relu);
  call.weight.weight.mul_(2);
  EXPECT(isRight(call, 0));
  // What records gradients.
  call = layerOf(at::randn({4, 8}).requires_grad_(), 6, Activation::Gelu);
  EXPECT(isRight(call, 0));
  lta::fused::linear(call).sum().backward();
  const auto gradient = call.input.grad().clone();
  call.input.mutable_grad().zero_();
  lta::fused::unfusedLinear(call).sum().backward();
  EXPECT(at::equal(call.input.grad(), gradient));
  {
    const c10::NoGradGuard noGrad;
    EXPECT(isRight(call));
  }
  // Other types are refused, as libtorch does, or computed.
  call = layerOf(at::randn({4, 8}), 6);
  for (const auto type : {at::kDouble, at::kBFloat16, at::kLong}) {
    auto other = call;
    other.input = call.input.to(type);
    bool failed = false;
    try {
      lta::fused::linear(other);
    } catch (const c10::Error&) {
      failed = true;
    }
    EXPECT(failed);
  }
  auto wrong = call;
  wrong.input = at::randn({4, 9});
  bool failed = false;
  try {
    lta::fused::linear(wrong);
  } catch (const c10::Error&) {
    failed = true;
  }
  EXPECT(failed);
  // Autocast.
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto cast = lta::fused::linear(call), expected = lta::fused::unfusedLinear(call);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT(cast.scalar_type() == expected.scalar_type() && at::equal(cast, expected));
  EXPECT(!lta::fused::canPack(at::ones({2, 2}, at::kDouble), std::nullopt));
  EXPECT(!lta::fused::canPack(at::ones({2, 2}, at::kBFloat16), std::nullopt));
  EXPECT(!lta::fused::canPack(at::ones({2}), std::nullopt));
  EXPECT(!lta::fused::canPack(at::ones({2, 2}), at::ones({1})));
}

TEST("layers of a graph become single operators, with what follows them") {
  if (!pays()) return;
  at::manual_seed(1);
  const std::vector<at::Tensor> weights{at::randn({24, 8}), at::randn({24}), at::randn({8, 24}),
                                        at::randn({8}),     at::randn({8}),  at::randn({8})};
  const auto graph = graphOf(R"IR(
graph(%x : Tensor, %w0 : Tensor, %b0 : Tensor, %w1 : Tensor, %b1 : Tensor, %g : Tensor, %h : Tensor):
  %no : bool = prim::Constant[value=0]()
  %p : float = prim::Constant[value=0.1]()
  %one : int = prim::Constant[value=1]()
  %size : int = prim::Constant[value=8]()
  %epsilon : float = prim::Constant[value=1.0000000000000001e-05]()
  %how : str = prim::Constant[value="tanh"]()
  %sizes : int[] = prim::Constant[value=[8]]()
  %0 : Tensor = aten::linear(%x, %w0, %b0)
  %1 : Tensor = aten::gelu(%0, %how)
  %2 : Tensor = aten::dropout(%1, %p, %no)
  %3 : Tensor = aten::linear(%2, %w1, %b1)
  %4 : Tensor = aten::dropout(%3, %p, %no)
  %5 : Tensor = aten::add(%x, %4, %one)
  %6 : Tensor = aten::layer_norm(%5, %sizes, %g, %h, %epsilon, %no)
  %7 : Tensor = aten::linear(%6, %w0, %b0)
  %8 : Tensor = aten::relu(%7)
  %9 : Tensor = aten::add(%8, %7, %one)
  return (%9)
)IR",
                             weights);
  const auto x = at::randn({3, 5, 8});
  const auto expected = run(graph, {x});
  auto fused = graph->copy();
  lta::script::fuseLayers(fused);
  EXPECT(operatorsOf(fused) == "lta::feed_forward lta::linear aten::relu aten::add ");
  EXPECT(at::allclose(run(fused, {x}), expected, 1e-5, 1e-5));
}

TEST("what a graph writes to, keeps or draws at random stays as it is") {
  if (!pays()) return;
  const auto fused = [](const std::string& body) {
    auto graph = graphOf(
        "graph(%x : Tensor, %y : Tensor, %w : Tensor):\n"
        "  %none : NoneType = prim::Constant()\n"
        "  %yes : bool = prim::Constant[value=1]()\n"
        "  %half : float = prim::Constant[value=0.5]()\n"
        "  %one : int = prim::Constant[value=1]()\n"
        "  %two : int = prim::Constant[value=2]()\n"
        "  %0 : Tensor = aten::linear(%x, %w, %none)\n" +
            body,
        {at::eye(4)});
    lta::script::fuseLayers(graph);
    return operatorsOf(graph);
  };
  EXPECT(fused("  %1 : Tensor = aten::relu(%0)\n  return (%1)\n") == "lta::linear ");
  EXPECT(fused("  %1 : Tensor = aten::add(%0, %0, %one)\n  return (%1)\n") == "lta::linear aten::add ");
  EXPECT(fused("  %1 : Tensor = aten::add(%0, %y, %two)\n  return (%1)\n") == "lta::linear aten::add ");
  EXPECT(fused("  %1 : Tensor = aten::add(%0, %one, %one)\n  return (%1)\n") == "lta::linear aten::add ");
  EXPECT(fused("  %1 : Tensor = aten::dropout(%0, %half, %yes)\n  %2 : Tensor = aten::relu(%1)\n  return (%2)\n") ==
         "lta::linear aten::dropout aten::relu ");
  EXPECT(fused("  %1 : Tensor = aten::mul_(%x, %x)\n  %2 : Tensor = aten::relu(%0)\n  return (%2)\n") ==
         "lta::linear aten::mul_ aten::relu ");
  EXPECT(fused("  %1 : Tensor = aten::relu_(%0)\n  return (%1)\n") == "lta::linear aten::relu_ ");
  EXPECT(fused("  %1 : Tensor = aten::mul_(%y, %y)\n  %2 : Tensor = aten::add(%0, %y, %one)\n  return (%2)\n") ==
         "lta::linear aten::mul_ aten::add ");
}

TEST("attention of a graph becomes one pass, whose bits no number of threads changes, and stays differentiable") {
  const auto graph = graphOf(R"IR(
graph(%q : Tensor, %k : Tensor, %v : Tensor):
  %none : NoneType = prim::Constant()
  %no : bool = prim::Constant[value=0]()
  %zero : float = prim::Constant[value=0.]()
  %0 : Tensor = aten::scaled_dot_product_attention(%q, %k, %v, %none, %zero, %no, %none, %no)
  return (%0)
)IR",
                             {});
  at::manual_seed(1);
  auto fused = graph->copy();
  lta::script::fuseLayers(fused);
  EXPECT(operatorsOf(fused) == (pays() ? "lta::attention " : "aten::scaled_dot_product_attention "));
  std::vector<at::Tensor> inputs;
  for (int i = 0; i < 3; ++i) inputs.push_back(at::randn({2, 3, 130, 16}));
  at::Tensor output;
  {
    const c10::NoGradGuard noGrad;
    output = run(fused, inputs);
    EXPECT(at::allclose(output, run(graph, inputs), 0, 2e-6));
    for (const int threads : {1, 2, 3}) {
      const ThreadCount only(threads);
      EXPECT(run(fused, inputs).equal(output));
      // Of some rows and of some entries: a row's bits are its own.
      EXPECT(run(fused, {inputs[0].narrow(2, 7, 50), inputs[1], inputs[2]}).equal(output.narrow(2, 7, 50)));
      EXPECT(run(fused, {inputs[0][1].unsqueeze(0), inputs[1][1].unsqueeze(0), inputs[2][1].unsqueeze(0)})
                 .equal(output[1].unsqueeze(0)));
    }
  }
  for (auto& input : inputs) input = input.detach().requires_grad_();
  const auto gradients = torch::autograd::grad({run(fused, inputs).sum()}, inputs);
  const auto expected = torch::autograd::grad({run(graph, inputs).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT(gradients[i].equal(expected[i]));
}

TEST("GELU written out becomes one operator, as an activation too; what only looks like it stays") {
  if (!pays()) return;
  at::manual_seed(1);
  const std::vector<at::Tensor> constants{at::randn({24, 8}), at::randn({24}), at::scalar_tensor(0.5, at::kDouble),
                                          at::scalar_tensor(1.0, at::kDouble)};
  const auto written = [&](const std::string& cubic, const std::string& more = "", const char* result = "%8") {
    return graphOf(
        "graph(%x : Tensor, %w : Tensor, %b : Tensor, %half : Tensor, %oneT : Tensor):\n"
        "  %one : int = prim::Constant[value=1]()\n"
        "  %three : float = prim::Constant[value=3.]()\n"
        "  %c : float = prim::Constant[value=" +
            cubic +
            "]()\n"
            "  %s : float = prim::Constant[value=0.79788456080286541]()\n"
            "  %0 : Tensor = aten::linear(%x, %w, %b)\n"
            "  %1 : Tensor = aten::mul(%0, %half)\n"
            "  %2 : Tensor = aten::pow(%0, %three)\n"
            "  %3 : Tensor = aten::mul(%2, %c)\n"
            "  %4 : Tensor = aten::add(%0, %3, %one)\n"
            "  %5 : Tensor = aten::mul(%4, %s)\n"
            "  %6 : Tensor = aten::tanh(%5)\n"
            "  %7 : Tensor = aten::add(%6, %oneT, %one)\n"
            "  %8 : Tensor = aten::mul(%1, %7)\n" +
            more + "  return (" + result + ")\n",
        constants);
  };
  const auto x = at::randn({3, 5, 8}) * 3;
  const auto isFused = [&](const std::shared_ptr<torch::jit::Graph>& graph) {
    auto fused = graph->copy();
    lta::script::fuseLayers(fused);
    EXPECT(at::allclose(run(fused, {x}), run(graph, {x}), 1e-5, 1e-5));
    return operatorsOf(fused) == "lta::linear ";
  };
  EXPECT(isFused(written("0.044714999999999998")));
  EXPECT(!isFused(written("0.044")));                                                              // another number
  EXPECT(!isFused(written("0.044714999999999998", "  %9 : Tensor = aten::mul(%8, %6)\n", "%9")));  // read elsewhere
  EXPECT(!isFused(written("0.044714999999999998",
                          "  %9 : Tensor = aten::mul_(%0, %0)\n  %10 : Tensor = aten::mul(%8, %9)\n", "%10")));
}
