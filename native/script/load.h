// Loads a TorchScript checkpoint: reading, casting, choice of optimizations.
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
  std::optional<at::ScalarType> dtype;  // for floating-point parameters, buffers and constants; absent: as stored
  bool optimize = false;                // freezes programs: faster, not bit-identical
  bool fuse = false;                    // with oneDNN Graph, needs `optimize`
  bool untrusted = false;               // refuses programs that could do more than compute
  bool verify = false;                  // verifies checksums; implied by `untrusted`
};

// Load an archive of torch.jit.save, in evaluation mode. Throw ERR_MODEL_LOAD, ERR_UNTRUSTED.
std::shared_ptr<ScriptModule> loadFile(const std::string& path, const LoadOptions& options);
std::shared_ptr<ScriptModule> loadBytes(std::string bytes, const LoadOptions& options);

}  // namespace lta::script
