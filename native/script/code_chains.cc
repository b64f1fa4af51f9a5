#include "script/code_chains.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "archive/limits.h"
#include "archive/too_much.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

constexpr uint64_t kMost = UINT64_MAX / 4;

}  // namespace

void CodeChains::add(const std::string& qualifier, const std::shared_ptr<jit::Source>& source) {
  jit::Lexer lexer(source);
  int blocks = 0;
  Definition* definition = nullptr;
  const auto next = [&] { return lexer.next(); };
  while (lexer.cur().kind != jit::TK_EOF) {
    const auto token = next();
    switch (token.kind) {
      case jit::TK_INDENT:
        ++blocks;
        break;
      case jit::TK_DEDENT:
        --blocks;
        break;
      case jit::TK_CLASS_DEF:
      case jit::TK_DEF:
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
        definition->names.push_back(std::move(name));
        break;
      }
      default:
        break;
    }
  }
}

std::vector<std::vector<uint32_t>> CodeChains::edges() const {
  std::vector<std::vector<uint32_t>> all(definitions_.size());
  for (size_t i = 0; i < definitions_.size(); ++i) {
    for (const auto& name : definitions_[i].names) {
      // The definition may be all of the name, or what a method or a constant is taken from.
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

// The longest chain, where definitions that lead to each other in a circle count as one link with all their functions
// (Tarjan's components come in the order in which nothing leads to a later one).
void CodeChains::check() const {
  const auto to = edges();
  const size_t count = definitions_.size();
  constexpr uint32_t kUnseen = UINT32_MAX;
  std::vector<uint32_t> order(count, kUnseen), low(count, 0);
  std::vector<uint64_t> length(count, 0);  // of the chain that begins with a definition's component
  std::vector<bool> open(count, false);
  std::vector<uint32_t> stack;
  struct Visit {
    uint32_t definition;
    size_t next;
  };
  std::vector<Visit> visits;
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
        length[*member] = own + behind;
        open[*member] = false;
      }
      stack.erase(first, stack.end());
      if (own + behind > archive::kMaxDefinitionChain) {
        throw archive::TooMuch("its classes and functions lead to each other over more than " +
                               std::to_string(archive::kMaxDefinitionChain) + " of them");
      }
    }
  }
}

namespace {

// Counts the nodes of functions with what they call in place. Functions don't call themselves: libtorch refuses that.
class InlinedSize {
 public:
  uint64_t of(const jit::Function& function) {
    const auto [found, fresh] = sizes_.emplace(&function, 0);
    if (!fresh) return found->second;
    uint64_t size = 0;
    if (function.isGraphFunction()) size = of(*jit::toGraphFunction(function).graph()->block());
    sizes_[&function] = size;
    return size;
  }

 private:
  uint64_t of(const jit::Block& block) {
    uint64_t size = 0;
    for (const auto* node : block.nodes()) {
      size += 1;
      for (const auto* inner : node->blocks()) size += of(*inner);
      if (node->kind() == jit::prim::CallMethod) {
        const auto type = node->input(0)->type()->cast<c10::ClassType>();
        const auto* method = type ? type->findMethod(node->s(jit::attr::name)) : nullptr;
        if (method) size += of(*method);
      } else if (node->kind() == jit::prim::CallFunction) {
        if (const auto type = node->input(0)->type()->cast<c10::FunctionType>()) size += of(*type->function());
      }
      size = std::min(size, kMost);
    }
    return size;
  }

  std::unordered_map<const jit::Function*, uint64_t> sizes_;
};

}  // namespace

void checkInlinedSize(const jit::CompilationUnit& units, bool untrusted) {
  const auto limit = untrusted ? archive::kMaxUntrustedInlinedNodes : archive::kMaxInlinedNodes;
  InlinedSize sizes;
  for (const auto* function : units.get_functions()) {
    if (sizes.of(*function) > limit) {
      throw archive::TooMuch("its function '" + function->qualname().name() + "' has more than " +
                             std::to_string(limit) + " operations once all that it calls are in place");
    }
  }
}

}  // namespace lta::script
