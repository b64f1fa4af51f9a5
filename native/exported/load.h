#pragma once

#include <memory>
#include <string>

#include "exported/exported_program.h"

namespace lta::exported {

struct LoadOptions {
  ExportedProgram::Options program;
  bool untrusted = false;  // refuses operators that could do more than compute, with ERR_UNTRUSTED; implies `verify`
  bool verify = false;     // compares each record to its checksum
};

// Loads what torch.export.save wrote. A file is mapped; of an untrusted source it is copied, so that nobody changes
// what was checked. Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE, ERR_UNKNOWN_OPERATOR, ERR_UNTRUSTED.
std::shared_ptr<ExportedProgram> loadFile(const std::string& path, const LoadOptions& options);
std::shared_ptr<ExportedProgram> loadBytes(std::shared_ptr<archive::Mapping> bytes, const LoadOptions& options);

}  // namespace lta::exported
