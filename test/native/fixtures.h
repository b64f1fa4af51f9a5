#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

// The files of test/fixtures; the build defines where that is.
namespace fixtures {

// Throws for what isn't there, so that a test says which file it lacks.
inline std::string path(const std::string& name) {
  auto path = std::string(LTA_FIXTURES) + "/" + name;
  if (!std::filesystem::exists(path)) throw std::runtime_error("the fixture " + path + " is missing");
  return path;
}

inline std::string bytes(const std::string& name) {
  std::ifstream file(path(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace fixtures
