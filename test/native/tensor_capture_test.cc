#include "capture/tensor_capture.h"

#include <ATen/ATen.h>
#include <ATen/ThreadLocalState.h>
#include <c10/core/GradMode.h>

#include <thread>

#include "check.h"
#include "no_warnings.h"
#include "runtime/error.h"
#include "runtime/run_scope.h"
#include "torch/own_computation.h"

namespace {

// Stands for a model of named modules.
class Modules final : public lta::ModuleResolver {
 public:
  std::string current() const override { return name; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
  bool isParameter(const at::Tensor&) const override { return false; }
  std::string name;
};

std::vector<lta::CapturedTensor> captureOf(const std::function<void(Modules&)>& model,
                                           lta::TensorCaptureOptions options = {}) {
  const c10::NoGradGuard noGrad;
  const auto modules = std::make_shared<Modules>();
  const auto capture = std::make_shared<lta::TensorCapture>(std::move(options), modules);
  {
    const lta::RunScope observed(capture);
    try {
      model(*modules);
    } catch (...) {
      if (const auto failure = capture->failure()) std::rethrow_exception(failure);
      throw;
    }
  }
  return capture->finish();
}

lta::TensorCaptureOptions of(const char* operatorName, std::optional<int64_t> occurrence = std::nullopt) {
  lta::TensorCaptureOptions options;
  options.selector.operatorName = operatorName;
  options.selector.occurrence = occurrence;
  return options;
}

std::string described(const std::vector<lta::CapturedTensor>& tensors) {
  std::string text;
  for (const auto& each : tensors) {
    text += each.name + "/" + each.operatorName + "/" + std::to_string(each.occurrence) + "/" +
            std::to_string(each.output) + " ";
  }
  return text;
}

}  // namespace

TEST("operators that a model calls are seen, not what they are made of nor what is computed beside it") {
  const auto a = at::randn({2, 3, 4, 5}), b = at::randn({2, 3, 5, 4});
  const auto tensors = captureOf([&](Modules& modules) {
    modules.name = "x";
    const auto product = at::matmul(a, b);  // an expansion, a bmm, a view
    {
      const lta::OwnComputation own;
      product.exp();
    }
    modules.name = "x.y";
    at::softmax(product, -1);
    at::softmax(product, -2);
  });
  EXPECT(described(tensors) == "x/matmul/0/0 x.y/softmax/0/0 x.y/softmax/1/0 ");
  EXPECT(at::equal(tensors[0].tensor, at::matmul(a, b)));
}

TEST("values stay what they were when they were computed") {
  const auto x = at::randn({4, 6});
  const auto tensors = captureOf([&](Modules&) {
    auto y = x + 1;
    auto part = y.narrow(0, 1, 2);
    part.mul_(3);
    y.fill_(7);
  });
  EXPECT(described(tensors) == "/add/0/0 /narrow/0/0 /mul_/0/0 /fill_/0/0 ");
  EXPECT(at::equal(tensors[0].tensor, x + 1));
  EXPECT(at::equal(tensors[1].tensor, x.narrow(0, 1, 2) + 1));
  EXPECT(at::equal(tensors[2].tensor, (x.narrow(0, 1, 2) + 1) * 3));
  EXPECT(tensors[1].tensor.is_contiguous() && !tensors[1].tensor.is_alias_of(tensors[2].tensor));
}

TEST("each tensor of a tuple and of a list has its place") {
  const auto x = at::randn({6, 4});
  const auto tensors = captureOf([&](Modules&) {
    at::topk(x, 2);
    at::split(x, 2);
  });
  EXPECT(described(tensors) == "/topk/0/0 /topk/0/1 /split/0/0 /split/0/1 /split/0/2 ");
  EXPECT(tensors[1].tensor.scalar_type() == at::kLong);
  EXPECT(at::equal(tensors[4].tensor, x.narrow(0, 4, 2)));
}

TEST("values of any layout come out dense") {
  const NoWarnings quiet;
  const auto quantized = at::quantize_per_tensor(at::arange(6, at::kFloat), 0.5, 1, at::kQInt8);
  const auto jagged = [](Modules&) {
    const auto nested =
        at::_nested_tensor_from_mask(at::ones({2, 3, 4}), at::tensor({1, 1, 1, 1, 1, 0}).view({2, 3}).to(at::kBool));
    at::relu(nested);
  };
  const auto padded = captureOf(jagged, of("relu"));
  EXPECT(padded[0].tensor.sizes() == at::IntArrayRef({2, 3, 4}) && padded[0].tensor.sum().item<double>() == 20);
  const auto numbers = captureOf([&](Modules&) { at::clone(quantized); }, of("clone"));
  EXPECT(numbers[0].tensor.scalar_type() == at::kFloat && numbers[0].tensor.sum().item<double>() == 15);
  const auto sparse = captureOf([&](Modules&) { at::eye(3).to_sparse().mul(2.0); }, of("mul"));
  EXPECT(at::equal(sparse[0].tensor, at::eye(3) * 2));
}

TEST("threads that the run forks are observed too, and nothing is once it is over") {
  const auto modules = std::make_shared<Modules>();
  const auto capture = std::make_shared<lta::TensorCapture>(lta::TensorCaptureOptions{}, modules);
  const auto x = at::randn({3});
  std::optional<at::ThreadLocalState> state;
  {
    const lta::RunScope observed(capture);
    state.emplace();
  }
  const auto forked = [&] {
    std::thread thread([&] {
      const at::ThreadLocalStateGuard guard(*state);
      at::exp(x);
    });
    thread.join();
  };
  at::exp(x);
  forked();
  EXPECT(described(capture->finish()) == "/exp/0/0 ");
  forked();
  state.reset();
  EXPECT(lta::RunScope::inFlight() == 0);
}

TEST("an observed run can still be stopped, and keeps its cancellation") {
  const auto run = std::make_shared<lta::Cancellation>();
  const auto modules = std::make_shared<Modules>();
  const auto capture = std::make_shared<lta::TensorCapture>(lta::TensorCaptureOptions{}, modules);
  bool stopped = false;
  try {
    lta::inRun(run, false, nullptr, [&] {
      const lta::RunScope observed(capture);
      EXPECT(lta::Cancellation::current() == run.get());
      auto x = at::ones({2});
      run->request();
      x.add(1);
    });
  } catch (const lta::Cancelled&) {
    stopped = true;
  }
  EXPECT(stopped);
}

TEST("what doesn't fit a selector is told with what there was") {
  const auto model = [](Modules& modules) {
    modules.name = "block.linear";
    at::relu(at::ones({2}));
  };
  EXPECT_ERROR(captureOf(model, of("gelu")), std::string("ERR_INVALID_ARGUMENT"));
  EXPECT_ERROR(captureOf(model, of("relu", 1)), std::string("ERR_INVALID_ARGUMENT"));
  lta::TensorCaptureOptions options;
  options.selector.modules = {"block"};
  EXPECT_ERROR(captureOf(model, options), std::string("ERR_UNKNOWN_MODULE"));
  options.selector.modules = {"block.linear"};
  EXPECT(captureOf(model, options).size() == 2);
  options.maxBytes = 15;
  EXPECT_ERROR(captureOf(model, options), std::string("ERR_CAPTURE_TOO_LARGE"));
}
