#include "runtime/operator_libraries.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <mutex>

#include "runtime/error.h"

namespace lta {
namespace {

std::mutex& mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

std::vector<std::string>& opened() {
  static auto* const paths = new std::vector<std::string>;
  return *paths;
}

// What is wrong with it; empty where it was opened.
std::string open(const std::string& path) {
#ifdef _WIN32
  if (LoadLibraryA(path.c_str()) != nullptr) return {};
  return "error " + std::to_string(GetLastError());
#else
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) return {};
  const char* const reason = dlerror();
  return reason ? reason : "an unknown error";
#endif
}

}  // namespace

void loadOperatorLibrary(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex());
  const auto reason = open(path);
  if (!reason.empty()) {
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected a shared library of operators but '" + path + "' can't be loaded: " + reason);
  }
  opened().push_back(path);
}

std::vector<std::string> operatorLibraries() {
  const std::lock_guard<std::mutex> lock(mutex());
  return opened();
}

}  // namespace lta
