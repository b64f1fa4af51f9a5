#include "capture/capture.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cmath>
#include <condition_variable>
#include <mutex>
#include <string_view>
#include <thread>

#include "capture/probe.h"
#include "check.h"
#include "fused/operators.h"
#include "no_warnings.h"

namespace {

// Stands for a model of named modules.
class Modules final : public lta::ModuleResolver {
 public:
  std::string current() const override { return name; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
  bool isParameter(const at::Tensor& tensor) const override {
    return parameter.defined() && tensor.is_alias_of(parameter);
  }
  std::string name;
  at::Tensor parameter;
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

// What a capture of `model` gives. Tensors are inference tensors where the caller is in inference mode.
std::vector<lta::Attention> captureOf(const std::function<void(Modules&)>& model, lta::CaptureOptions options = {}) {
  const c10::NoGradGuard noGrad;
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(std::move(options), modules, nullptr);
  {
    const lta::ProbeScope probe(watching);
    model(*modules);
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

namespace {

// How often libtorch's fused kernel for the CPU runs on this thread meanwhile.
int64_t runsOfFusedKernel(const std::function<void()>& work) {
  static thread_local int64_t count = 0;
  count = 0;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
        if (std::string_view(function.name()) == "aten::_scaled_dot_product_flash_attention_for_cpu") ++count;
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  work();
  at::removeCallback(handle);
  return count;
}

}  // namespace

TEST(
    "with exact: false all rows come of one pass, without the fused kernel; whatever that doesn't serve, of the "
    "kernel") {
  const auto q = at::randn({1, 2, 64, 16});
  const auto model = [&](Modules&) { at::scaled_dot_product_attention(q, q, q); };
  const auto runs = [&](lta::CaptureOptions options) {
    return runsOfFusedKernel([&] { EXPECT(captureOf(model, std::move(options)).size() == 1); });
  };
  EXPECT(runs({}) == 1);
  lta::CaptureOptions options;
  options.exact = false;
  EXPECT(runs(options) == 0);
  auto some = options;
  some.queries = std::vector<int64_t>{3};
  EXPECT(runs(std::move(some)) == 1);
  options.heads = std::vector<int64_t>{1};
  EXPECT(runs(std::move(options)) == 1);
}

TEST("attention of a model that is loaded with optimize gives the same bits with its weights, computed at once") {
  const c10::NoGradGuard noGrad;
  const auto heads = [] { return at::randn({2, 70, 3, 24}).transpose(1, 2); };
  const auto q = heads(), k = heads(), v = heads();
  const std::vector<std::optional<at::Tensor>> masks{std::nullopt, at::rand({2, 1, 70, 70}) > 0.3, at::randn({70, 70})};
  std::vector<lta::SdpaArguments> calls(4, {q, k});
  for (size_t i = 0; i < masks.size(); ++i) calls[i].mask = masks[i];
  calls[3].causal = true;
  using Change = std::function<void(lta::CaptureOptions&)>;
  const std::vector<Change> atOnce{[](auto&) {},
                                   [](auto& each) { each.averageHeads = true; },
                                   [](auto& each) { each.topK = 4; },
                                   [](auto& each) { each.logSumExp = each.received = each.entropy = true; },
                                   [](auto& each) { each.type = lta::KeptType::Half; },
                                   [](auto& each) { each.exact = false; }};
  const std::vector<Change> beside{[](auto& each) { each.heads = std::vector<int64_t>{1}; },
                                   [](auto& each) { each.queries = std::vector<int64_t>{3, 68}; },
                                   [](auto& each) { each.scores = true; }};
  for (const auto& call : calls) {
    const auto expected = lta::fused::attention(call, v, 0);
    const auto libtorchs =
        at::scaled_dot_product_attention(call.query, call.key, v, call.mask, 0, call.causal, call.scale);
    EXPECT(at::allclose(expected, libtorchs, 0, 2e-6) && expected.strides() == libtorchs.strides());
    const auto isSame = [&](const Change& change) {
      at::Tensor output;
      lta::CaptureOptions options;
      change(options);
      std::vector<lta::Attention> attentions;
      EXPECT(runsOfFusedKernel([&] {
               attentions = captureOf(
                   [&](Modules& modules) {
                     modules.name = "layer";
                     output = lta::fused::attention(call, v, 0);
                   },
                   std::move(options));
             }) == 0);
      EXPECT(attentions.size() == 1 && attentions[0].site.name == "layer");
      EXPECT(attentions[0].site.operatorName == "scaled_dot_product_attention");
      return output.equal(expected);
    };
    for (const auto& change : atOnce) EXPECT(isSame(change));
    for (const auto& change : beside) EXPECT(isSame(change));
    const auto weights = captureOf([&](Modules&) { lta::fused::attention(call, v, 0); })[0].weights;
    EXPECT(weights.equal(lta::computeWeights(call, {}).weights));
  }
  // What isn't for it is libtorch's, and seen there.
  const auto few = q.narrow(2, 0, 4), wide = q.to(at::kDouble);
  for (const auto& each : {few, wide}) {
    const lta::SdpaArguments call{each, k.to(each.scalar_type())};
    const auto value = v.to(each.scalar_type());
    at::Tensor output;
    EXPECT(captureOf([&](Modules&) { output = lta::fused::attention(call, value, 0); }).size() == 1);
    EXPECT(output.equal(at::scaled_dot_product_attention(call.query, call.key, value)));
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

TEST("weights stay what they were, whatever is written afterwards into what they came from") {
  lta::CaptureOptions last;
  last.layers = {at_(-1)};
  const std::vector<std::function<void(at::Tensor&)>> writes{
      [](auto& t) { t.zero_(); },
      [](auto& t) { t.view(-1).narrow(0, 3, 5).fill_(9); },
      [](auto& t) { at::mul_out(t, t, t); },
      [](auto& t) { at::_foreach_neg_({t}); },
      [](auto& t) { t.index_put_({at::tensor(0)}, at::tensor(4.0f)); },
      [](auto& t) { t.set_data(at::zeros({1})); },
      [](auto& t) { t.resize_({100}).zero_(); },
      [](auto& t) { t.set_(at::zeros({2})); },
      [](auto& t) { t.transpose_(0, 1).zero_(); },
      [](auto& t) { t.copy_(at::ones({1})); },
      [](auto& t) { t.uniform_(); },
  };
  for (const bool inference : {false, true}) {
    const c10::InferenceMode mode(inference);
    for (const auto& write : writes) {
      at::Tensor expected;
      const auto fused = [&](Modules&) {
        auto q = at::randn({2, 4, 5, 8});
        expected = at::softmax(at::matmul(q, q.transpose(-1, -2)) / std::sqrt(8.0), -1);
        at::scaled_dot_product_attention(q, q, q);
        write(q);
      };
      EXPECT(at::allclose(captureOf(fused, last).back().weights, expected));
      const auto byHand = [&](Modules&) {
        auto weights = at::softmax(at::randn({2, 4, 5, 5}), -1);
        expected = weights.clone();
        at::matmul(weights, at::randn({2, 4, 5, 8}));
        write(weights);
      };
      EXPECT(at::equal(captureOf(byHand).back().weights, expected));
      EXPECT(at::equal(captureOf(byHand, last).back().weights, expected));
    }
  }
}

TEST("a mask that is expanded is copied as small as it is") {
  lta::CaptureOptions last;
  last.layers = {at_(-1)};
  at::Tensor expected;
  const auto attentions = captureOf(
      [&](Modules&) {
        const auto q = at::randn({2, 4, 5, 8});
        auto mask = at::randn({5, 5});
        expected = at::softmax(at::matmul(q, q.transpose(-1, -2)) / std::sqrt(8.0) + mask, -1);
        at::scaled_dot_product_attention(q, q, q, mask.expand({2, 4, 5, 5}));
        mask.zero_();
      },
      last);
  EXPECT(at::allclose(attentions.back().weights, expected, 1e-5, 1e-6));
  EXPECT(lta::cloneOf(at::ones({1, 5}).expand({1000, 5})).storage().nbytes() == 5 * sizeof(float));
}

TEST("jagged batches that are written into keep their weights") {
  lta::CaptureOptions last;
  last.layers = {at_(-1)};
  const NoWarnings quiet;
  const auto a = at::randn({2, 3, 8}), b = at::randn({2, 5, 8});
  const auto run = [&](bool write) {
    return captureOf(
        [&](Modules&) {
          const auto q = at::_nested_tensor_from_tensor_list({a, b});
          at::scaled_dot_product_attention(q, q, q);
          if (write) q.mul_(3);
        },
        last);
  };
  EXPECT(at::equal(run(true).back().weights, run(false).back().weights));
}

TEST("operators that are registered later are watched too, and those that hide what they write are refused") {
  torch::Library library(torch::Library::DEF, "lta_test", std::nullopt, __FILE__, __LINE__);
  library.def("halve_(Tensor(a!) self) -> Tensor(a!)", [](at::Tensor self) { return self.mul_(0.5); });
  library.def("secretly(Tensor self) -> Tensor", [](const at::Tensor& self) {
    const lta::ProbeSuspended suspended;  // as a kernel that writes to memory itself
    self.unsafeGetTensorImpl()->bump_version();
    return self.clone();
  });
  const auto call = [](const char* name, const at::Tensor& tensor) {
    torch::jit::Stack stack{tensor};
    c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  };
  at::Tensor expected;
  const auto model = [&](const char* name) {
    return [&, name](Modules&) {
      const auto weights = at::softmax(at::randn({2, 4, 5, 5}), -1);
      expected = weights.clone();
      at::matmul(weights, at::randn({2, 4, 5, 8}));
      call(name, weights);
    };
  };
  EXPECT(at::equal(captureOf(model("lta_test::halve_")).back().weights, expected));
  EXPECT_ERROR(captureOf(model("lta_test::secretly")), std::string("ERR_MODEL_RUN"));
}

TEST("weights that somebody else still has when the run is over are copied") {
  at::Tensor state;
  const auto attentions = captureOf([&](Modules&) {
    state = at::softmax(at::randn({2, 4, 5, 5}), -1);
    at::matmul(state, at::randn({2, 4, 5, 8}));
  });
  EXPECT(!attentions.back().weights.is_alias_of(state));
}

TEST("a softmax whose product with a parameter is none can still meet its values") {
  for (const bool changed : {false, true}) {
    const auto attentions = captureOf([&](Modules& modules) {
      modules.parameter = at::randn({5, 8});
      const auto weights = at::softmax(at::randn({2, 4, 5, 5}), -1);
      const auto table =
          changed ? modules.parameter.to(at::kDouble).mul(2).to(at::kFloat).t().contiguous().t() : modules.parameter;
      at::matmul(weights, table);
      at::einsum("bhqk,kd->bhqd", {weights, table});
      at::matmul(weights, at::randn({2, 4, 5, 8}));
    });
    EXPECT(attentions.size() == 1);
  }
}

TEST("what a capture computes isn't seen as the model's") {
  const auto attentions = captureOf([](Modules&) {
    const auto q = at::randn({8, 5, 8});
    const auto output = at::scaled_dot_product_attention(q, q, q);
    output.view({2, 4, 5, 8});
    at::bmm(at::softmax(at::bmm(q, q.transpose(1, 2)), -1), q).view({2, 4, 5, 8});
  });
  EXPECT(attentions.size() == 2);
  EXPECT(attentions[0].weights.sizes() == (at::IntArrayRef{2, 4, 5, 5}));
  EXPECT(attentions[1].weights.sizes() == (at::IntArrayRef{2, 4, 5, 5}));
}

TEST("while one attention is handed over, other threads of the run go on") {
  std::mutex mutex;
  std::condition_variable changed;
  bool handedOver = false, othersDone = false;
  lta::CaptureOptions options;
  options.onAttention = [&](lta::Attention) {
    std::unique_lock<std::mutex> lock(mutex);
    if (handedOver) return;
    handedOver = true;
    changed.notify_all();
    // Until the other thread has computed what needs no handing over; it would wait for this for ever.
    EXPECT(changed.wait_for(lock, std::chrono::seconds(60), [&] { return othersDone; }));
  };
  options.layers = {at_(0)};
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(options, modules, nullptr);
  const auto q = at::randn({2, 4, 5, 8});
  std::thread other([&] {
    {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return handedOver; });
    }
    const lta::ProbeScope probe(watching);
    at::scaled_dot_product_attention(q, q, q);
    at::matmul(at::softmax(at::matmul(q, q.transpose(-1, -2)), -1), q).add_(1);
    const std::lock_guard<std::mutex> lock(mutex);
    othersDone = true;
    changed.notify_all();
  });
  {
    const lta::ProbeScope probe(watching);
    at::scaled_dot_product_attention(q, q, q);
  }
  other.join();
  EXPECT(watching->finish().empty());
}

TEST("whatever sizes are zero, weights have the shape and the values that PyTorch's would have") {
  struct Sizes {
    int64_t batch, heads, queries, keys, depth;
  };
  using Way = std::function<void(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)>;
  const auto byHand = [](const at::Tensor& q, const at::Tensor& k) {
    return at::softmax(at::matmul(q, k.transpose(-1, -2)), -1);
  };
  const std::vector<Way> ways{
      [](auto& q, auto& k, auto& v) { at::scaled_dot_product_attention(q, k, v); },
      [&](auto& q, auto& k, auto& v) { at::matmul(byHand(q, k), v); },
      [&](auto& q, auto& k, auto& v) { at::einsum("bhqk,bhkd->bhqd", {byHand(q, k), v}); },
      [](auto& q, auto& k, auto& v) {
        at::scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
            .view({q.size(0), q.size(1), q.size(2), v.size(3)});
      },
      [&](auto& q, auto& k, auto& v) {
        at::bmm(byHand(q.flatten(0, 1), k.flatten(0, 1)), v.flatten(0, 1))
            .view({q.size(0), q.size(1), q.size(2), v.size(3)});
      },
  };
  const auto sweep = [&](const Sizes& sizes) {
    const auto [batch, heads, queries, keys, depth] = sizes;
    for (size_t way = 0; way < ways.size(); ++way) {
      at::Tensor q, k, v, expected;
      const auto model = [&](Modules&) {
        q = at::randn({batch, heads, queries, depth});
        k = at::randn({batch, heads, keys, depth});
        v = at::randn({batch, heads, keys, 3});
        const auto scale = way % 3 == 0 && depth > 0 ? 1 / std::sqrt(static_cast<double>(depth)) : 1.0;
        const lta::ProbeSuspended suspended;
        expected = at::softmax(at::matmul(q, k.transpose(-1, -2)) * scale, -1);
      };
      const auto all = captureOf([&](Modules& modules) {
        model(modules);
        ways[way](q, k, v);
      });
      EXPECT(all.size() == 1 && all[0].weights.sizes() == expected.sizes());
      EXPECT(at::allclose(all[0].weights, expected, 1e-4, 1e-5));
      for (const bool average : {false, true}) {
        for (const bool largest : {false, true}) {
          lta::CaptureOptions options;
          options.layers = {at_(-1)};
          options.averageHeads = average;
          if (largest) options.topK = 2;
          if (average) options.heads = std::vector<int64_t>{};
          if (largest) options.queries = std::vector<int64_t>{};
          const auto some = captureOf(
              [&](Modules& modules) {
                model(modules);
                ways[way](q, k, v);
              },
              options);
          const auto rows = largest ? 0 : queries, columns = largest ? std::min<int64_t>(2, keys) : keys;
          EXPECT(some[0].weights.sizes() ==
                 (average ? at::IntArrayRef{batch, rows, columns} : at::IntArrayRef{batch, heads, rows, columns}));
        }
      }
      const c10::AutoGradMode grad(true);
      const auto modules = std::make_shared<Modules>();
      lta::CaptureOptions options;
      options.gradients = true;
      const auto watching = std::make_shared<lta::Capture>(options, modules, nullptr);
      at::Tensor scalar;
      {
        const lta::ProbeScope probe(watching);
        q = at::randn({batch, heads, queries, depth}).requires_grad_();
        k = at::randn({batch, heads, keys, depth});
        v = at::randn({batch, heads, keys, 3});
        if (way == 0) scalar = at::scaled_dot_product_attention(q, k, v).sum();
        if (way != 0) scalar = at::matmul(byHand(q, k), v).sum();
      }
      const auto attentions = watching->finish();
      const auto gradients = lta::gradientsOf(scalar, {attentions[0].gradient}, nullptr);
      EXPECT(gradients[0].sizes() == (at::IntArrayRef{batch, heads, queries, keys}));
    }
  };
  const int64_t some[] = {0, 1, 2, 7};
  for (const auto batch : {0, 2}) {
    for (const auto heads : {0, 1, 2}) {
      for (const auto queries : some) {
        for (const auto keys : some) {
          for (const auto depth : {0, 4}) sweep({batch, heads, queries, keys, depth});
        }
      }
    }
  }
}

TEST("outside a capture nothing is seen") {
  const auto modules = std::make_shared<Modules>();
  const auto watching = std::make_shared<lta::Capture>(lta::CaptureOptions{}, modules, nullptr);
  {
    const lta::ProbeScope probe(watching);
  }
  forward(*modules);
  EXPECT(watching->finish().empty() && !watching->noAttention().empty());
}
