#include "script/code_depth.h"

#include <torch/csrc/jit/frontend/lexer.h>

#include <algorithm>
#include <vector>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// The lexer recurses for each line that it skips.
constexpr int kMaxEmptyLines = 500;

void checkEmptyLines(const std::string& text) {
  int empty = 0;
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto first =
        std::find_if(text.begin() + static_cast<std::ptrdiff_t>(at), text.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char c) { return c != ' ' && c != '\t' && c != '\r' && c != '\f' && c != '\v'; });
    const bool nothing = first == text.begin() + static_cast<std::ptrdiff_t>(end) || *first == '#' || *first == '\\';
    empty = nothing ? empty + 1 : 0;
    if (empty > kMaxEmptyLines) {
      throw archive::LimitExceeded("its code has more than " + std::to_string(kMaxEmptyLines) +
                                   " consecutive empty lines");
    }
    at = end + 1;
  }
}

// The depth of the tree that the parser makes of the tokens so far. An upper bound: every token that may nest its
// neighbours one level deeper counts as one.
class Depth {
 public:
  void add(const jit::Token& token) {
    switch (token.kind) {
      case '(':
      case '[':
      case '{':
        brackets_.push_back({depth_, 0});
        deepen();
        brackets_.back().base = depth_;
        return;
      case ')':
      case ']':
      case '}':
        if (brackets_.empty()) return;  // the parser reports it
        // A bracketed expression is one operand of what follows.
        depth_ = std::max(brackets_.back().deepest, depth_);
        brackets_.pop_back();
        if (!brackets_.empty()) brackets_.back().deepest = std::max(brackets_.back().deepest, depth_);
        deepen();
        return;
      case ',':
        if (!brackets_.empty()) {
          brackets_.back().deepest = std::max(brackets_.back().deepest, depth_);
          depth_ = brackets_.back().base;
        } else {
          depth_ = 0;
        }
        return;
      case jit::TK_INDENT:
        blocks_.push_back(0);
        startStatement();
        return;
      case jit::TK_DEDENT:
        if (blocks_.size() > 1) blocks_.pop_back();
        startStatement();
        return;
      case jit::TK_NEWLINE:
        startStatement();
        return;
      case jit::TK_ELIF:
        // Each nests a block in the `else` of the previous one.
        first_ = false;
        ++blocks_.back();
        checkBlocks();
        deepen();
        return;
      case jit::TK_ELSE:
        first_ = false;
        deepen();
        return;
      case jit::TK_IDENT:
      case jit::TK_NUMBER:
      case jit::TK_STRINGLITERAL:
      case jit::TK_TRUE:
      case jit::TK_FALSE:
      case jit::TK_NONE:
      case jit::TK_NONE_TYPE:
      case ':':
        begin();
        return;
      default:
        begin();
        deepen();
    }
  }

 private:
  struct Bracket {
    uint32_t base;
    uint32_t deepest;
  };

  // A statement that begins with another token than `elif` or `else` ends their chain.
  void begin() {
    if (first_ && brackets_.empty()) blocks_.back() = 0;
    first_ = false;
  }

  void startStatement() {
    if (brackets_.empty()) depth_ = 0;
    first_ = true;
    checkBlocks();
  }

  void deepen() {
    if (++depth_ > archive::kMaxExpressionDepth) {
      throw archive::LimitExceeded("its code has an expression that is nested more than " +
                                   std::to_string(archive::kMaxExpressionDepth) + " deep");
    }
  }

  void checkBlocks() const {
    size_t depth = blocks_.size();
    for (const auto chain : blocks_) depth += chain;
    if (depth > archive::kMaxBlockDepth) {
      throw archive::LimitExceeded("its code has blocks that are nested more than " +
                                   std::to_string(archive::kMaxBlockDepth) + " deep");
    }
  }

  uint32_t depth_ = 0;
  std::vector<Bracket> brackets_;
  std::vector<size_t> blocks_{0};  // for each open block, the length of its current chain of `elif`
  bool first_ = true;
};

}  // namespace

void checkDepth(const std::shared_ptr<jit::Source>& source) {
  checkEmptyLines(source->text_str().str());
  jit::Lexer lexer(source);
  Depth depth;
  while (lexer.cur().kind != jit::TK_EOF) depth.add(lexer.next());
}

}  // namespace lta::script
