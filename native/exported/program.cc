#include "exported/program.h"

#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "archive/limits.h"
#include "exported/argument_reader.h"
#include "exported/graph_reader.h"
#include "exported/grouped_product.h"
#include "exported/json.h"
#include "exported/region_names.h"
#include "runtime/allowed_operators.h"

namespace lta::exported {
namespace {

constexpr int64_t kMajorVersion = 8;

// The minor version.
int64_t checkVersion(const Json& program) {
  const auto version = program.at("schema_version");
  const auto major = version.at("major").integer();
  if (major == kMajorVersion) return version.at("minor").integer();
  throw Error("ERR_UNSUPPORTED_FILE",
              "expected a program of schema version " + std::to_string(kMajorVersion) + " but it is of " +
                  std::to_string(major) + ": it was written by " +
                  (major < kMajorVersion ? "an older PyTorch; load it with torch.export.load there, export the model "
                                           "again with 2.6 or later, and save it with torch.export.save"
                                         : "a later PyTorch"));
}

void mayNotBeUntrusted(const c10::OperatorHandle& handle) {
  const auto& name = handle.operator_name();
  if (isAllowedInGraphs(name) || name.name == kGroupedProduct) return;
  throw Error("ERR_UNTRUSTED",
              "the program uses '" + toString(name) + "', which programs from untrusted sources may not");
}

// Classes that models write keys and values to, whoever holds them: transformers' caches.
constexpr std::string_view kCaches = "Cache";

// Says of each leaf whether it is in an object that modules write to.
void findCached(const Pytree& tree, bool isCached, std::vector<bool>& cached) {
  if (tree.kind == Pytree::Kind::Leaf) return cached.push_back(isCached);
  isCached = isCached || (tree.kind == Pytree::Kind::Object && tree.type.ends_with(kCaches));
  for (const auto& child : tree.children) findCached(child, isCached, cached);
}

// Of each output of a program's graph: whether it is what a module wrote to something, rather than gave.
std::vector<bool> statesAmong(const Program& program) {
  std::vector<bool> cached, states;
  findCached(program.signature.outputTree(), false, cached);
  for (const auto& output : program.outputs) {
    states.push_back(output.kind != Output::Kind::User || cached.at(output.place));
  }
  return states;
}

class ProgramReader {
 public:
  ProgramReader(const Package& package, const ProgramOptions& options) : package_(package), options_(options) {}

  Program read() {
    const auto limit = options_.untrusted ? archive::kMaxUntrustedProgramBytes : archive::kMaxProgramBytes;
    const auto text = package_.text(package_.programRecord(), limit);
    const JsonDocument document(text, "program");
    const auto json = document.root();
    const auto minor = checkVersion(json);
    readWeightsByName();
    const auto module = json.at("graph_module");
    const auto graphJson = module.at("graph");
    const auto tensors = valuesIn(graphJson, "tensor_values");
    const auto integers = valuesIn(graphJson, "sym_int_values");
    GraphReader reader(
        stacks_, options_.untrusted ? GraphReader::MayUse(mayNotBeUntrusted) : [](const c10::OperatorHandle&) {});
    graph_ = reader.read(graphJson);
    const auto signature = module.at("signature");
    auto inputs = readInputs(signature.at("input_specs"), tensors, integers);
    auto outputs = readOutputs(signature.at("output_specs"), tensors, integers);
    std::vector<std::string> names;
    for (const auto& weight : weights_) names.push_back(weight.name);
    nameRegions(graph_.graph, ownersOfSlots(), names, stacks_);
    auto modules = readModules(module.at("module_call_graph"));
    Program program{std::move(graph_.graph),
                    std::move(weights_),
                    std::move(roles_),
                    std::move(bound_),
                    std::move(inputSlots_),
                    std::move(tokens_),
                    std::move(outputs_),
                    Signature(json, std::move(inputs), std::move(outputs)),
                    std::move(modules),
                    {},
                    minor};
    const auto signatures = readCallSignatures(module);
    findModuleCalls(program.graph, signatures, slotsOfWeights(program), statesAmong(program));
    program.hooks = hooksOfModules(program.graph, signatures);
    findLastUses(program.graph, slotsOfWeights(program));
    return program;
  }

 private:
  void readWeightsByName() {
    weights_ = readWeights(package_, options_.untrusted);
    // What the graph doesn't take is the second name of a tied weight, or is never used.
    for (const auto& weight : weights_) {
      roles_.push_back(!weight.isState                 ? WeightRole::Constant
                       : weight.tensor.requires_grad() ? WeightRole::Parameter
                                                       : WeightRole::Buffer);
    }
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (!places_.emplace(weights_[i].name, i).second) throw broken("it has two weights " + shown(weights_[i].name));
    }
  }

  size_t weightOf(const Json& name) const {
    const auto found = places_.find(name.string());
    if (found == places_.end()) throw broken("it lacks the weight " + shown(name.text()));
    return found->second;
  }

  std::vector<Leaf> readInputs(const Json& specifications, const ValueTable& tensors, const ValueTable& integers) {
    std::vector<Leaf> leaves;
    const auto all = specifications.elements();
    if (all.size() != graph_.graph.inputs.size()) {
      throw broken("its graph has another number of inputs than its signature");
    }
    const auto bind = [&](size_t input, const Json& name, WeightRole role) {
      const auto weight = weightOf(name);
      if (graph_.graph.inputs[input] == kNoSlot) throw broken("a weight is no input of its graph");
      bound_.push_back({graph_.graph.inputs[input], weight});
      roles_[weight] = role;
    };
    for (size_t i = 0; i < all.size(); ++i) {
      const auto [kind, value] = all[i].only();
      if (kind == "parameter") {
        bind(i, value.at("parameter_name"), WeightRole::Parameter);
      } else if (kind == "buffer") {
        const bool persistent = value.at("persistent").boolean();
        bind(i, value.at("buffer_name"), persistent ? WeightRole::Buffer : WeightRole::Constant);
      } else if (kind == "tensor_constant") {
        bind(i, value.at("tensor_constant_name"), WeightRole::Constant);
      } else if (kind == "user_input" || kind == "constant_input") {
        auto leaf = kind == "user_input" ? readLeaf(value.at("arg"), tensors, integers) : readConstantLeaf(value);
        if (leaf.kind != Leaf::Kind::Constant && graph_.graph.inputNames[i] != leaf.name) {
          throw broken("an input of its graph has another name than in its signature");
        }
        if (leaf.name.empty()) leaf.name = "input " + std::to_string(leaves.size());
        inputPlaces_.emplace(leaf.name, leaves.size());
        inputSlots_.push_back(graph_.graph.inputs[i]);
        leaves.push_back(std::move(leaf));
      } else if (kind == "token") {
        if (graph_.graph.inputs[i] == kNoSlot || graph_.graph.inputNames[i] != value.at("arg").at("name").text()) {
          throw broken("a token is no input of its graph");
        }
        tokens_.push_back(graph_.graph.inputs[i]);
      } else {
        throw Error("ERR_UNSUPPORTED_FILE",
                    "it has an input of the kind " + shown(kind) + ": objects of custom classes aren't served");
      }
    }
    return leaves;
  }

  std::vector<Leaf> readOutputs(const Json& specifications, const ValueTable& tensors, const ValueTable& integers) {
    std::vector<Leaf> leaves;
    const auto all = specifications.elements();
    if (all.size() != graph_.graph.outputs.size()) {
      throw broken("its graph has another number of outputs than its signature");
    }
    for (const auto& each : all) {
      const auto [kind, value] = each.only();
      if (kind == "user_output") {
        outputs_.push_back({Output::Kind::User, leaves.size()});
        leaves.push_back(readLeaf(value.at("arg"), tensors, integers));
      } else if (kind == "loss_output") {
        outputs_.push_back({Output::Kind::User, leaves.size()});
        Leaf loss;
        loss.name = value.at("arg").at("name").string();
        leaves.push_back(std::move(loss));
      } else if (kind == "buffer_mutation") {
        outputs_.push_back({Output::Kind::Weight, weightOf(value.at("buffer_name"))});
      } else if (kind == "parameter_mutation") {
        outputs_.push_back({Output::Kind::Weight, weightOf(value.at("parameter_name"))});
      } else if (kind == "user_input_mutation") {
        const auto found = inputPlaces_.find(value.at("user_input_name").string());
        if (found == inputPlaces_.end()) throw broken("it changes an input that it doesn't have");
        outputs_.push_back({Output::Kind::Input, found->second});
      } else if (kind == "token") {
        outputs_.push_back({Output::Kind::Token, 0});
      } else {
        throw Error("ERR_UNSUPPORTED_FILE",
                    "it has an output of the kind " + shown(kind) + ": gradients in the graph aren't served");
      }
    }
    return leaves;
  }

  std::vector<std::string> ownersOfSlots() const {
    std::vector<std::string> owners(static_cast<size_t>(graph_.graph.slotCount));
    for (const auto& [slot, weight] : bound_) owners[static_cast<size_t>(slot)] = ownerOf(weights_[weight].name);
    return owners;
  }

  // In the order that the exporter met them; a second call of one has an entry of its own, with its number.
  std::vector<engine::ModuleInfo> readModules(const Json& calls) {
    std::vector<engine::ModuleInfo> modules;
    std::unordered_set<std::string> seen;
    const auto& types = stacks_.types();
    const auto add = [&](const std::string& name) {
      if (!seen.insert(name).second) return;
      const auto type = types.find(name);
      modules.push_back({name, type == types.end() ? std::string() : type->second});
    };
    add("");
    for (const auto& call : calls.elements()) {
      const auto name = call.at("fqn").string();
      if (name.find('@') == std::string::npos) add(name);
    }
    for (const auto& node : graph_.graph.nodes) {
      if (!node.modules) continue;
      for (const auto& frame : *node.modules) add(frame.name);
    }
    return modules;
  }

  // What the exporter noted of calls of modules (preserve_module_call_signature).
  CallSignatures readCallSignatures(const Json& module) const {
    CallSignatures signatures;
    const auto namedTuples = module.find("treespec_namedtuple_fields");
    for (const auto& call : module.at("module_call_graph").elements()) {
      const auto written = call.find("signature");
      auto name = call.at("fqn").string();
      if (!written || name.empty()) continue;
      auto inputs = readLeaves(written->at("inputs"));
      auto outputs = readLeaves(written->at("outputs"));
      auto inputTree = readPytree(written->at("in_spec").text(), namedTuples);
      auto outputTree = readPytree(written->at("out_spec").text(), namedTuples);
      if (!inputs || !outputs || inputTree.children.size() != 2 || inputTree.leafCount != inputs->size() ||
          outputTree.leafCount != outputs->size()) {
        continue;
      }
      inputs->resize(inputTree.children[0].leafCount);
      signatures.emplace(std::move(name), CallSignature{std::move(inputTree), std::move(outputTree), std::move(*inputs),
                                                        std::move(*outputs)});
    }
    return signatures;
  }

  // None where one is a value of a graph inside.
  std::optional<std::vector<Argument>> readLeaves(const Json& leaves) const {
    const auto noGraph = [](const Json&) -> size_t { throw broken("a module takes a graph"); };
    std::vector<Argument> read;
    for (const auto& leaf : leaves.elements()) {
      const auto name = nameOfValue(leaf);
      if (!name.empty() && !graph_.names.has(name)) return std::nullopt;
      auto argument = readArgument(leaf, graph_.names, noGraph);
      if (argument.kind != Argument::Kind::Constant && argument.kind != Argument::Kind::Slot) return std::nullopt;
      read.push_back(std::move(argument));
    }
    return read;
  }

  const Package& package_;
  const ProgramOptions options_;
  ModuleStacks stacks_;
  NamedGraph graph_;
  std::vector<Weight> weights_;
  std::vector<WeightRole> roles_;
  std::unordered_map<std::string, size_t> places_;       // of weights
  std::unordered_map<std::string, size_t> inputPlaces_;  // of the users' inputs
  std::vector<BoundInput> bound_;
  std::vector<int> inputSlots_;
  std::vector<int> tokens_;
  std::vector<Output> outputs_;
};

}  // namespace

std::string ownerOf(const std::string& weight) {
  const auto dot = weight.rfind('.');
  return dot == std::string::npos ? std::string() : weight.substr(0, dot);
}

std::vector<int> slotsOfWeights(const Program& program) {
  std::vector<int> slots;
  for (const auto& each : program.bound) slots.push_back(each.slot);
  return slots;
}

Program readProgram(const Package& package, const ProgramOptions& options) {
  return ProgramReader(package, options).read();
}

}  // namespace lta::exported
