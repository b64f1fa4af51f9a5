#include "runtime/resident_memory.h"

#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#endif

namespace lta {

int64_t residentMemory() noexcept {
#if defined(__linux__)
  // The second field of statm is in pages. Read without a stream, since runs poll this.
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  std::array<char, 128> text{};
  const auto size = read(file, text.data(), text.size() - 1);
  close(file);
  if (size <= 0) return 0;
  char* second = nullptr;
  std::strtoll(text.data(), &second, 10);
  return std::strtoll(second, nullptr, 10) * sysconf(_SC_PAGESIZE);
#else
  return 0;
#endif
}

}  // namespace lta
