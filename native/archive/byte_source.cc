#include "archive/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/error.h"

namespace lta::archive {
namespace {

Error endsEarly(uint64_t position, size_t count, uint64_t size) {
  return Error("ERR_MODEL_LOAD", "Expected " + std::to_string(count) + " bytes at " + std::to_string(position) +
                                     " but the file ends at " + std::to_string(size));
}

class File final : public ByteSource {
 public:
  File(int descriptor, uint64_t size) : descriptor_(descriptor), size_(size) {}
  ~File() override { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  uint64_t size() const override { return size_; }

  void read(uint64_t position, void* into, size_t count) const override {
    // Linux reads at most 2 GiB per call.
    constexpr size_t kMaxPerCall = size_t{1} << 30;
    auto* to = static_cast<char*>(into);
    for (size_t done = 0; done < count;) {
      const auto got =
          ::pread(descriptor_, to + done, std::min(count - done, kMaxPerCall), static_cast<off_t>(position + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw Error("ERR_MODEL_LOAD", std::string("Cannot read the file: ") + std::strerror(errno));
      if (got == 0) throw endsEarly(position, count, position + done);
      done += static_cast<size_t>(got);
    }
  }

 private:
  const int descriptor_;
  const uint64_t size_;
};

class Memory final : public ByteSource {
 public:
  explicit Memory(std::string bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  void read(uint64_t position, void* into, size_t count) const override {
    if (position > bytes_.size() || count > bytes_.size() - position) throw endsEarly(position, count, bytes_.size());
    std::memcpy(into, bytes_.data() + position, count);
  }

 private:
  const std::string bytes_;
};

// The kind of a file that isn't regular, for messages.
const char* kindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

}  // namespace

std::shared_ptr<const ByteSource> openFile(const std::string& path) {
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
  // The path may refer to something else by now.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) throw Error("ERR_MODEL_LOAD", reason());
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    checkRegular();
    throw Error("ERR_MODEL_LOAD", "the file cannot be examined");
  }
  return std::make_shared<File>(descriptor, static_cast<uint64_t>(status.st_size));
}

std::shared_ptr<const ByteSource> fromMemory(std::string bytes) { return std::make_shared<Memory>(std::move(bytes)); }

}  // namespace lta::archive
