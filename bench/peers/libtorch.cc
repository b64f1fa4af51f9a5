// The same file without Node, driven line by line (bench/peers/serve.mjs says what is spoken): by libtorch itself, as
// any C++ program would run it (`libtorch`), and by this package's native side (`package`). Their difference is what
// the package costs where nothing is asked of it.
//
//   libtorch_peer THREADS MODEL WIDTH        (WIDTH 0: the model takes token ids)
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "registration.h"
#include "script/load.h"

namespace {

using Once = std::function<at::Tensor()>;

// The two ways to run one file, each loaded when it is first asked for.
class Models {
 public:
  explicit Models(std::string path) : path_(std::move(path)) {}

  void load(const std::string& way) {
    if (way == "package") {
      if (!package_) package_ = lta::script::loadFile(path_, {});
    } else if (way == "libtorch") {
      if (!libtorch_) {
        libtorch_ = torch::jit::load(path_);
        libtorch_->eval();
      }
    } else {
      throw std::invalid_argument("expected the way libtorch or package but received " + way);
    }
  }

  Once prepare(const std::string& way, at::Tensor input) {
    load(way);
    std::vector<c10::IValue> inputs{std::move(input)};
    if (way == "package") return [this, inputs] { return package_->run({inputs}, {}).toTensor(); };
    return [this, inputs] { return libtorch_->forward(inputs).toTensor(); };
  }

 private:
  std::string path_;
  std::optional<torch::jit::Module> libtorch_;
  std::shared_ptr<lta::script::ScriptModule> package_;
};

// The same numbers as in bench/models.mjs.
at::Tensor input(int64_t width, int64_t batch, int64_t tokens) {
  if (width == 0) return (at::arange(batch * tokens, at::kLong) * 7919).remainder(1000).reshape({batch, tokens});
  const auto numbers = at::arange(batch * tokens * width, at::kLong).remainder(10007).to(at::kDouble);
  return numbers.sin().to(at::kFloat).reshape({batch, tokens, width});
}

// A field of this process's status in bytes; 0 where the system doesn't tell.
long long status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::atoll(line.c_str() + name.size() + 1) * 1024;
  }
  return 0;
}

double milliseconds(const Once& once, int64_t count) {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t run = 0; run < count; ++run) once();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

void perform(Models& models, int64_t width, std::istringstream& request) {
  std::string task;
  std::string way;
  int64_t batch = 1;
  int64_t tokens = 1;
  int64_t count = 1;
  request >> task >> way;
  if (task == "load") {
    models.load(way);
    std::printf("{}\n");
    return;
  }
  request >> batch >> tokens >> count;
  const auto once = models.prepare(way, input(width, batch, tokens));
  if (task == "output") {
    const auto values = once().flatten().slice(0, 0, 16).contiguous();
    std::printf("{\"values\": [");
    for (int64_t i = 0; i < values.numel(); ++i) std::printf(i ? ", %.9g" : "%.9g", values.const_data_ptr<float>()[i]);
    std::printf("]}\n");
  } else if (task == "memory") {
    const auto before = status("VmRSS");
    std::ofstream("/proc/self/clear_refs") << "5";
    const auto taken = milliseconds(once, count);
    const auto peak = status("VmHWM");
    std::printf("{\"ms\": %.4f, \"before\": %lld, \"peak\": %lld, \"after\": %lld}\n", taken, before, peak,
                status("VmRSS"));
  } else {
    std::printf("{\"ms\": %.6f}\n", milliseconds(once, count));
  }
}

// A message as the inside of a JSON string.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  lta::registerOperators();
  if (argc < 4) {
    std::fprintf(stderr, "usage: libtorch_peer THREADS MODEL WIDTH\n");
    return 2;
  }
  at::set_num_threads(std::atoi(argv[1]));
  const c10::NoGradGuard noGrad;
  Models models(argv[2]);
  const int64_t width = std::atoll(argv[3]);
  std::printf("{\"ready\": {\"libtorch (C++)\": \"%s\"}}\n", TORCH_VERSION);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream request(line);
    try {
      perform(models, width, request);
    } catch (const std::exception& error) {
      std::printf("{\"error\": \"%s\"}\n", escaped(error.what()).c_str());
    }
    std::fflush(stdout);
  }
  return 0;
}
