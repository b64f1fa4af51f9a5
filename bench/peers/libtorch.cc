// The same file without Node, driven line by line (bench/peers/serve.mjs says what is spoken): by libtorch itself, as
// any C++ program would run it (`libtorch`), and by this package's native side (`package`). Their difference is what
// the package costs where nothing is asked of it. `floor` is what every weight of the BERT-like model costs at least
// beside its fused kernels.
//
//   libtorch_peer THREADS MODEL WIDTH        (WIDTH 0: the model takes token ids)
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <algorithm>
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
#include "runtime/shared_tasks.h"
#include "script/load.h"
#include "weights/cpu/kernels.h"

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

// The products of queries and keys, their exponentials, and one write of the weights past the caches, into memory that
// is there: in tiles that stay in a core's cache, with operands that do, without anything else.
class Floor {
 public:
  Floor(int64_t batch, int64_t tokens)
      : matrices_(kLayers * batch * kHeads),
        tokens_(tokens),
        query_(at::randn({tokens, kDepth})),
        panels_(at::zeros({(tokens + kPadding) * kDepth})),
        weights_(at::zeros({matrices_, tokens, tokens})) {
    const auto key = at::randn({tokens, kDepth});
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(kDepth)));
    lta::arrangeKey(key.const_data_ptr<float>(), kDepth, tokens, kDepth, scale, panels_.mutable_data_ptr<float>());
  }

  at::Tensor once() {
    const auto step = lta::rowsAtOnce();
    const auto rows = std::max<int64_t>(2, kTileBytes / static_cast<int64_t>(sizeof(float)) / tokens_ / step) * step;
    const auto tiles = (tokens_ + rows - 1) / rows;
    lta::shareTasks(matrices_ * tiles, at::get_num_threads(), [&](int64_t task) {
      const auto first = task % tiles * rows, count = std::min(rows, tokens_ - first);
      const auto stride = tokens_ + kPadding;
      thread_local std::vector<float> tile, sums;
      tile.resize(static_cast<size_t>(rows * stride));
      sums.resize(static_cast<size_t>(rows));
      lta::multiplyExponentials(query_.const_data_ptr<float>() + first * kDepth, kDepth, count,
                                panels_.const_data_ptr<float>(), kDepth, tokens_, {}, tile.data(), stride, sums.data());
      auto* const to = weights_.mutable_data_ptr<float>() + (task / tiles * tokens_ + first) * tokens_;
      for (int64_t row = 0; row < count; ++row) {
        lta::scaleInto(to + row * tokens_, tile.data() + row * stride, 1 / sums[static_cast<size_t>(row)], tokens_);
      }
    });
    return weights_;
  }

 private:
  // Of the model that make_models.py makes.
  static constexpr int64_t kLayers = 6, kHeads = 12, kDepth = 32;
  // A panel more than whole ones, and no multiple of a page between rows.
  static constexpr int64_t kPadding = 80;
  static constexpr int64_t kTileBytes = 256 * 1024;
  int64_t matrices_, tokens_;
  at::Tensor query_, panels_, weights_;
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
  const auto once = way == "floor" ? Once([floor = std::make_shared<Floor>(batch, tokens)] { return floor->once(); })
                                   : models.prepare(way, input(width, batch, tokens));
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
