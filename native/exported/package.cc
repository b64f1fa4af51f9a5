#include "exported/package.h"

#include <c10/core/CPUAllocator.h>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "exported/json.h"

namespace lta::exported {
namespace {

constexpr std::string_view kModels = "models/";
constexpr std::string_view kJson = ".json";
constexpr std::string_view kUsualProgram = "model";
constexpr const char* kFlatProgram = "serialized_exported_program.json";
constexpr uint64_t kMaxMark = 64;
constexpr uint64_t kAlignment = 64;

Error unsupported(const std::string& what) { return Error("ERR_UNSUPPORTED_FILE", what); }

}  // namespace

Package::Package(std::shared_ptr<archive::Mapping> mapping, bool verify) : mapping_(mapping), zip_(mapping) {
  if (zip_.records().empty()) throw broken("the file is a zip archive without any record");
  const auto verifyAll = [&] {
    if (!verify) return;
    for (const auto& each : zip_.records()) zip_.verify(each);
  };
  if (zip_.find(kFlatProgram)) {
    isFlat_ = true;
    verifyAll();
    return;
  }
  const auto& first = zip_.records().front().name;
  const auto slash = first.find('/');
  if (slash == std::string::npos) throw broken("expected what torch.export.save writes but it is another zip archive");
  folder_ = first.substr(0, slash + 1);
  findProgram();
  const auto mark = [this](const char* name) { return has(name) ? text(name, kMaxMark) : std::string(); };
  if (mark("archive_format") != "pt2") throw broken("its record 'archive_format' doesn't say 'pt2'");
  if (const auto version = mark("archive_version"); version != "0") {
    throw unsupported("expected an archive of version 0 but it is of " + shown(version) +
                      ": it was written by a later PyTorch");
  }
  if (mark("byteorder") == "big") throw broken("it was written on a machine of another byte order");
  verifyAll();
}

std::string Package::programRecord() const {
  return isFlat_ ? std::string(kFlatProgram) : std::string(kModels) + program_ + std::string(kJson);
}

void Package::findProgram() {
  std::string compiled;
  for (const auto& record : zip_.records()) {
    if (!record.name.starts_with(folder_)) continue;
    const auto name = std::string_view(record.name).substr(folder_.size());
    if (name.starts_with("data/aotinductor/")) compiled = name;
    if (!name.starts_with(kModels) || !name.ends_with(kJson)) continue;
    const auto program = name.substr(kModels.size(), name.size() - kModels.size() - kJson.size());
    if (program_.empty() || program == kUsualProgram) program_ = program;
  }
  if (!program_.empty()) return;
  if (!compiled.empty()) {
    throw unsupported(
        "it is a package of AOTInductor, which holds code compiled for one machine and no program: export the model "
        "with torch.export.export and save it with torch.export.save");
  }
  if (has("constants.pkl")) throw broken("it is a TorchScript archive: load it with ScriptModule.load");
  if (has("data.pkl")) {
    throw broken(
        "it was written by torch.save and holds no program: export the model with torch.export.export and save it with "
        "torch.export.save");
  }
  throw broken("expected what torch.export.save writes but the archive holds no program");
}

namespace {

std::string textOf(const archive::Zip& zip, const archive::Record& record, const std::string& name, uint64_t most) {
  if (record.size > most) {
    throw archive::LimitExceeded("the record " + shown(name) + " has " + std::to_string(record.size) +
                                 " bytes, more than " + std::to_string(most));
  }
  return zip.read(record, /*verify=*/false);
}

Bytes bytesOf(const archive::Zip& zip, const archive::Record& record,
              const std::shared_ptr<archive::Mapping>& mapping) {
  char* const inFile = mapping->data() + record.offset;
  if (!record.deflated && record.offset % kAlignment == 0) return {inFile, record.size, mapping};
  const auto memory = std::make_shared<c10::DataPtr>(c10::GetCPUAllocator()->allocate(record.size));
  zip.readInto(record, memory->get(), /*verify=*/false);
  return {static_cast<char*>(memory->get()), record.size, memory};
}

const archive::Record& recordIn(const archive::Zip& zip, const std::string& folder, const std::string& name) {
  const auto* found = zip.find(folder + name);
  if (!found) throw broken("it lacks the record " + shown(name));
  return *found;
}

}  // namespace

std::string Package::text(const std::string& name, uint64_t most) const {
  return textOf(zip_, recordIn(zip_, folder_, name), name, most);
}

Bytes Package::bytes(const std::string& name) const { return bytesOf(zip_, recordIn(zip_, folder_, name), mapping_); }

Package::Inner::Inner(const Package& package, const std::string& record) : name_(record) {
  const auto& found = recordIn(package.zip_, package.folder_, record);
  if (found.size == 0) return;
  mapping_ = found.deflated ? archive::Mapping::copyOf(package.zip_.read(found, /*verify=*/false))
                            : archive::Mapping::copyOf({package.mapping_->data() + found.offset, found.size});
  zip_.emplace(mapping_);
  if (zip_->records().empty()) throw broken("its record " + shown(record) + " is an archive without any record");
  const auto& first = zip_->records().front().name;
  folder_ = first.substr(0, first.find('/') + 1);
}

std::string Package::Inner::text(const std::string& name, uint64_t most) const {
  return zip_ ? textOf(*zip_, recordIn(*zip_, folder_, name), name_ + "/" + name, most) : std::string();
}

Bytes Package::Inner::bytes(const std::string& name) const {
  return bytesOf(*zip_, recordIn(*zip_, folder_, name), mapping_);
}

}  // namespace lta::exported
