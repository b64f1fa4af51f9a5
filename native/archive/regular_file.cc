#include "archive/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace lta::archive {
namespace {

// What a thing in the file system is called that is no file.
const char* kindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "no regular file";
}

}  // namespace

Error endsEarly(uint64_t position, size_t count, uint64_t size) {
  return Error("ERR_MODEL_LOAD", "Expected " + std::to_string(count) + " bytes at " + std::to_string(position) +
                                     " but the file ends at " + std::to_string(size));
}

RegularFile::RegularFile(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected a path but received a string with a null character");
  }
  struct stat status{};
  const auto checkRegular = [&] {
    if (!S_ISREG(status.st_mode)) {
      throw Error("ERR_MODEL_LOAD", std::string("expected a file but it is ") + kindOf(status.st_mode));
    }
  };
  const auto reason = [] {
    return errno == ENOENT || errno == ENOTDIR ? std::string("no such file") : std::string(std::strerror(errno));
  };
  if (::stat(path.c_str(), &status) != 0) throw Error("ERR_MODEL_LOAD", reason());
  checkRegular();
  // What lies at the path may have become another thing in between.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor_ < 0) throw Error("ERR_MODEL_LOAD", reason());
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    checkRegular();
    throw Error("ERR_MODEL_LOAD", "the file cannot be examined");
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

RegularFile::~RegularFile() { ::close(descriptor_); }

void RegularFile::read(uint64_t position, void* into, size_t count) const {
  // Linux reads no more than 2 GiB at once.
  constexpr size_t kAtOnce = size_t{1} << 30;
  auto* to = static_cast<char*>(into);
  for (size_t done = 0; done < count;) {
    const auto got =
        ::pread(descriptor_, to + done, std::min(count - done, kAtOnce), static_cast<off_t>(position + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error("ERR_MODEL_LOAD", std::string("Cannot read the file: ") + std::strerror(errno));
    if (got == 0) throw endsEarly(position, count, position + done);
    done += static_cast<size_t>(got);
  }
}

}  // namespace lta::archive
