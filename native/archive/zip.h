// Reads and validates zip archives. The only code that parses their directory: libtorch never sees the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "archive/byte_source.h"

namespace lta::archive {

// A record. Its bytes lie inside the file and overlap no other record's.
struct Record {
  std::string name;
  uint64_t offset = 0;  // of its bytes in the file
  uint64_t stored = 0;  // bytes in the file
  uint64_t size = 0;    // bytes after decompression
  uint32_t checksum = 0;
  bool deflated = false;
};

// The directory, validated as a whole: sizes, bounds, overlaps, names, compression. Throws ERR_MODEL_LOAD. Parsing it
// once rules out a second reader with other results.
class Zip {
 public:
  explicit Zip(std::shared_ptr<const ByteSource> source);

  const std::vector<Record>& records() const { return records_; }  // in the directory's order
  const Record* find(const std::string& name) const;
  uint64_t fileSize() const { return source_->size(); }

  // Decompressed bytes of a record; `readInto` needs memory of the record's size. `verify` compares them to the
  // record's checksum.
  std::string read(const Record& record, bool verify) const;
  void readInto(const Record& record, void* into, bool verify) const;
  // Compares a record's bytes to its checksum in constant memory (unless compressed). Checks the cancellation of the
  // calling thread's run.
  void verify(const Record& record) const;

 private:
  std::shared_ptr<const ByteSource> source_;
  std::vector<Record> records_;
  std::unordered_map<std::string, size_t> byName_;
};

}  // namespace lta::archive
