#include "archive/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "archive/regular_file.h"

namespace lta::archive {
namespace {

constexpr int kNoFile = -1;

}  // namespace

Mapping::Mapping(uint64_t size, int descriptor) : size_(size) {
  if (size == 0) throw Error("ERR_MODEL_LOAD", "the file is empty");
  const int flags = MAP_PRIVATE | MAP_NORESERVE | (descriptor == kNoFile ? MAP_ANONYMOUS : 0);
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  if (mapped == MAP_FAILED) {
    throw Error("ERR_MODEL_LOAD", "Cannot map " + std::to_string(size) + " bytes: " + std::strerror(errno));
  }
  data_ = static_cast<char*>(mapped);
}

Mapping::~Mapping() { ::munmap(data_, size_); }

std::shared_ptr<Mapping> Mapping::ofFile(const std::string& path) {
  const RegularFile file(path);
  return std::shared_ptr<Mapping>(new Mapping(file.size(), file.descriptor()));
}

std::shared_ptr<Mapping> Mapping::copyOfFile(const std::string& path) {
  const RegularFile file(path);
  std::shared_ptr<Mapping> mapping(new Mapping(file.size(), kNoFile));
  file.read(0, mapping->data_, mapping->size_);
  return mapping;
}

std::shared_ptr<Mapping> Mapping::copyOf(std::string_view bytes) {
  std::shared_ptr<Mapping> mapping(new Mapping(bytes.size(), kNoFile));
  std::memcpy(mapping->data_, bytes.data(), bytes.size());
  return mapping;
}

void Mapping::read(uint64_t position, void* into, size_t count) const {
  if (position > size_ || count > size_ - position) throw endsEarly(position, count, size_);
  std::memcpy(into, data_ + position, count);
}

}  // namespace lta::archive
