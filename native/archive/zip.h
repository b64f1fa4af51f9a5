#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "archive/byte_source.h"

namespace lta::archive {

// A record of a zip archive. Its bytes lie inside the file and overlap no other record's.
struct Record {
  std::string name;
  uint64_t offset = 0;  // of its bytes in the file
  uint64_t stored = 0;  // how many bytes there are in the file
  uint64_t size = 0;    // how many they become
  uint32_t checksum = 0;
  bool deflated = false;
};

// The directory of a zip archive, read and checked as a whole: sizes, bounds, overlaps, names, compression. Throws
// ERR_MODEL_LOAD for what isn't as it has to be; nothing is read by anyone else afterwards, so that there is no second
// opinion about where a record lies.
class Zip {
 public:
  explicit Zip(std::shared_ptr<const ByteSource> source);

  const std::vector<Record>& records() const { return records_; }  // in the directory's order
  const Record* find(const std::string& name) const;
  uint64_t fileSize() const { return source_->size(); }

  // The bytes of a record, decompressed; `readInto` into memory of the record's size. With `verify` they are compared
  // to the record's checksum.
  std::string read(const Record& record, bool verify) const;
  void readInto(const Record& record, void* into, bool verify) const;
  // Compares a record's bytes to its checksum, whatever its size, and keeps none of them. The calling thread's run may
  // be stopped meanwhile.
  void verify(const Record& record) const;

 private:
  std::shared_ptr<const ByteSource> source_;
  std::vector<Record> records_;
  std::unordered_map<std::string, size_t> byName_;
};

}  // namespace lta::archive
