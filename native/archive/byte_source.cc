#include "archive/byte_source.h"

#include <cstring>

#include "archive/regular_file.h"

namespace lta::archive {
namespace {

class File final : public ByteSource {
 public:
  explicit File(const std::string& path) : file_(path) {}
  uint64_t size() const override { return file_.size(); }
  void read(uint64_t position, void* into, size_t count) const override { file_.read(position, into, count); }

 private:
  const RegularFile file_;
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

}  // namespace

std::shared_ptr<const ByteSource> openFile(const std::string& path) { return std::make_shared<File>(path); }

std::shared_ptr<const ByteSource> fromMemory(std::string bytes) { return std::make_shared<Memory>(std::move(bytes)); }

}  // namespace lta::archive
