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
constexpr uint64_t kMaxMark = 64;
constexpr uint64_t kAlignment = 64;

Error unsupported(const std::string& what) { return Error("ERR_UNSUPPORTED_FILE", what); }

}  // namespace

Package::Package(std::shared_ptr<archive::Mapping> mapping, bool verify) : mapping_(mapping), zip_(mapping) {
  if (zip_.records().empty()) throw broken("the file is a zip archive without any record");
  if (zip_.find("serialized_exported_program.json")) {
    throw unsupported(
        "it was written by torch.export of PyTorch 2.7 or older: load it with torch.export.load of such a release, "
        "export the model again with 2.9 or later, and save it with torch.export.save");
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
  if (!verify) return;
  for (const auto& each : zip_.records()) zip_.verify(each);
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

const archive::Record& Package::record(const std::string& name) const {
  const auto* found = zip_.find(folder_ + name);
  if (!found) throw broken("it lacks the record " + shown(name));
  return *found;
}

std::string Package::text(const std::string& name, uint64_t most) const {
  const auto& found = record(name);
  if (found.size > most) {
    throw archive::LimitExceeded("the record " + shown(name) + " has " + std::to_string(found.size) +
                                 " bytes, more than " + std::to_string(most));
  }
  return zip_.read(found, /*verify=*/false);
}

Bytes Package::bytes(const std::string& name) const {
  const auto& found = record(name);
  char* const inFile = mapping_->data() + found.offset;
  if (!found.deflated && found.offset % kAlignment == 0) return {inFile, found.size, mapping_};
  const auto memory = std::make_shared<c10::DataPtr>(c10::GetCPUAllocator()->allocate(found.size));
  zip_.readInto(found, memory->get(), /*verify=*/false);
  return {static_cast<char*>(memory->get()), found.size, memory};
}

}  // namespace lta::exported
