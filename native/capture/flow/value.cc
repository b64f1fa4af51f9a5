#include "capture/flow/value.h"

#include <algorithm>

namespace lta {

const char* nameOf(Kind kind) {
  switch (kind) {
    case Kind::Softmax:
      return "softmax";
    case Kind::Unnormalized:
      return "unnormalized";
    case Kind::Signed:
      return "signed";
    case Kind::Sigmoid:
      return "sigmoid";
    case Kind::Relu:
      return "relu";
  }
  return "";
}

namespace flow {

std::vector<std::string> Value::path() const {
  std::vector<std::string> names;
  for (const auto* step = last.get(); step; step = step->before.get()) names.push_back(step->operatorName);
  std::reverse(names.begin(), names.end());
  return names;
}

}  // namespace flow
}  // namespace lta
