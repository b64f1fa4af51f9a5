#include "archive/inflate.h"

#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/error.h"

namespace lta::archive {
namespace {

class Bytes final : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  size_t size() const override { return bytes_.size(); }
  size_t read(uint64_t position, void* into, size_t count, const char*) const override {
    if (position >= bytes_.size()) return 0;
    count = std::min<size_t>(count, bytes_.size() - position);
    std::memcpy(into, bytes_.data() + position, count);
    return count;
  }

 private:
  const std::string bytes_;
};

// Writes a minimal zip archive that libtorch reads, of records that were checked.
class Writer {
 public:
  void add(const std::string& name, const std::string& stored, uint32_t size, uint16_t method) {
    const auto offset = static_cast<uint32_t>(bytes_.size());
    const auto shared = [&](std::string& to) {
      put16(to, 20);  // version needed to extract
      put16(to, 0);
      put16(to, method);
      put32(to, 0);  // modification time
      put32(to, 0);  // checksum, which libtorch doesn't verify
      put32(to, static_cast<uint32_t>(stored.size()));
      put32(to, size);
      put16(to, static_cast<uint16_t>(name.size()));
      put16(to, 0);
    };
    put32(bytes_, 0x04034b50);
    shared(bytes_);
    bytes_ += name + stored;
    put32(directory_, 0x02014b50);
    put16(directory_, 20);
    shared(directory_);
    directory_.append(2 + 2 + 2 + 4, '\0');
    put32(directory_, offset);
    directory_ += name;
    ++count_;
  }

  std::string finish() && {
    const auto offset = static_cast<uint32_t>(bytes_.size());
    bytes_ += directory_;
    put32(bytes_, 0x06054b50);
    put32(bytes_, 0);
    put16(bytes_, count_);
    put16(bytes_, count_);
    put32(bytes_, static_cast<uint32_t>(directory_.size()));
    put32(bytes_, offset);
    put16(bytes_, 0);
    return std::move(bytes_);
  }

 private:
  static void put16(std::string& to, uint16_t value) { to.append(reinterpret_cast<const char*>(&value), 2); }
  static void put32(std::string& to, uint32_t value) { to.append(reinterpret_cast<const char*>(&value), 4); }

  std::string bytes_;
  std::string directory_;
  uint16_t count_ = 0;
};

constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;

}  // namespace

// Through libtorch's reader, to ship no second decompressor.
void inflate(const std::string& deflated, void* into, uint64_t size) {
  constexpr uint64_t kMaxBytes = UINT32_MAX - 4096;
  if (deflated.size() > kMaxBytes || size > kMaxBytes) {
    throw Error("ERR_MODEL_LOAD", "Expected a compressed record of less than 4 GiB but received one of " +
                                      std::to_string(std::max<uint64_t>(size, deflated.size())) + " bytes");
  }
  Writer writer;
  writer.add("a/version", "3\n", 2, kStored);
  writer.add("a/r", deflated, static_cast<uint32_t>(size), kDeflated);
  caffe2::serialize::PyTorchStreamReader reader(std::make_shared<Bytes>(std::move(writer).finish()));
  reader.getRecord("r", into, size);
}

}  // namespace lta::archive
