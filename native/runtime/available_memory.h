#pragma once

#include <cstdint>
#include <string>

namespace lta {

// Bytes of memory that this process may use at most: the machine's, or what its control groups allow, whichever is
// less. Read once.
uint64_t availableMemory();

// What control groups allow, version 1 or 2: `groups` is the text of /proc/self/cgroup, `root` the folder that they are
// mounted in. UINT64_MAX where there is no limit.
uint64_t memoryOfGroups(const std::string& groups, const std::string& root);

}  // namespace lta
