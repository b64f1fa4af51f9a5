// What looks like attention and isn't recorded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lta {

struct Unseen {
  std::string name;  // dotted name of the module
  std::string operatorName;
  std::vector<int64_t> shape;
  std::string reason;
};

}  // namespace lta
