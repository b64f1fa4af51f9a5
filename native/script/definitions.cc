#include "script/definitions.h"

#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/parser.h>

namespace lta::script {

namespace jit = torch::jit;

void eachDefinition(const std::shared_ptr<jit::Source>& source, const std::function<void(const jit::TreeRef&)>& visit) {
  jit::Parser parser(source);
  auto& lexer = parser.lexer();
  while (lexer.cur().kind != jit::TK_EOF) {
    switch (lexer.cur().kind) {
      case jit::TK_CLASS_DEF:
        visit(parser.parseClass());
        break;
      case jit::TK_DEF:
        visit(parser.parseFunction(/*is_method=*/false));
        break;
      default:
        lexer.next();  // version statements of old files, imports
    }
  }
}

}  // namespace lta::script
