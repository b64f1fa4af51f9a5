// The devices that a checkpoint's programs name.
#pragma once

#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>
#include <torch/csrc/jit/api/module.h>

#include <utility>
#include <vector>

namespace lta::script {

// A trace names the device that it was made on wherever it creates or moves a tensor. Where that is an accelerator, its
// place is taken by the device that the checkpoint is on; the CPU, which every program can use, stays, as in Python.
// Looks into all methods and functions, compiled or not, and at the modules' attributes.
class DeviceConstants {
 public:
  explicit DeviceConstants(torch::jit::Module module);

  // Puts `device` in the place of accelerators, and of what took their place before. Programs that were compiled have
  // to be compiled anew if it returns true.
  bool place(c10::Device device);

 private:
  torch::jit::Module module_;
  bool inGraphs_ = false;
  std::vector<std::pair<c10::intrusive_ptr<c10::ivalue::Object>, size_t>> attributes_;  // objects and their slots
};

}  // namespace lta::script
