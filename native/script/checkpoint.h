// Reads TorchScript archives. The file is read once and checked before libtorch interprets any of it.
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

// Reads an archive of torch.jit.save: libtorch gets the code and pickles that were checked, tensors are read straight
// into their memory. Throws ERR_MODEL_LOAD for an archive that libtorch can't load or would crash on, ERR_UNTRUSTED
// (with `untrusted`) for a program that could do more than compute.
torch::jit::Module readCheckpoint(std::shared_ptr<const archive::ByteSource> source, const CheckpointOptions& options);

}  // namespace lta::script
