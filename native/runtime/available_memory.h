// How much memory the process may use. Reads files of the system only.
#pragma once

#include <cstdint>
#include <string>

namespace lta {

// The physical memory of the machine or the limit of the process's control groups, whichever is less, in bytes. Read
// once.
uint64_t availableMemory();

// The limit of control groups, version 1 or 2, in bytes; UINT64_MAX without one. `groups` is the text of
// /proc/self/cgroup, `root` the directory that they are mounted in.
uint64_t memoryLimitOfGroups(const std::string& groups, const std::string& root);

}  // namespace lta
