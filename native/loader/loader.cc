// Opens shared libraries by absolute path, so that an addon linked without a run path finds them loaded. Neither
// includes nor links libtorch: Node can load this file on any machine.

#include <node_api.h>

#include <stdlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif
#ifdef __linux__
#include <link.h>
#endif

namespace {

#ifdef _WIN32
std::string lastErrorText() {
  const DWORD code = GetLastError();
  char text[512];
  const DWORD length = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, code, 0,
                                      text, sizeof(text), nullptr);
  return length > 0 ? std::string(text, length) : "error " + std::to_string(code);
}
#endif

#ifdef __linux__
// The path of a library of this file name that the process has loaded from elsewhere; empty for none.
std::string loadedFromElsewhere(const std::string& path) {
  struct Search {
    std::string name;
    std::string real;
    std::string found;
  };
  const auto realPath = [](const char* given) {
    char* resolved = realpath(given, nullptr);
    std::string result = resolved ? resolved : given;
    free(resolved);
    return result;
  };
  Search search{path.substr(path.rfind('/') + 1), realPath(path.c_str()), {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) -> int {
        auto* const search = static_cast<Search*>(data);
        const std::string loaded = info->dlpi_name ? info->dlpi_name : "";
        const auto slash = loaded.rfind('/');
        if (slash == std::string::npos || loaded.compare(slash + 1, std::string::npos, search->name) != 0) return 0;
        search->found = loaded;
        return 1;
      },
      &search);
  return search.found.empty() || realPath(search.found.c_str()) == search.real ? std::string() : search.found;
}
#endif

// Opens a library for the rest of the process, its symbols global. Returns an empty string, or the system's error.
std::string openLibrary(const std::string& path) {
#ifdef _WIN32
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring wide(static_cast<size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, &wide[0], length);
  // The altered search path looks for dependencies in the library's own directory first.
  if (LoadLibraryExW(wide.c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH) == nullptr) {
    return path + ": " + lastErrorText();
  }
#else
#ifdef __linux__
  // A second libtorch would register everything twice, which aborts the process.
  if (path.find("/libc10.so") != std::string::npos || path.find("/libtorch_cpu.so") != std::string::npos) {
    const std::string other = loadedFromElsewhere(path);
    if (!other.empty()) {
      return "another libtorch is loaded in this process already (" + other +
             "), and a process can hold only one. Have "
             "everything that uses libtorch resolve to the same one, or use one of the two in a child process";
    }
  }
#endif
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = dlerror();
    return reason != nullptr ? std::string(reason) : path + ": unknown error";
  }
#endif
  return {};
}

napi_value throwError(napi_env env, const std::string& message) {
  napi_throw_error(env, nullptr, message.c_str());
  return nullptr;
}

bool toText(napi_env env, napi_value value, std::string* text) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    return false;
  }
  text->resize(length);
  return napi_get_value_string_utf8(env, value, &(*text)[0], length + 1, &length) == napi_ok;
}

// A variable of the process's environment, while one lives. Not process.env, which is a copy in worker threads.
class Variable {
 public:
#ifdef _WIN32
  Variable(const std::string& name, const std::string& value) : name_(name) { _putenv_s(name.c_str(), value.c_str()); }
  ~Variable() { _putenv_s(name_.c_str(), ""); }
#else
  Variable(const std::string& name, const std::string& value) : name_(name) { setenv(name.c_str(), value.c_str(), 1); }
  ~Variable() { unsetenv(name_.c_str()); }
#endif
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const std::string name_;
};

// variable(name: string): string | undefined — of the process's environment
napi_value variable(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  std::string name;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      !toText(env, argument, &name)) {
    return throwError(env, "Expected a string for name");
  }
  napi_value result = nullptr;
  const char* const value = getenv(name.c_str());
  if (value != nullptr) napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &result);
  return result;
}

// loaded(name: string): string | undefined — path of a library of the process whose file name begins with `name`
napi_value loaded(napi_env env, napi_callback_info info) {
  struct Search {
    std::string name;
    std::string found;
  } search;
  size_t count = 1;
  napi_value argument = nullptr;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      !toText(env, argument, &search.name)) {
    return throwError(env, "Expected a string for name");
  }
#ifdef __linux__
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) -> int {
        auto* const search = static_cast<Search*>(data);
        const std::string path = info->dlpi_name ? info->dlpi_name : "";
        const auto slash = path.rfind('/');
        if (path.compare(slash == std::string::npos ? 0 : slash + 1, search->name.size(), search->name) != 0) return 0;
        search->found = path;
        return 1;
      },
      &search);
#endif
  napi_value result = nullptr;
  if (!search.found.empty()) napi_create_string_utf8(env, search.found.c_str(), NAPI_AUTO_LENGTH, &result);
  return result;
}

// open(paths: string[], variables?: [name: string, value: string][]): void — the variables are set in the environment
// while the libraries are opened
napi_value openAll(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2] = {nullptr, nullptr};
  bool is_array = false;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count < 1 ||
      napi_is_array(env, arguments[0], &is_array) != napi_ok || !is_array) {
    return throwError(env, "Expected an array of paths for paths");
  }
  napi_value paths = arguments[0];
  std::vector<std::unique_ptr<Variable>> variables;
  uint32_t pairs = 0;
  if (count > 1 && napi_get_array_length(env, arguments[1], &pairs) != napi_ok) {
    return throwError(env, "Expected an array of pairs for variables");
  }
  for (uint32_t index = 0; index < pairs; ++index) {
    napi_value pair = nullptr;
    napi_value part = nullptr;
    std::string name;
    std::string value;
    if (napi_get_element(env, arguments[1], index, &pair) != napi_ok ||
        napi_get_element(env, pair, 0, &part) != napi_ok || !toText(env, part, &name) ||
        napi_get_element(env, pair, 1, &part) != napi_ok || !toText(env, part, &value)) {
      return throwError(env, "Expected a name and a value for variables[" + std::to_string(index) + "]");
    }
    variables.push_back(std::make_unique<Variable>(name, value));
  }
  uint32_t length = 0;
  napi_get_array_length(env, paths, &length);
  for (uint32_t index = 0; index < length; ++index) {
    napi_value element = nullptr;
    std::string path;
    if (napi_get_element(env, paths, index, &element) != napi_ok || !toText(env, element, &path)) {
      return throwError(env, "Expected a string for paths[" + std::to_string(index) + "]");
    }
    const std::string failure = openLibrary(path);
    if (!failure.empty()) {
      return throwError(env, failure);
    }
  }
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"open", openAll}, {"variable", variable}, {"loaded", loaded}};
  for (const auto& each : functions) {
    napi_value function = nullptr;
    if (napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.callback, nullptr, &function) != napi_ok ||
        napi_set_named_property(env, exports, each.name, function) != napi_ok) {
      napi_throw_error(env, nullptr, "The loader could not be initialised");
      return exports;
    }
  }
  return exports;
}
