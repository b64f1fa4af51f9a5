#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/jit/api/module.h>

#include <set>
#include <sstream>
#include <string_view>

#include "check.h"
#include "fixtures.h"
#include "hooks/recorder.h"
#include "runtime/error.h"
#include "script/device_constants.h"
#include "script/load.h"

namespace {

std::shared_ptr<lta::script::ScriptModule> load(const char* name) {
  return lta::script::loadFile(fixtures::path(std::string("models/") + name), {});
}

std::vector<c10::IValue> encoderInputs() { return {at::randn({2, 6, 8})}; }

}  // namespace

TEST("a missing or invalid file is a load error") {
  EXPECT_ERROR(lta::script::loadFile("nowhere.pt", {}), std::string("ERR_MODEL_LOAD"));
  EXPECT_ERROR(load("broken_random.pt"), std::string("ERR_MODEL_LOAD"));
  EXPECT_ERROR(lta::script::loadBytes("no archive", {}), std::string("ERR_MODEL_LOAD"));
}

TEST("modules of one class have names of their own") {
  const auto model = load("two_of_a_class_script.pt");
  std::set<std::string> names;
  for (const auto& module : model->modules()) names.insert(module.name);
  EXPECT(names.size() == model->modules().size() && names.size() > 2);
}

TEST("devices of a trace follow the checkpoint, those that it names as the CPU stay") {
  torch::jit::Module module("M");
  module.define(R"(
def forward(self, x):
  if bool(x.sum() > 0):
    x = x + torch.ones([2], device=torch.device("cuda:1"))
  return torch.zeros([2], device=torch.device("cpu")) + x.cuda()
)");
  module.define(R"(
def other(self):
  return torch.device("cuda")
)");
  const auto devicesOf = [&](const char* method) {
    std::multiset<std::string> devices;
    std::istringstream lines(module.get_method(method).graph()->toString(false));
    for (std::string line; std::getline(lines, line);) {
      if (line.find(": Device = prim::Constant[") == std::string::npos) continue;
      const auto from = line.find("value=\"") + 7;
      devices.insert(line.substr(from, line.find('"', from) - from));
    }
    return devices;
  };
  lta::script::DeviceConstants constants(module);
  for (const char* device : {"cpu", "meta", "cpu"}) {
    EXPECT(constants.place(c10::Device(device)));
    EXPECT((devicesOf("forward") == std::multiset<std::string>{"cpu", device, device}));
    EXPECT((devicesOf("other") == std::multiset<std::string>{device}));
  }
  EXPECT(module.forward({at::ones({2})}).toTensor().equal(at::full({2}, 2.0)));
  EXPECT(!lta::script::DeviceConstants(torch::jit::Module("N")).place(c10::Device("meta")));
}

TEST("libtorch compares the constants of a frozen program on one thread, whatever a run has") {
  lta::script::LoadOptions options;
  options.optimize = true;
  const auto model = lta::script::loadFile(fixtures::path("models/encoder_relu_traced.pt"), options);
  static thread_local std::multiset<int> threads;
  threads.clear();
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
        if (std::string_view(function.name()) == "aten::equal") threads.insert(at::get_num_threads());
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  const std::vector<c10::IValue> inputs{at::randn({3, 7, 16})};
  for (int run = 0; run < 3; ++run) model->run({inputs}, {});
  EXPECT(at::get_num_threads() == 2);
  at::set_num_threads(before);
  at::removeCallback(handle);
  EXPECT(!threads.empty() && threads.count(1) == threads.size());
}

TEST("a recorder records its module until it is removed") {
  const auto model = load("transformer.pt");
  std::vector<c10::IValue> inputs;
  const auto width = model->parameters().front().tensor.size(1);
  inputs.emplace_back(at::randn({2, 5, width}));
  inputs.emplace_back(at::randn({2, 4, width}));
  for (const auto& argument : model->schema("forward")->arguments()) {
    if (argument.name() != "self" && argument.default_value() &&
        inputs.size() + 1 < model->schema("forward")->arguments().size()) {
      inputs.push_back(*argument.default_value());
    }
  }
  const auto recorder = std::make_shared<lta::Recorder>(lta::HookKind::Forward);
  EXPECT_ERROR(model->addHook("nowhere", recorder), std::string("ERR_UNKNOWN_MODULE"));
  model->addHook("transformer.encoder", recorder);
  model->run({inputs}, {});
  EXPECT(recorder->calls() == 1);
  EXPECT(recorder->last() && recorder->last()->output);
  model->removeHook("transformer.encoder", recorder);
  model->run({inputs}, {});
  EXPECT(recorder->calls() == 1);
}

TEST("a cancelled run stops") {
  const auto model = load("transformer.pt");
  lta::engine::RunOptions options;
  options.cancellation = std::make_shared<lta::Cancellation>();
  options.cancellation->request();
  bool stopped = false;
  try {
    model->run({encoderInputs()}, options);
  } catch (const lta::Cancelled&) {
    stopped = true;
  }
  EXPECT(stopped);
}
