#include "script/definitions.h"

#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/parser.h>

namespace lta::script {

namespace jit = torch::jit;

void eachDefinition(const std::shared_ptr<jit::Source>& source, const std::function<void(const jit::TreeRef&)>& take) {
  jit::Parser parser(source);
  auto& lexer = parser.lexer();
  while (lexer.cur().kind != jit::TK_EOF) {
    switch (lexer.cur().kind) {
      case jit::TK_CLASS_DEF:
        take(parser.parseClass());
        break;
      case jit::TK_DEF:
        take(parser.parseFunction(/*is_method=*/false));
        break;
      default:
        lexer.next();  // the version of old files, imports
    }
  }
}

}  // namespace lta::script
