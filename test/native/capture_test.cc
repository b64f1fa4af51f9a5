#include "attention/capture.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "attention/probe.h"
#include "check.h"

namespace {

// Stands for a model of named modules.
class Modules final : public lta::ModuleResolver {
 public:
  std::string current() const override { return name; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
  bool isParameter(const at::Tensor&) const override { return false; }
  std::string name;
};

// Three attentions: two fused, one by hand.
void forward(Modules& modules) {
  const auto q = at::randn({2, 4, 5, 8});
  const auto v = at::randn({2, 4, 5, 8});
  modules.name = "layers.0";
  at::scaled_dot_product_attention(q, q, v);
  modules.name = "layers.1";
  at::scaled_dot_product_attention(q, q, v, {}, 0.0, true);
  modules.name = "layers.2";
  at::matmul(at::softmax(at::matmul(q, q.transpose(-1, -2)), -1), v);
  modules.name = "head";
  at::softmax(v, -1);
}

std::vector<lta::Attention> capture(lta::CaptureOptions options) {
  const c10::NoGradGuard noGrad;
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(std::move(options), modules, nullptr);
  {
    const lta::ProbeScope probe(watching);
    forward(*modules);
  }
  return watching->finish();
}

lta::LayerSelector at_(int64_t position) {
  lta::LayerSelector selector;
  selector.position = position;
  selector.label = std::to_string(position);
  return selector;
}

}  // namespace

TEST("a capture sees each attention with its module, and no classifier") {
  const auto attentions = capture({});
  EXPECT(attentions.size() == 3);
  EXPECT(attentions[0].site.name == "layers.0" && attentions[0].site.operatorName == "scaled_dot_product_attention");
  EXPECT(attentions[2].site.name == "layers.2" && attentions[2].site.operatorName == "softmax");
  for (const auto& attention : attentions) {
    EXPECT(attention.weights.sizes() == (at::IntArrayRef{2, 4, 5, 5}));
    EXPECT((attention.weights.sum(-1) - 1).abs().max().item<double>() < 1e-5);
  }
}

TEST("positions count from either end") {
  lta::CaptureOptions options;
  options.layers = {at_(-1), at_(0)};
  const auto attentions = capture(options);
  EXPECT(attentions.size() == 2 && attentions[0].site.index == 0 && attentions[1].site.index == 2);
}

TEST("a position that isn't there, and a head that isn't, are errors") {
  lta::CaptureOptions options;
  options.layers = {at_(-4)};
  EXPECT_ERROR(capture(options), std::string("ERR_UNKNOWN_MODULE"));
  options.layers.clear();
  options.heads = std::vector<int64_t>{4};
  EXPECT_ERROR(capture(options), std::string("ERR_INVALID_ARGUMENT"));
}

TEST("the budget holds to the byte") {
  lta::CaptureOptions options;
  options.maxBytes = 3 * 2 * 4 * 5 * 5 * 4;
  EXPECT(capture(options).size() == 3);
  options.maxBytes = *options.maxBytes - 1;
  EXPECT_ERROR(capture(options), std::string("ERR_CAPTURE_TOO_LARGE"));
}

TEST("a model that overwrites its weights is noticed") {
  const c10::NoGradGuard noGrad;
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(lta::CaptureOptions{}, modules, nullptr);
  {
    const lta::ProbeScope probe(watching);
    auto weights = at::softmax(at::randn({2, 4, 5, 5}), -1);
    at::matmul(weights, at::randn({2, 4, 5, 8}));
    weights.zero_();
  }
  bool noticed = false;
  try {
    watching->finish();
  } catch (const lta::Overwritten&) {
    noticed = true;
  }
  EXPECT(noticed);
}

TEST("outside a capture nothing is seen") {
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(lta::CaptureOptions{}, modules, nullptr);
  {
    const lta::ProbeScope probe(watching);
  }
  forward(*modules);
  EXPECT_ERROR(watching->finish(), std::string("ERR_NO_ATTENTION"));
}
