#include "check.h"
#include "registration.h"

int main(int count, char** arguments) {
  lta::registerOperators();
  return check::run({arguments + 1, arguments + count});
}
