#pragma once

#include <c10/core/Device.h>
#include <torch/csrc/jit/api/module.h>

#include <memory>

#include "archive/byte_source.h"

namespace lta::script {

struct CheckpointOptions {
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  bool untrusted = false;
  bool verify = false;
};

// Reads what torch.jit.save wrote. The directory, the pickles and the code are read once and checked as a whole before
// libtorch makes anything of them, and libtorch gets what was checked; tensors are read straight into their memory.
// Throws ERR_MODEL_LOAD for what no libtorch would load, or would die of, and with `untrusted` ERR_UNTRUSTED for a
// program that could do more than compute.
torch::jit::Module readCheckpoint(std::shared_ptr<const archive::ByteSource> source, const CheckpointOptions& options);

}  // namespace lta::script
