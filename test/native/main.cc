#include "check.h"
#include "script/operators.h"

int main() {
  lta::registerOperators();
  return check::run();
}
