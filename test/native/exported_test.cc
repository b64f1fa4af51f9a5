#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "archive/mapping.h"
#include "check.h"
#include "exported/constant_folding.h"
#include "exported/expression.h"
#include "exported/grouped_product.h"
#include "exported/json.h"
#include "exported/layer_fusion.h"
#include "exported/module_calls.h"
#include "exported/numbers.h"
#include "exported/program.h"
#include "exported/pytree.h"
#include "fixtures.h"
#include "runtime/error.h"
#include "weights/cpu/layers.h"

namespace {

using c10::IValue;
using lta::exported::Expression;
using lta::exported::JsonDocument;
using lta::exported::NumberOperator;

const std::string kLoadError = "ERR_MODEL_LOAD";

// The value of an expression in which each symbol, or part of an input, is 6.
std::string valueOf(const std::string& text) {
  const auto expression = Expression::parse(text);
  if (!expression) return "unreadable";
  const auto value = expression->evaluate([](const lta::exported::Variable&) { return IValue(6); });
  if (!value) return "unknown";
  return value->isBool()  ? (value->toBool() ? "true" : "false")
         : value->isInt() ? std::to_string(value->toInt())
                          : std::to_string(value->toDouble());
}

std::string textOf(const std::string& text) { return Expression::parse(text)->text(); }

lta::exported::Program programOf(const char* name) {
  const auto path = fixtures::path(std::string("exported/") + name);
  return lta::exported::readProgram(lta::exported::Package(lta::archive::Mapping::ofFile(path), /*verify=*/false), {});
}

// A graph of operators on tensors, written down in modules: slot 0 is what users give, slot 1 a weight.
class GraphOfModules {
 public:
  GraphOfModules() {
    graph.inputs = {0, 1};
    graph.inputNames = {"x", "w"};
    graph.slotCount = 2;
  }

  // Adds a node; gives the slot of its result. `identity`: of the call of the module, its name for the first.
  int add(const char* name, const char* overload, const std::vector<int>& slots, const std::string& identity) {
    lta::exported::Node node;
    node.kind = lta::exported::Node::Kind::Operator;
    node.name = "node_" + std::to_string(graph.nodes.size());
    node.handle = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
    for (const int slot : slots) node.arguments.push_back(lta::exported::slotArgument(slot));
    const auto module = identity.substr(0, identity.find('@'));
    node.modules = std::make_shared<const lta::exported::ModuleStack>(
        lta::exported::ModuleStack{{"", "Model", ""}, {module, "Part", identity}});
    lta::exported::Result result;
    result.slot = graph.slotCount;
    node.results.push_back(result);
    graph.nodes.push_back(std::move(node));
    return graph.slotCount++;
  }

  // What hooks on each module are given: "name: inputs -> outputs", slots or a question mark.
  // `states`: slots that the graph gives as new values of what was there before.
  std::string hooks(const std::vector<int>& states = {}) {
    graph.isNumber.assign(static_cast<size_t>(graph.slotCount), false);
    graph.outputs = {lta::exported::slotArgument(graph.slotCount - 1)};
    std::vector<bool> isState{false};
    for (const int state : states) {
      graph.outputs.push_back(lta::exported::slotArgument(state));
      isState.push_back(true);
    }
    lta::exported::findModuleCalls(graph, {}, {1}, isState);
    std::string all;
    const auto known = lta::exported::hooksOfModules(graph, {});
    const auto slots = [](const std::optional<std::vector<lta::exported::Argument>>& values) {
      return values ? std::to_string(values->at(0).slot) : std::string("?");
    };
    for (const auto& call : graph.calls) {
      all += call.module + ": " + slots(call.inputs) + " -> " + slots(call.outputs);
      all += known.at(call.module).kind == lta::exported::ModuleHooks::Kind::None ? " (none); " : "; ";
    }
    return all;
  }

  lta::exported::Graph graph;
};

}  // namespace

TEST("what passes the boundary of a module is what the graph makes clear") {
  {
    GraphOfModules model;
    const int hidden = model.add("aten::matmul", "", {0, 1}, "a");
    model.add("aten::relu", "", {hidden}, "b");
    EXPECT(model.hooks() == "a: 0 -> 2; b: 2 -> 3; ");
  }
  {
    // Two tensors go in: only what comes out is clear.
    GraphOfModules model;
    const int hidden = model.add("aten::matmul", "", {0, 1}, "a");
    model.add("aten::mul", "Tensor", {hidden, 0}, "b");
    EXPECT(model.hooks() == "a: 0 -> 2; b: ? -> 3; ");
  }
  {
    // Two come out: only what goes in is.
    GraphOfModules model;
    const int first = model.add("aten::matmul", "", {0, 1}, "a");
    const int second = model.add("aten::relu", "", {first}, "a");
    model.add("aten::mul", "Tensor", {first, second}, "b");
    EXPECT(model.hooks() == "a: 0 -> ?; b: ? -> 4; ");
  }
  {
    // It writes to what others gave it, and gives it back.
    GraphOfModules model;
    const int hidden = model.add("aten::matmul", "", {0, 1}, "a");
    const int written = model.add("aten::relu_", "", {hidden}, "b");
    model.add("aten::mul", "Tensor", {written, written}, "c");
    EXPECT(model.hooks() == "a: 0 -> 2; b: 2 -> 3; c: 3 -> 4; ");
    EXPECT(!model.graph.calls[1].mayReplaceInputs && !model.graph.calls[1].mayReplaceOutputs.at(0));
    EXPECT(!lta::exported::hooksOfModules(model.graph, {}).at("b").separate);
  }
  {
    // It writes to a part of what others gave it: nothing tells whether that comes out.
    GraphOfModules model;
    const int hidden = model.add("aten::matmul", "", {0, 1}, "a");
    const int part = model.add("aten::t", "", {hidden}, "b");
    model.add("aten::relu_", "", {part}, "b");
    const int other = model.add("aten::relu", "", {hidden}, "b");
    model.add("aten::mul", "Tensor", {other, hidden}, "c");
    EXPECT(model.hooks().find("b: ? -> ? (none)") != std::string::npos);
  }
  {
    // What it writes to a cache or a buffer isn't what it gives.
    GraphOfModules model;
    const int written = model.add("aten::matmul", "", {0, 1}, "a");
    const int given = model.add("aten::relu", "", {written}, "a");
    model.add("aten::relu", "", {given}, "b");
    EXPECT(model.hooks({written}) == "a: 0 -> 3; b: 3 -> 4; ");
    EXPECT(model.graph.calls[0].mayReplaceOutputs.at(0));
  }
  {
    // Others go on with what it writes: replacing that would change both.
    GraphOfModules model;
    const int written = model.add("aten::matmul", "", {0, 1}, "a");
    model.add("aten::relu", "", {written}, "b");
    EXPECT(model.hooks({written}) == "a: 0 -> 2; b: 2 -> 3; ");
    EXPECT(!model.graph.calls[0].mayReplaceOutputs.at(0));
  }
  {
    // Others stand between its nodes.
    GraphOfModules model;
    const int first = model.add("aten::matmul", "", {0, 1}, "a");
    const int second = model.add("aten::relu", "", {first}, "b");
    model.add("aten::relu", "", {second}, "a");
    EXPECT(model.hooks().find("a: ? -> ? (none)") != std::string::npos);
  }
  {
    // Called twice, which only the identity tells.
    GraphOfModules model;
    const int first = model.add("aten::relu", "", {0}, "a");
    model.add("aten::relu", "", {first}, "a@1");
    EXPECT(model.hooks() == "a: 0 -> 2; a: 2 -> 3; ");
  }
}

TEST("layers of a program become single operators, where the processor makes it pay") {
  const auto targets = [](const char* name) {
    const auto program = programOf(name);
    std::map<std::string, int> counts;
    for (const auto& node : lta::exported::fuseLayers(program).nodes) ++counts[node.target];
    return counts;
  };
  if (!lta::layersPay()) return;
  auto bert = targets("bert_sdpa.pt2");
  EXPECT(bert["aten::linear"] == 0 && bert["lta::linear"] > 0 && bert["lta::feed_forward"] > 0);
  EXPECT(bert["aten::gelu"] == 0);
  EXPECT(bert["aten::scaled_dot_product_attention"] == 0 && bert["lta::attention"] > 0);
  auto decomposed = targets("encoder_decomposed.pt2");
  EXPECT(decomposed["aten::native_layer_norm"] == 0 && decomposed["lta::feed_forward"] > 0);
  // Of the siblings of a layer's product, those that are a layer's.
  auto factors = targets("product_factors.pt2");
  EXPECT(factors["lta::linear"] == 2 && factors["aten::addmm"] == 4);
  auto biases = targets("product_biases.pt2");
  EXPECT(biases["lta::linear"] == 1 && biases["aten::addmm"] == 6);
  auto untransposed = targets("product_untransposed.pt2");
  EXPECT(untransposed["lta::linear"] == 6 && untransposed["aten::addmm"] == 2);
  auto written = targets("product_written.pt2");
  EXPECT(written["lta::linear"] == 2 && written["aten::addmm"] == 2);
  auto read = targets("product_read_decomposed.pt2");
  EXPECT(read["aten::addmm"] == 0 && read["lta::feed_forward"] > 0 && read["lta::linear"] > 0);
  auto norms = targets("product_norms_decomposed.pt2");
  EXPECT(norms["aten::native_layer_norm"] == 2);
  auto half = targets("encoder_bfloat16.pt2");
  EXPECT(half["lta::linear"] == 0 && half["lta::feed_forward"] == 0);
}

TEST("JSON of every kind is read as it is written, and nothing else") {
  const JsonDocument document(R"({"a": [1, -2.5, "x\u00e9\ud83d\ude00\n", true, null, {}], "inf": "-Infinity"})",
                              "text");
  const auto elements = document.root().at("a").elements();
  EXPECT(elements.size() == 6);
  EXPECT(elements[0].integer() == 1 && elements[1].number() == -2.5 && elements[3].boolean());
  EXPECT(elements[2].text() == "x\xC3\xA9\xF0\x9F\x98\x80\n");
  EXPECT(elements[4].isNull() && elements[5].members().empty());
  EXPECT(std::isinf(document.root().at("inf").number()));
  EXPECT(!document.root().find("b"));
  EXPECT_ERROR(document.root().at("b"), kLoadError);
  EXPECT_ERROR(elements[0].text(), kLoadError);
  EXPECT_ERROR(elements[1].integer(), kLoadError);
  for (const char* wrong : {"", "{", "[1,]", "{\"a\" 1}", "01", "1.", "nul", "\"\\x\"", "\"\xFF\"", "[1] 2", "\"a",
                            "\"\\ud800\"", "nan", "{1: 2}", "1e999"}) {
    EXPECT_ERROR(JsonDocument(wrong, "text"), kLoadError);
  }
}

TEST("JSON a million levels deep is read") {
  constexpr size_t kDepth = 1'000'000;
  const JsonDocument deep(std::string(kDepth, '[') + std::string(kDepth, ']'), "text");
  EXPECT(deep.root().elements().size() == 1);
  EXPECT_ERROR(JsonDocument(std::string(kDepth, '['), "text"), kLoadError);
}

TEST("sizes and guards have the values that Python gives") {
  EXPECT(valueOf("Symbol('s0', positive=True, integer=True)") == "6");
  EXPECT(valueOf("Add(Mul(Integer(2), Symbol('s0')), Integer(-1))") == "11");
  EXPECT(valueOf("FloorDiv(Mul(Integer(-1), Symbol('s0')), Integer(4))") == "-2");
  EXPECT(valueOf("Max(Integer(1), Symbol('s0'), Integer(9))") == "9");
  EXPECT(valueOf("2*L['x'].size()[1] + 1 >= 13") == "true");
  EXPECT(valueOf("-L['x'][0].key_cache[1].size()[2] // 4 == -2") == "true");
  EXPECT(valueOf("-2**2") == "-4");
  EXPECT(valueOf("2**3**2") == "512");
  EXPECT(valueOf("7 - 2 - 1") == "4");
  EXPECT(valueOf("(7 % 4) * 2 != 6 or not L['x'].size()[0] < 6") == "true");
  EXPECT(valueOf("-7 % 4") == "1");
  EXPECT(valueOf("Float('1.5', precision=53)") == std::to_string(1.5));
  for (const char* wrong :
       {"", "1 +", "f(1)", "a", "1 < 2 < 3", "L", "L['x'", "Add()", "Mod(1)", "1 2", "Symbol(s0)"}) {
    EXPECT(valueOf(wrong) == "unreadable");
  }
  EXPECT(valueOf(std::string(100'000, '(') + "1") == "unreadable");
  EXPECT(valueOf(std::string(10'000, '-') + "1") == "unreadable");
}

TEST("expressions are shown as they are written by hand") {
  EXPECT(textOf("Add(Mul(Integer(2), Symbol('s0')), Symbol('s1'))") == "2*s0 + s1");
  EXPECT(textOf("Mul(Integer(2), Add(Symbol('s0'), Integer(1)))") == "2*(s0 + 1)");
  EXPECT(textOf("FloorDiv(Symbol('s0'), Integer(2))") == "s0//2");
  EXPECT(textOf("Max(Integer(1), Symbol('s0'))") == "Max(1, s0)");
  EXPECT(textOf("L['x'][0].size()[1] <= 4") == "x[0].shape[1] <= 4");
}

TEST("numbers beyond 64 bits, and those that there are none of, are errors") {
  const auto compute = [](NumberOperator what, IValue a, IValue b) {
    return lta::exported::compute(what, std::vector<IValue>{std::move(a), std::move(b)});
  };
  const std::string runError = "ERR_MODEL_RUN";
  EXPECT_ERROR(compute(NumberOperator::Add, INT64_MAX, 1), runError);
  EXPECT_ERROR(compute(NumberOperator::Multiply, INT64_MAX, 2), runError);
  EXPECT_ERROR(compute(NumberOperator::FloorDivide, INT64_MIN, -1), runError);
  EXPECT_ERROR(compute(NumberOperator::FloorDivide, 1, 0), runError);
  EXPECT_ERROR(compute(NumberOperator::Modulo, 1.0, 0.0), runError);
  EXPECT_ERROR(compute(NumberOperator::Power, 3, 1000), runError);
  EXPECT_ERROR(compute(NumberOperator::ShiftLeft, 1, 64), runError);
  EXPECT_ERROR(compute(NumberOperator::ShiftLeft, 1, -1), runError);
  EXPECT_ERROR(compute(NumberOperator::Add, "text", 1), runError);
  EXPECT(compute(NumberOperator::Power, 1, INT64_MAX).toInt() == 1);
  EXPECT(compute(NumberOperator::ShiftRight, -1, 100).toInt() == -1);
  EXPECT(compute(NumberOperator::Modulo, -5.5, 2.0).toDouble() == 0.5);
}

TEST("a pytree has the names that its classes were flattened with") {
  const auto tree = lta::exported::readPytree(
      R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [
           {"type": "collections.OrderedDict", "context": "[\"a\", 3]", "children_spec": [
             {"type": null, "context": null, "children_spec": []}, {"type": null, "context": null, "children_spec": []}]},
           {"type": "x.Cache", "context": "[[\"keys\"], [null]]", "children_spec": [
             {"type": "builtins.list", "context": "null", "children_spec": [{"type": null, "context": null, "children_spec": []}]}]}]}])",
      std::nullopt);
  EXPECT(tree.leafCount == 3 && tree.children[0].names[1] == "3" && tree.children[1].names[0] == "keys");
  EXPECT(tree.leafAt({int64_t{0}, int64_t{3}}) == std::optional<size_t>(1));
  EXPECT(tree.leafAt({int64_t{1}, std::string("keys"), int64_t{0}}) == std::optional<size_t>(2));
  EXPECT(!tree.leafAt({int64_t{1}}));
  std::string deep = "[1, ";
  for (int i = 0; i < 200; ++i) deep += R"({"type": "builtins.list", "context": "null", "children_spec": [)";
  for (int i = 0; i < 200; ++i) deep += "]}";
  EXPECT_ERROR(lta::exported::readPytree(deep + "]", std::nullopt), kLoadError);
  EXPECT_ERROR(lta::exported::readPytree("[2, {}]", std::nullopt), std::string("ERR_UNSUPPORTED_FILE"));
}

TEST("what weights alone decide is folded, and nothing that a run writes to") {
  const auto folded = [](const char* name) {
    std::string names;
    const auto program = programOf(name);
    for (const auto& node : lta::exported::FoldedProgram(program, program.graph).foldedNodes()) {
      names += node + " ";
    }
    return names;
  };
  EXPECT(folded("counter.pt2").empty());
  EXPECT(folded("encoder.pt2").empty());
  // Not what is written by a node that depends on an input (arange), what is read between two writes (clone), what is
  // made of a buffer that changes (mul_1), and what the program returns (zeros_1, mean).
  EXPECT(
      folded("constants.pt2") ==
      "zeros ones triu to masked_fill_ lift_fresh_copy select slice_1 fill_ t mul select_1 mul_2 stack chunk select_2 "
      "select_3 ");
}

TEST("rows are multiplied by the weights of their expert, and ends that aren't ends are an error") {
  const auto product = [](const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& ends) {
    const auto handle =
        c10::Dispatcher::singleton().findSchemaOrThrow(std::string(lta::exported::kGroupedProduct).c_str(), "");
    torch::jit::Stack stack{rows, weight, ends};
    handle.callBoxed(stack);
    return stack.at(0).toTensor();
  };
  const auto rows = at::randn({5, 3});
  const auto weight = at::randn({4, 3, 2});
  const auto ends = [](std::vector<int64_t> values) { return at::tensor(values); };
  const auto expected =
      at::cat({at::mm(rows.slice(0, 0, 2), weight[0]), at::mm(rows.slice(0, 2, 4), weight[2]), at::zeros({1, 2})});
  EXPECT(at::equal(product(rows, weight, ends({2, 2, 4, 4})), expected));
  EXPECT(at::equal(product(rows, weight, ends({2, 2, 4, 4}).to(at::kInt)), expected));
  EXPECT(product(rows.slice(0, 0, 0), weight, ends({0, 0, 0, 0})).sizes() == at::IntArrayRef({0, 2}));
  const std::string failed = "ERR_MODEL_RUN";
  EXPECT_ERROR(product(rows, weight, ends({2, 1, 4, 5})), failed);
  EXPECT_ERROR(product(rows, weight, ends({2, 2, 4, 6})), failed);
  EXPECT_ERROR(product(rows, weight, ends({-1, 2, 4, 5})), failed);
  EXPECT_ERROR(product(rows, weight, ends({2, 4, 5})), failed);
  EXPECT_ERROR(product(rows[0], weight, ends({2, 2, 4, 4})), failed);
}
