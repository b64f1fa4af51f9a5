#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <memory>
#include <optional>
#include <string>

#include "script/script_module.h"

namespace lta::script {

struct LoadOptions {
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  std::optional<at::ScalarType> dtype;  // floating-point parameters and buffers are cast to it
  bool optimize = false;                // freeze what is run: faster, other last bits
  std::optional<bool> fuse;             // with oneDNN Graph as well; default: where that pays, with `optimize`
  bool untrusted = false;               // refuses what could do more than compute, with ERR_UNTRUSTED
  bool verify = false;                  // compares each record to its checksum; `untrusted` does as well
};

// Loads what torch.jit.save wrote, in evaluation mode. Throws ERR_MODEL_LOAD, ERR_UNTRUSTED.
std::shared_ptr<ScriptModule> loadFile(const std::string& path, const LoadOptions& options);
std::shared_ptr<ScriptModule> loadBytes(std::string bytes, const LoadOptions& options);

}  // namespace lta::script
