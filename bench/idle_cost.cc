// What the library costs where nothing is asked of it: the same file, in one process, run by turns by libtorch itself
// and by this package's native side. Prints the medians in milliseconds and the quartiles of the ratio as JSON.
//
//   idle_cost model.pt [tokens] [width] [rounds]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "script/script_module.h"

namespace {

template <typename Run>
double milliseconds(Run run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

double quantile(std::vector<double> values, double place) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(place * static_cast<double>(values.size() - 1))];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: idle_cost model.pt [tokens] [width] [rounds]\n");
    return 2;
  }
  const int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 128;
  const int64_t width = argc > 3 ? std::atoll(argv[3]) : 512;
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 40;
  const c10::NoGradGuard noGrad;
  const std::vector<c10::IValue> inputs{at::randn({1, tokens, width})};
  auto plain = torch::jit::load(argv[1]);
  plain.eval();
  const auto ours = lta::ScriptModule::loadFile(argv[1], {});
  std::vector<double> theirTimes;
  std::vector<double> ourTimes;
  std::vector<double> ratios;
  for (int round = -5; round < rounds; ++round) {
    const double theirs = milliseconds([&] { plain.forward(inputs); });
    const double mine = milliseconds([&] { ours->run(inputs, {}); });
    if (round < 0) continue;
    theirTimes.push_back(theirs);
    ourTimes.push_back(mine);
    ratios.push_back(mine / theirs);
  }
  std::printf("{ \"libtorch\": %.3f, \"package\": %.3f, \"ratio\": [%.3f, %.3f, %.3f] }\n", quantile(theirTimes, 0.5),
              quantile(ourTimes, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.5), quantile(ratios, 0.75));
  return 0;
}
