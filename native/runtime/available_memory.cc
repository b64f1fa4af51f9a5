#include "runtime/available_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace lta {
namespace {

// The limit in a file; UINT64_MAX for "max" or an unreadable file.
uint64_t limitIn(const std::string& file) {
  std::ifstream stream(file);
  uint64_t limit = 0;
  return stream >> limit ? limit : UINT64_MAX;
}

}  // namespace

uint64_t memoryLimitOfGroups(const std::string& groups, const std::string& root) {
  uint64_t least = UINT64_MAX;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",memory,") == std::string::npos) continue;
    const auto folder = unified ? root : root + "/memory";
    const std::string name = unified ? "/memory.max" : "/memory.limit_in_bytes";
    // Inside a container the path may be the host's, with the group itself mounted at the root.
    for (auto path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      least = std::min(least, limitIn(folder + path + name));
      if (path.find('/') == std::string::npos) break;
    }
    least = std::min(least, limitIn(folder + name));
  }
  return least;
}

uint64_t availableMemory() {
  static const uint64_t bytes = [] {
    uint64_t most = UINT64_MAX;
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGE_SIZE)
    const auto pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
    if (pages > 0 && size > 0) most = static_cast<uint64_t>(pages) * static_cast<uint64_t>(size);
#endif
    std::ifstream groups("/proc/self/cgroup");
    const std::string text{std::istreambuf_iterator<char>(groups), {}};
    return std::min(most, memoryLimitOfGroups(text, "/sys/fs/cgroup"));
  }();
  return bytes;
}

}  // namespace lta
