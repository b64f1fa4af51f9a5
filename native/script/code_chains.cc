#include "script/code_chains.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

constexpr uint64_t kSaturated = UINT64_MAX / 4;
constexpr uint32_t kNone = UINT32_MAX;

uint64_t saturatedSum(uint64_t a, uint64_t b) { return std::min(kSaturated, a + b); }
uint64_t saturatedProduct(uint64_t a, uint64_t b) {
  uint64_t result;
  return __builtin_mul_overflow(a, b, &result) ? kSaturated : std::min(kSaturated, result);
}

// Counts the types nested in those of a function's local values, by the tokens of its statements: `y = (x, x)` doubles
// those of x. What a call returns has a declared type, which is counted there.
class LocalTypes {
 public:
  void add(const jit::Token& token) {
    switch (token.kind) {
      case jit::TK_NEWLINE:
      case jit::TK_INDENT:
      case jit::TK_DEDENT:
        finish();
        return;
      case jit::TK_DEF:
        types_.clear();
        break;
      case '=':
        if (open_.empty() && !assigned_) {
          targets_.swap(names_);
          names_.clear();
          assigned_ = true;
          literal_ = false;
        }
        break;
      case '(':
      case '[':
      case '{': {
        // After an operand, a bracket calls or subscripts it, which yields another type.
        const bool literal = !operand_;
        open_.push_back(literal);
        calls_ += literal ? 0 : 1;
        literal_ = literal_ || (literal && calls_ == 0);
        break;
      }
      case ')':
      case ']':
      case '}':
        if (open_.empty()) break;
        calls_ -= open_.back() ? 0 : 1;
        open_.pop_back();
        break;
      case jit::TK_IDENT:
        if (calls_ == 0) names_.push_back(token.text());
        break;
      default:
        break;
    }
    operand_ =
        token.kind == jit::TK_IDENT || token.kind == ')' || token.kind == ']' || token.kind == jit::TK_STRINGLITERAL;
  }

 private:
  void finish() {
    if (assigned_) {
      uint64_t all = 1;
      uint64_t most = 1;
      for (const auto& name : names_) {
        const auto found = types_.find(name);
        const auto types = found == types_.end() ? 1 : found->second;
        all = saturatedSum(all, types);
        most = std::max(most, types);
      }
      const auto types = literal_ ? all : most;
      if (types > archive::kMaxLocalTypes) {
        throw archive::LimitExceeded("its code has a value whose type has more than " +
                                     std::to_string(archive::kMaxLocalTypes) + " nested types");
      }
      for (const auto& target : targets_) types_[target] = types;
    }
    targets_.clear();
    names_.clear();
    open_.clear();
    calls_ = 0;
    assigned_ = literal_ = operand_ = false;
  }

  std::unordered_map<std::string, uint64_t> types_;
  std::vector<std::string> targets_;
  std::vector<std::string> names_;
  std::vector<bool> open_;  // open brackets: whether each constructs a value of its contents
  size_t calls_ = 0;        // open brackets that don't
  bool assigned_ = false;
  bool literal_ = false;
  bool operand_ = false;
};

}  // namespace

void CodeChains::add(const std::string& qualifier, const std::shared_ptr<jit::Source>& source) {
  jit::Lexer lexer(source);
  int blocks = 0;
  bool inFunction = false;
  Definition* definition = nullptr;
  LocalTypes locals;
  const auto next = [&] {
    auto token = lexer.next();
    locals.add(token);
    if (definition) ++definition->tokens;
    return token;
  };
  while (lexer.cur().kind != jit::TK_EOF) {
    const auto token = next();
    switch (token.kind) {
      case jit::TK_INDENT:
        ++blocks;
        break;
      case jit::TK_DEDENT:
        if (--blocks <= 1) inFunction = false;
        break;
      case jit::TK_CLASS_DEF:
      case jit::TK_DEF:
        inFunction = token.kind == jit::TK_DEF;
        if (blocks > 0) {
          if (definition && token.kind == jit::TK_DEF) ++definition->functions;
        } else if (lexer.cur().kind == jit::TK_IDENT) {
          byName_.emplace(qualifier + "." + lexer.cur().text(), static_cast<uint32_t>(definitions_.size()));
          definition = &definitions_.emplace_back();
        }
        break;
      case jit::TK_IDENT: {
        if (!definition || token.text_view() != "__torch__") break;
        auto name = token.text();
        while (lexer.cur().kind == '.') {
          next();
          if (lexer.cur().kind == jit::TK_EOF) break;
          name += "." + next().text();
        }
        if (!inFunction) definition->members.push_back(name);
        definition->names.push_back(std::move(name));
        break;
      }
      default:
        break;
    }
  }
}

// The definition whose name is a prefix of a dotted name.
uint32_t CodeChains::definitionOf(std::string name) const {
  while (!name.empty()) {
    if (const auto found = byName_.find(name); found != byName_.end()) return found->second;
    const auto dot = name.rfind('.');
    name.resize(dot == std::string::npos ? 0 : dot);
  }
  return kNone;
}

std::vector<std::vector<uint32_t>> CodeChains::edges() const {
  std::vector<std::vector<uint32_t>> all(definitions_.size());
  for (size_t i = 0; i < definitions_.size(); ++i) {
    for (const auto& name : definitions_[i].names) {
      // The definition may be the whole name, or the prefix of a method or a constant.
      for (auto end = name.size();; end = name.rfind('.', end - 1)) {
        if (end == std::string::npos || end == 0) break;
        const auto found = byName_.find(name.substr(0, end));
        if (found != byName_.end()) all[i].push_back(found->second);
      }
    }
    std::sort(all[i].begin(), all[i].end());
    all[i].erase(std::unique(all[i].begin(), all[i].end()), all[i].end());
  }
  return all;
}

// Finds the longest chain. Strongly connected definitions count as one link with all their functions (Tarjan's
// algorithm, which completes components in reverse topological order).
void CodeChains::check(bool untrusted) const {
  const auto to = edges();
  const size_t count = definitions_.size();
  constexpr uint32_t kUnseen = UINT32_MAX;
  std::vector<uint32_t> order(count, kUnseen), low(count, 0);
  std::vector<uint64_t> length(count, 0);  // of the longest chain from a definition's component
  std::vector<bool> open(count, false);
  std::vector<uint32_t> stack;
  struct Visit {
    uint32_t definition;
    size_t next;
  };
  std::vector<Visit> visits;
  std::vector<uint64_t> types(count, 1);   // nested in the type of a definition
  std::vector<uint64_t> depths(count, 1);  // and their depth
  uint64_t visited = 0;
  uint32_t counter = 0;
  for (uint32_t root = 0; root < count; ++root) {
    if (order[root] != kUnseen) continue;
    visits.push_back({root, 0});
    while (!visits.empty()) {
      auto& visit = visits.back();
      const auto at = visit.definition;
      if (visit.next == 0) {
        order[at] = low[at] = counter++;
        stack.push_back(at);
        open[at] = true;
      }
      if (visit.next < to[at].size()) {
        const auto inner = to[at][visit.next++];
        if (order[inner] == kUnseen) {
          visits.push_back({inner, 0});
        } else if (open[inner]) {
          low[at] = std::min(low[at], order[inner]);
        }
        continue;
      }
      visits.pop_back();
      if (!visits.empty()) low[visits.back().definition] = std::min(low[visits.back().definition], low[at]);
      if (low[at] != order[at]) continue;
      uint64_t own = 0, behind = 0;
      const auto first = std::find(stack.begin(), stack.end(), at);
      for (auto member = first; member != stack.end(); ++member) {
        own += definitions_[*member].functions;
        for (const auto inner : to[*member]) behind = std::max(behind, length[inner]);
      }
      for (auto member = first; member != stack.end(); ++member) {
        for (const auto& name : definitions_[*member].members) {
          const auto inner = definitionOf(name);
          if (inner == kNone) continue;
          types[*member] = saturatedSum(types[*member], types[inner]);
          depths[*member] = std::max(depths[*member], saturatedSum(depths[inner], 1));
        }
        visited = saturatedSum(
            visited, saturatedProduct(saturatedProduct(types[*member], depths[*member]), definitions_[*member].tokens));
        length[*member] = own + behind;
        open[*member] = false;
      }
      stack.erase(first, stack.end());
      if (own + behind > archive::kMaxDefinitionChain) {
        throw archive::LimitExceeded("its classes and functions refer to each other in a chain of more than " +
                                     std::to_string(archive::kMaxDefinitionChain));
      }
    }
  }
  if (visited > (untrusted ? archive::kMaxUntrustedTypeVisits : archive::kMaxTypeVisits)) {
    throw archive::LimitExceeded("its classes nest too many others");
  }
}

namespace {

// Size of functions after inlining. Recursion is impossible: libtorch refuses it.
struct Size {
  uint64_t nodes = 0;
  uint32_t depth = 1;
};

class InlinedSize {
 public:
  Size of(const jit::Function& function) {
    const auto [found, fresh] = sizes_.emplace(&function, Size{});
    if (!fresh) return found->second;
    Size size;
    if (function.isGraphFunction()) size = of(*jit::toGraphFunction(function).graph()->block());
    sizes_[&function] = size;
    return size;
  }

 private:
  static void addTo(Size& size, const Size& inner, uint32_t deeper) {
    size.nodes = saturatedSum(size.nodes, inner.nodes);
    size.depth = std::max(size.depth, inner.depth + deeper);
  }

  Size of(const jit::Block& block) {
    Size size;
    for (const auto* node : block.nodes()) {
      size.nodes += 1;
      for (const auto* inner : node->blocks()) addTo(size, of(*inner), 1);
      if (node->kind() == jit::prim::CallMethod) {
        const auto type = node->input(0)->type()->cast<c10::ClassType>();
        const auto* method = type ? type->findMethod(node->s(jit::attr::name)) : nullptr;
        if (method) addTo(size, of(*method), 0);
      } else if (node->kind() == jit::prim::CallFunction) {
        if (const auto type = node->input(0)->type()->cast<c10::FunctionType>()) addTo(size, of(*type->function()), 0);
      }
    }
    return size;
  }

  std::unordered_map<const jit::Function*, Size> sizes_;
};

}  // namespace

void checkInlinedSize(const jit::CompilationUnit& units, bool untrusted) {
  const auto limit = untrusted ? archive::kMaxUntrustedInlinedNodes : archive::kMaxInlinedNodes;
  InlinedSize sizes;
  for (const auto* function : units.get_functions()) {
    const auto size = sizes.of(*function);
    if (size.depth > archive::kMaxInlinedDepth) {
      throw archive::LimitExceeded("its function '" + function->qualname().name() +
                                   "' has blocks that are nested more than " +
                                   std::to_string(archive::kMaxInlinedDepth) + " deep after inlining");
    }
    if (size.nodes > limit) {
      throw archive::LimitExceeded("its function '" + function->qualname().name() + "' has more than " +
                                   std::to_string(limit) + " operations after inlining");
    }
  }
}

}  // namespace lta::script
