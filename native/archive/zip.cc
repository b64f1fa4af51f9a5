#include "archive/zip.h"

#include <algorithm>
#include <cstring>

#include "archive/crc32.h"
#include "archive/inflate.h"
#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "runtime/cancellation.h"
#include "runtime/error.h"

namespace lta::archive {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kEntrySignature = 0x02014b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kEnd64LocatorSignature = 0x07064b50;
constexpr uint64_t kLocalBytes = 30;
constexpr uint64_t kEntryBytes = 46;
constexpr uint64_t kEndBytes = 22;
constexpr uint64_t kEnd64Bytes = 56;
constexpr uint64_t kEnd64LocatorBytes = 20;
constexpr uint64_t kMaxCommentBytes = 65535;
constexpr uint16_t kZip64Field = 1;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
// Marks a 16 or 32-bit field whose value is in the zip64 extra field.
constexpr uint16_t kInZip64Field16 = 0xFFFF;
constexpr uint32_t kInZip64Field32 = 0xFFFFFFFF;

template <typename Number>
Number number(const char* at) {
  Number value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

Error corrupt(const std::string& what) {
  return Error("ERR_MODEL_LOAD", "the file is no zip archive, or is truncated or corrupt: " + what);
}

// A name for messages: printable, at most 100 characters.
std::string printable(const std::string& name) {
  std::string text;
  for (const char c : name.substr(0, 100)) text += c >= ' ' && c < 127 ? c : '?';
  return "'" + text + (name.size() > 100 ? "…'" : "'");
}

struct Directory {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t count = 0;
};

Directory findDirectory(const ByteSource& source) {
  const uint64_t fileSize = source.size();
  if (fileSize < kEndBytes) throw corrupt("it has " + std::to_string(fileSize) + " bytes");
  const uint64_t tailSize = std::min(fileSize, kEndBytes + kMaxCommentBytes);
  const uint64_t tailOffset = fileSize - tailSize;
  std::string tail(tailSize, '\0');
  source.read(tailOffset, tail.data(), tailSize);
  for (uint64_t at = tailSize - kEndBytes + 1; at-- > 0;) {
    const char* end = tail.data() + at;
    if (number<uint32_t>(end) != kEndSignature) continue;
    if (at + kEndBytes + number<uint16_t>(end + 20) > tailSize) continue;
    const auto disk = number<uint16_t>(end + 4);
    if (disk != number<uint16_t>(end + 6) || (disk != 0 && disk != kInZip64Field16))
      throw corrupt("it has several parts");
    Directory directory{number<uint32_t>(end + 16), number<uint32_t>(end + 12), number<uint16_t>(end + 10)};
    uint64_t before = tailOffset + at;  // end of the directory at the latest
    if (directory.offset == kInZip64Field32 || directory.size == kInZip64Field32 ||
        directory.count == kInZip64Field16) {
      if (before < kEnd64LocatorBytes + kEnd64Bytes) throw corrupt("its directory is missing");
      char locator[kEnd64LocatorBytes];
      source.read(before - kEnd64LocatorBytes, locator, sizeof locator);
      if (number<uint32_t>(locator) != kEnd64LocatorSignature) throw corrupt("its directory is missing");
      const auto end64Offset = number<uint64_t>(locator + 8);
      if (end64Offset > before - kEnd64LocatorBytes - kEnd64Bytes) throw corrupt("its directory is outside the file");
      char end64[kEnd64Bytes];
      source.read(end64Offset, end64, sizeof end64);
      if (number<uint32_t>(end64) != kEnd64Signature) throw corrupt("its directory is missing");
      directory = {number<uint64_t>(end64 + 48), number<uint64_t>(end64 + 40), number<uint64_t>(end64 + 32)};
      before = end64Offset;
    }
    if (directory.offset > before || directory.size > before - directory.offset) {
      throw corrupt("its directory is outside the file");
    }
    if (directory.count > kMaxRecords || directory.size > kMaxDirectoryBytes) {
      throw LimitExceeded("its directory has " + std::to_string(directory.count) + " records in " +
                          std::to_string(directory.size) + " bytes");
    }
    return directory;
  }
  throw corrupt("its directory is missing");
}

// Resolves fields whose value is in the zip64 extra field, in order.
class Zip64 {
 public:
  explicit Zip64(const std::string& extra) {
    for (size_t at = 0; at + 4 <= extra.size();) {
      const auto size = number<uint16_t>(extra.data() + at + 2);
      if (size > extra.size() - at - 4) break;
      if (number<uint16_t>(extra.data() + at) == kZip64Field) {
        values_ = extra.substr(at + 4, size);
        break;
      }
      at += 4 + size;
    }
  }
  uint64_t resolve(uint32_t field) {
    if (field != kInZip64Field32) return field;
    if (values_.size() - consumed_ < sizeof(uint64_t)) throw corrupt("the size of a record is missing");
    const auto value = number<uint64_t>(values_.data() + consumed_);
    consumed_ += sizeof(uint64_t);
    return value;
  }

 private:
  std::string values_;
  size_t consumed_ = 0;
};

// Names must be printable and safe as a relative path.
void checkName(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(),
                                 [](char c) { return static_cast<unsigned char>(c) >= ' ' && c != '\\' && c != 127; });
  if (name.empty() || !plain || name.front() == '/') throw corrupt("a record has the invalid name " + printable(name));
  for (size_t from = 0; from <= name.size();) {
    const auto to = std::min(name.find('/', from), name.size());
    if (name.compare(from, to - from, "..") == 0) throw corrupt("a record has the invalid name " + printable(name));
    from = to + 1;
  }
}

void checkSizes(const Record& record) {
  if (!record.deflated && record.size != record.stored) {
    throw corrupt("the record " + printable(record.name) + " has " + std::to_string(record.stored) +
                  " bytes but declares " + std::to_string(record.size));
  }
  if (record.deflated && record.size > kRatioExemptBytes && record.size / kMaxCompressionRatio > record.stored) {
    throw LimitExceeded("the record " + printable(record.name) + " decompresses to " + std::to_string(record.size) +
                        " bytes from " + std::to_string(record.stored) + ", more than " +
                        std::to_string(kMaxCompressionRatio) + " times");
  }
}

// Buffer size of `verify`.
constexpr uint64_t kVerifyBufferBytes = 4 * kMiB;

void checkChecksum(const Record& record, uint32_t checksum) {
  if (checksum == record.checksum) return;
  throw Error("ERR_MODEL_LOAD",
              "the record " + printable(record.name) + " is corrupt: its bytes don't match its checksum");
}

}  // namespace

Zip::Zip(std::shared_ptr<const ByteSource> source) : source_(std::move(source)) {
  const auto directory = findDirectory(*source_);
  std::string entries(directory.size, '\0');
  source_->read(directory.offset, entries.data(), entries.size());

  struct Extent {
    uint64_t from;
    uint64_t to;
  };
  std::vector<Extent> extents;
  std::string local;
  uint64_t at = 0;
  for (uint64_t i = 0; i < directory.count; ++i) {
    if (entries.size() - at < kEntryBytes) throw corrupt("its directory ends early");
    const char* entry = entries.data() + at;
    if (number<uint32_t>(entry) != kEntrySignature) throw corrupt("its directory is damaged");
    const uint64_t nameSize = number<uint16_t>(entry + 28);
    const uint64_t extraSize = number<uint16_t>(entry + 30);
    const uint64_t commentSize = number<uint16_t>(entry + 32);
    if (entries.size() - at - kEntryBytes < nameSize + extraSize + commentSize) {
      throw corrupt("its directory ends early");
    }
    Record record;
    record.name.assign(entry + kEntryBytes, nameSize);
    if (nameSize > kMaxNameBytes) throw corrupt("a record has the invalid name " + printable(record.name));
    checkName(record.name);
    const auto flags = number<uint16_t>(entry + 8);
    const auto method = number<uint16_t>(entry + 10);
    if (flags & kEncrypted) throw corrupt("the record " + printable(record.name) + " is encrypted");
    if (method != kStored && method != kDeflated) {
      throw corrupt("the record " + printable(record.name) + " is compressed by method " + std::to_string(method));
    }
    record.deflated = method == kDeflated;
    record.checksum = number<uint32_t>(entry + 16);
    Zip64 large(std::string(entry + kEntryBytes + nameSize, extraSize));
    record.size = large.resolve(number<uint32_t>(entry + 24));
    record.stored = large.resolve(number<uint32_t>(entry + 20));
    const auto header = large.resolve(number<uint32_t>(entry + 42));
    at += kEntryBytes + nameSize + extraSize + commentSize;

    // Only the local header tells where the bytes begin.
    const uint64_t end = directory.offset;
    if (header > end || end - header < kLocalBytes + nameSize) {
      throw corrupt("the record " + printable(record.name) + " is outside the file");
    }
    local.resize(kLocalBytes + nameSize);
    source_->read(header, local.data(), local.size());
    if (number<uint32_t>(local.data()) != kLocalSignature || number<uint16_t>(local.data() + 8) != method ||
        number<uint16_t>(local.data() + 26) != nameSize || local.compare(kLocalBytes, nameSize, record.name) != 0) {
      throw corrupt("the record " + printable(record.name) + " isn't where the directory says");
    }
    record.offset = header + kLocalBytes + nameSize + number<uint16_t>(local.data() + 28);
    if (record.offset > end || record.stored > end - record.offset) {
      throw corrupt("the record " + printable(record.name) + " is outside the file");
    }
    checkSizes(record);
    extents.push_back({header, record.offset + record.stored});
    if (!byName_.emplace(record.name, records_.size()).second) {
      throw corrupt("it has two records " + printable(record.name));
    }
    records_.push_back(std::move(record));
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.from < b.from; });
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].from < extents[i - 1].to) throw corrupt("two of its records overlap");
  }
}

const Record* Zip::find(const std::string& name) const {
  const auto found = byName_.find(name);
  return found == byName_.end() ? nullptr : &records_[found->second];
}

void Zip::readInto(const Record& record, void* into, bool verify) const {
  if (record.deflated) {
    std::string stored(record.stored, '\0');
    source_->read(record.offset, stored.data(), stored.size());
    try {
      inflate(stored, into, record.size);
    } catch (const Error&) {
      throw;
    } catch (const std::exception&) {
      throw corrupt("the record " + printable(record.name) + " can't be decompressed");
    }
  } else {
    source_->read(record.offset, into, record.size);
  }
  if (verify) checkChecksum(record, crc32(into, record.size));
}

void Zip::verify(const Record& record) const {
  if (record.deflated) {
    read(record, /*verify=*/true);
    return;
  }
  std::string chunk(std::min(record.size, kVerifyBufferBytes), '\0');
  uint32_t checksum = 0;
  for (uint64_t at = 0; at < record.size; at += chunk.size()) {
    if (auto* run = Cancellation::current()) run->check();
    const auto size = std::min<uint64_t>(chunk.size(), record.size - at);
    source_->read(record.offset + at, chunk.data(), size);
    checksum = crc32(chunk.data(), size, checksum);
  }
  checkChecksum(record, checksum);
}

std::string Zip::read(const Record& record, bool verify) const {
  std::string bytes(record.size, '\0');
  readInto(record, bytes.data(), verify);
  return bytes;
}

}  // namespace lta::archive
