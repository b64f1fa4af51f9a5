// Opens shared libraries by absolute path, so that an addon linked without a run path finds them loaded. Neither
// includes nor links libtorch: Node can load this file on any machine.

#include <node_api.h>

#include <cstdint>
#include <string>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif
#ifdef __linux__
#include <link.h>
#include <stdlib.h>
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

// open(paths: string[]): void
napi_value openAll(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value paths = nullptr;
  bool is_array = false;
  if (napi_get_cb_info(env, info, &count, &paths, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_is_array(env, paths, &is_array) != napi_ok || !is_array) {
    return throwError(env, "Expected an array of paths for paths");
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
  napi_value open = nullptr;
  if (napi_create_function(env, "open", NAPI_AUTO_LENGTH, openAll, nullptr, &open) != napi_ok ||
      napi_set_named_property(env, exports, "open", open) != napi_ok) {
    napi_throw_error(env, nullptr, "The loader could not be initialised");
  }
  return exports;
}
