#include "capture/flow/flow.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include "capture/assembly.h"
#include "capture/capture.h"
#include "capture/probe.h"
#include "check.h"

namespace {

using namespace lta::flow;

class NoModules final : public lta::ModuleResolver {
 public:
  std::string current() const override { return "attention"; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
  bool isParameter(const at::Tensor& tensor) const override {
    return parameter.defined() && tensor.is_alias_of(parameter);
  }
  at::Tensor parameter;
};

struct Run {
  std::vector<lta::Attention> attentions;
  std::vector<lta::Unseen> unseen;
};

Run run(const std::function<void(NoModules&)>& model, lta::CaptureOptions options = {}) {
  const c10::NoGradGuard noGrad;
  const auto modules = std::make_shared<NoModules>();
  const auto capture = std::make_shared<lta::Capture>(std::move(options), modules, nullptr);
  {
    const lta::ProbeScope probe(capture);
    model(*modules);
  }
  auto attentions = capture->finish();
  return {std::move(attentions), capture->unseen()};
}

lta::CaptureOptions mayMiss() {
  lta::CaptureOptions options;
  options.mayMiss = true;
  return options;
}

at::Tensor scores() {
  const auto q = at::randn({2, 3, 4, 8}), k = at::randn({2, 3, 5, 8});
  return at::matmul(q, k.transpose(-1, -2));
}

at::Tensor values() { return at::randn({2, 3, 5, 6}); }

// The weights that `between` makes of a softmax, as a capture records them, are what it gave.
lta::Attention only(const std::function<at::Tensor(const at::Tensor&)>& between) {
  at::Tensor expected;
  const auto result = run([&](NoModules&) {
    expected = between(at::softmax(scores(), -1));
    at::matmul(expected, at::randn({2, expected.size(1), expected.size(-1), 6}));
  });
  EXPECT(result.attentions.size() == 1 && result.unseen.empty());
  EXPECT(at::equal(result.attentions.at(0).weights, expected));
  return result.attentions.at(0);
}

}  // namespace

TEST("Layout: views are told by their strides: permuted, sliced, merged, split") {
  const auto whole = at::randn({2, 3, 4, 5});
  const auto layout = layoutOf(whole, {{{0, 0, 1, 2}}, {{1, 0, 1, 3}}, {{2, 0, 1, 4}}, {{3, 0, 1, 5}}}, {});
  const auto merged = layout.view(whole.view({6, 4, 5}));
  EXPECT(merged && merged->dims[0].size() == 2 && merged->dims[0][0].span.dim == 0 && merged->dims[0][1].span.dim == 1);
  const auto turned = layout.view(whole.permute({0, 3, 1, 2}));
  EXPECT(turned && turned->has(1, 3) && turned->has(3, 2));
  const auto part = layout.view(whole.select(1, 2).narrow(2, 1, 3));
  EXPECT(part && part->dims[2][0].span.start == 1 && part->dims[2][0].span.size == 3);
  EXPECT(part && part->fixed.size() == 1 && part->fixed[0].dim == 1 && part->fixed[0].start == 2);
  const auto every = layout.view(whole.slice(3, 1, 5, 2));
  EXPECT(every && every->dims[3][0].span.start == 1 && every->dims[3][0].span.step == 2);
  EXPECT(!layout.view(whole.diagonal(0, 2, 3)));
}

TEST("rules: element by element, weights are followed, and told what they are") {
  using lta::Kind;
  EXPECT(only([](auto& w) { return w + 1e-8; }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return w / w.sum(-1, true); }).site.kind == Kind::Softmax);
  EXPECT(only([](auto& w) { return w * -1.0; }).site.kind == Kind::Signed);
  EXPECT(only([](auto& w) { return w - w.mean(); }).site.kind == Kind::Signed);
  EXPECT(only([](auto& w) { return w.pow(2).clamp(0.1, 0.5); }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return w.to(at::kDouble).to(at::kFloat); }).site.kind == Kind::Softmax);
  EXPECT(only([](auto& w) { return w.masked_fill(w.lt(0.1), 0.0); }).site.path ==
         std::vector<std::string>{"masked_fill"});
  EXPECT(only([](auto& w) { return at::where(w.lt(0.1), at::zeros({}), w).clone(); }).site.kind == Kind::Unnormalized);
}

TEST("rules: what joins, cuts, moves and mixes is followed") {
  using lta::Kind;
  EXPECT(only([](auto& w) { return at::cat({w, w * 0.5}, -1); }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return at::constant_pad_nd(w, {0, 2}); }).weights.size(-1) == 7);
  EXPECT(only([](auto& w) { return std::get<0>(w.topk(3, -1)); }).weights.size(-1) == 3);
  EXPECT(only([](auto& w) { return w.index_select(-1, at::tensor({4, 0, 1})); }).weights.size(-1) == 3);
  EXPECT(only([](auto& w) { return w.flip({-1}); }).site.shape.heads == 3);
  EXPECT(only([](auto& w) { return w.mean(1, true); }).site.kind == Kind::Softmax);
  EXPECT(only([](auto& w) { return at::einsum("bhqk,hg->bgqk", {w, at::randn({3, 7})}); }).site.shape.heads == 7);
  EXPECT(only([](auto& w) { return at::conv2d(w, at::randn({4, 3, 1, 1})); }).site.kind == Kind::Signed);
}

TEST("products: as many as there are operators for them") {
  const auto w = [] { return at::softmax(at::matmul(at::randn({4, 8}), at::randn({8, 5})), -1); };
  const std::vector<std::function<at::Tensor(const at::Tensor&)>> products{
      [](auto& w) { return at::mm(w, at::randn({5, 6})); },
      [](auto& w) { return at::mv(w, at::randn({5})); },
      [](auto& w) { return at::matmul(at::randn({6, 5}), w.t()); },
      [](auto& w) { return at::addmm(at::randn({4, 6}), w, at::randn({5, 6})); },
      [](auto& w) { return at::linear(w, at::randn({6, 5})); },
      [](auto& w) { return at::tensordot(w, at::randn({5, 6}), {1}, {0}); },
      [](auto& w) { return at::einsum("qk,kd->qd", {w, at::randn({5, 6})}); },
      [](auto& w) { return (w.unsqueeze(-1) * at::randn({5, 6})).sum(1); },
      [](auto& w) { return at::bmm(w.unsqueeze(0), at::randn({1, 5, 6})); },
      [](auto& w) { return at::baddbmm(at::randn({1, 4, 6}), w.unsqueeze(0), at::randn({1, 5, 6})); },
  };
  for (const auto& product : products) {
    at::Tensor expected;
    const auto result = run([&](NoModules&) { product(expected = w()); });
    EXPECT(result.attentions.size() == 1 && result.unseen.empty());
    EXPECT(at::equal(result.attentions.at(0).weights[0][0], expected));
  }
}

TEST("weights that are taken in parts are put together, whatever the parts") {
  for (const int64_t dim : {0, 1, 2, 3}) {
    at::Tensor expected;
    const auto result = run([&](NoModules&) {
      expected = at::softmax(scores(), -1);
      const auto v = values();
      for (const auto& part : expected.split(2, dim)) {
        const auto first = part.storage_offset() / std::max<int64_t>(1, expected.stride(dim));
        at::matmul(part, dim == 2 ? v : v.narrow(dim == 3 ? 2 : dim, first, part.size(dim)));
      }
    });
    EXPECT(result.attentions.size() == 1);
    EXPECT(at::equal(result.attentions.at(0).weights, expected));
  }
}

TEST("a part that no other follows is all there is, and no distribution where keys are missing") {
  const auto result = run([](NoModules&) {
    at::matmul(at::softmax(scores(), -1).narrow(-1, 0, 4), values().narrow(2, 0, 4));
    at::matmul(at::softmax(scores(), -1), values());
  });
  EXPECT(result.attentions.size() == 2);
  EXPECT(result.attentions.at(0).site.shape.keys == 4 && result.attentions.at(0).site.kind == lta::Kind::Unnormalized);
}

TEST("weights that something else makes of scores, and scores that nothing does") {
  at::Tensor expected;
  const auto sigmoid = run([&](NoModules&) { at::matmul(expected = at::sigmoid(scores()), values()); });
  EXPECT(sigmoid.attentions.size() == 1 && sigmoid.attentions[0].site.operatorName == "sigmoid");
  EXPECT(at::equal(sigmoid.attentions.at(0).weights, expected));
  const auto alone = run([](NoModules&) { at::softmax(scores(), -1); });
  EXPECT(alone.attentions.empty() && alone.unseen.size() == 1 && alone.unseen[0].name == "attention");
  const auto blocks = run([](NoModules&) { at::matmul(at::exp(scores()), values()); });
  EXPECT(blocks.attentions.empty() && blocks.unseen.size() == 1);
}

TEST("a layer and its activation are no attention") {
  const auto result = run([](NoModules& modules) {
    modules.parameter = at::randn({8, 8});
    const auto hidden = at::relu(at::matmul(at::randn({2, 5, 8}), modules.parameter));
    at::softmax(at::matmul(hidden, modules.parameter.t()), -1);
  });
  EXPECT(result.attentions.empty() && result.unseen.empty());
}

TEST("nothing is kept alive, and what took a dead one's place isn't followed") {
  const auto result = run([](NoModules&) {
    for (int i = 0; i < 100; ++i) {
      {
        const auto weights = at::softmax(at::randn({2, 3, 4, 5}), -1);
      }
      at::matmul(at::randn({2, 3, 4, 5}), values());
    }
  });
  EXPECT(result.attentions.empty());
}

TEST("kinds follow from what functions do to signs") {
  using lta::Kind;
  EXPECT(only([](auto& w) { return (w * 255).round() / 255; }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return (w - 0.1).pow(3); }).site.kind == Kind::Signed);
  EXPECT(only([](auto& w) { return (w - 0.1).pow(2); }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return at::sin(w); }).site.kind == Kind::Signed);
  EXPECT(only([](auto& w) { return at::hardshrink(w, 0.1); }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) { return w.index_fill(-1, at::tensor({0, 2}, at::kLong), 0.0); }).site.kind ==
         Kind::Unnormalized);
  EXPECT(only([](auto& w) {
           return at::zeros_like(w).index_copy(-1, at::tensor({4, 3, 2, 1, 0}, at::kLong), w);
         }).weights.size(1) == 3);
  EXPECT(only([](auto& w) { return at::avg_pool2d(w, {1, 3}, {1, 1}, {0, 1}); }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) {
           auto copy = w.clone();
           copy.select(-1, 0).fill_(0.25);
           return copy;
         }).site.kind == Kind::Unnormalized);
  EXPECT(only([](auto& w) {
           auto copy = w.clone();
           copy.select(-1, 0).copy_(at::randn({2, 3, 4}));
           return copy;
         }).site.kind == Kind::Signed);
}

TEST("weights times weights are the weights of two steps") {
  at::Tensor expected;
  const auto result = run([&](NoModules&) {
    const auto s = scores();
    expected = at::matmul(at::softmax(s, -1), at::softmax(s, -2).transpose(-1, -2));
    at::matmul(expected, at::randn({2, 3, 4, 6}));
  });
  EXPECT(result.attentions.size() == 1 && result.unseen.empty());
  EXPECT(at::equal(result.attentions.at(0).weights, expected));
}

TEST("a softmax written out, of scores that a layer gave") {
  for (const bool logarithm : {false, true}) {
    at::Tensor expected;
    const auto result = run([&](NoModules& modules) {
      modules.parameter = at::randn({1, 8});
      const auto s = at::linear(at::randn({2, 5, 8}), modules.parameter).squeeze(-1);
      const auto raised = (s - s.amax(-1, true)).exp();
      expected = logarithm ? at::log_softmax(s, -1).exp() : raised / raised.sum(-1, true);
      at::bmm(expected.unsqueeze(1), at::randn({2, 5, 6}));
    });
    EXPECT(result.attentions.size() == 1 && result.unseen.empty());
    EXPECT(result.attentions.at(0).site.kind == lta::Kind::Softmax);
    EXPECT(at::equal(result.attentions.at(0).weights.flatten(0, 2), expected));
  }
}

TEST("softmaxes in blocks are listed, wherever their sums are taken") {
  const auto listed = [](const std::function<void(NoModules&)>& model) { return run(model, mayMiss()).unseen.size(); };
  EXPECT(listed([](auto&) {
           const auto s = scores();
           at::matmul(at::softmax(s, -1), values());
           at::logsumexp(s, {-1}, true);
         }) == 1);
  EXPECT(listed([](auto&) {
           const auto q = at::randn({2, 4, 8});
           auto sum = at::zeros({2, 4, 1}), mixed = at::zeros({2, 4, 6});
           for (int key = 0; key < 3; ++key) {
             const auto p = (q * at::randn({2, 1, 8})).sum(-1, true).exp();
             sum = sum + p;
             mixed = mixed + p * at::randn({2, 1, 6});
           }
           mixed / sum;
         }) == 1);
  // Weights of one block each, whose products a difference of log-sum-exps weighs.
  EXPECT(listed([](auto&) {
           const auto a = scores(), b = scores();
           const auto sumA = at::logsumexp(a, {-1}, true), sumB = at::logsumexp(b, {-1}, true);
           const auto all = at::logaddexp(sumA, sumB);
           at::matmul((a - sumA).exp(), values()) * (sumA - all).exp();
           at::matmul((b - sumB).exp(), values()) * (sumB - all).exp();
         }) == 2);
  EXPECT(listed([](auto&) {
           const auto s = scores();
           at::matmul((s - at::logsumexp(s, {-1}, true)).exp(), values());
         }) == 0);
  EXPECT(listed([](auto&) {
           const auto x = at::randn({2, 4, 8});
           at::div(x.exp() - (-x).exp(), x.exp() + (-x).exp());  // tanh
         }) == 0);
}

TEST("blocks of exponentials over one sum are each an attention") {
  at::Tensor first, second;
  const auto result = run([&](NoModules&) {
    const auto a = scores().exp(), b = scores().exp();
    const auto sum = a.sum(-1, true) + b.sum(-1, true);
    first = a / sum;
    second = b / sum;
    at::matmul(first, values());
    at::matmul(second, values());
  });
  EXPECT(result.attentions.size() == 2 && result.unseen.empty());
  EXPECT(at::equal(result.attentions.at(0).weights, first) && at::equal(result.attentions.at(1).weights, second));
  EXPECT(result.attentions.at(1).site.kind == lta::Kind::Unnormalized);
}

TEST("weights that multiply other weights along other axes are listed") {
  const auto result = run(
      [&](NoModules&) {
        const auto rows = at::softmax(at::bmm(at::randn({2, 3, 8}), at::randn({2, 8, 4})), -1);
        const auto columns = at::softmax(at::bmm(at::randn({2, 5, 8}), at::randn({2, 8, 6})), -1);
        const auto both = rows.view({2, 3, 1, 4, 1}) * columns.view({2, 1, 5, 1, 6});
        at::bmm(both.reshape({2, 15, 24}), at::randn({2, 24, 7}));
      },
      mayMiss());
  EXPECT(result.attentions.empty() && result.unseen.size() == 2);
}

TEST("a window that slides: each position is a query, whether its dimension of size one is there or not") {
  for (const bool one : {true, false}) {
    const auto result = run([&](NoModules& modules) {
      modules.parameter = at::randn({12, 8});
      const auto layer = [&] {
        return at::linear(at::randn({2, 5, 8}), modules.parameter).view({2, 5, 3, 4}).transpose(1, 2);
      };
      const auto window = [&] { return at::constant_pad_nd(layer(), {0, 0, 1, 1}).unfold(2, 3, 1); };
      const auto q = layer(), keys = window(), values = window();
      if (one) {
        at::matmul(at::softmax(at::matmul(q.unsqueeze(-2), keys), -1), values.transpose(-1, -2));
      } else {
        at::einsum("bhtw,bhtdw->bhtd", {at::softmax(at::einsum("bhtd,bhtdw->bhtw", {q, keys}), -1), values});
      }
    });
    EXPECT(result.attentions.at(0).site.shape.sizes() == std::vector<int64_t>({2, 3, 5, 3}));
  }
}

TEST("what isn't known of heads isn't known of weights that something was done to, either") {
  const auto known = [](bool between) {
    return run([&](NoModules& modules) {
             modules.parameter = at::randn({8, 8});
             const auto layer = [&] { return at::linear(at::randn({2, 3, 5, 8}), modules.parameter); };
             auto weights = at::softmax(at::matmul(layer(), layer().transpose(-1, -2)), -1);
             if (between) weights = at::cat({weights.narrow(-1, 0, 2), weights.narrow(-1, 2, 3)}, -1);
             at::matmul(weights, layer());
           })
        .attentions.at(0)
        .site.shape.headsKnown;
  };
  EXPECT(!known(false) && !known(true));
}

TEST("heads that stand ahead of windows are heads; hard attention is listed") {
  const auto result = run([&](NoModules& modules) {
    modules.parameter = at::randn({12, 8});
    const auto layer = [&] {
      return at::linear(at::randn({2, 8, 8}), modules.parameter).view({2, 4, 2, 3, 4}).permute({0, 3, 1, 2, 4});
    };
    const auto q = layer(), k = layer();
    at::scaled_dot_product_attention(q, k, layer());
  });
  EXPECT(result.attentions.at(0).site.shape.sizes() == std::vector<int64_t>({2, 4, 3, 2, 2}));
  const auto chosen = run(
      [&](NoModules& modules) {
        modules.parameter = at::randn({8, 8});
        const auto layer = [&] { return at::linear(at::randn({2, 5, 8}), modules.parameter); };
        const auto best = at::bmm(layer(), layer().transpose(1, 2)).argmax(-1);
        at::bmm(at::one_hot(best, 5).to(at::kFloat), layer());
      },
      mayMiss());
  EXPECT(chosen.attentions.empty() && chosen.unseen.size() == 1);
}

TEST(
    "without a matrix of queries and keys: states of recurrences, averages by exponentials, weights of positions are "
    "listed") {
  const auto listed = [](const std::function<void(const std::function<at::Tensor(int64_t)>&)>& model) {
    const auto result = run(
        [&](NoModules& modules) {
          modules.parameter = at::randn({1, 8, 8});
          model([&](int64_t width) {
            return at::linear(at::randn({2, 6, 8}), modules.parameter.select(0, 0).narrow(0, 0, width));
          });
        },
        mayMiss());
    EXPECT(result.attentions.empty());
    return result.unseen.size();
  };
  // What was read of the state is subtracted from the values.
  EXPECT(listed([](auto& layer) {
           const auto q = layer(8), k = layer(8), v = layer(8);
           auto state = at::zeros({2, 8, 8});
           for (int64_t step = 0; step < 3; ++step) {
             const auto key = k.select(1, step);
             const auto rest = v.select(1, step) - at::bmm(state, key.unsqueeze(-1)).squeeze(-1);
             state = state + rest.unsqueeze(-1) * key.unsqueeze(-2);
             at::bmm(state, q.select(1, step).unsqueeze(-1));
           }
         }) == 1);
  // The same by einsum, with a rate for each head.
  EXPECT(listed([](auto& layer) {
           const auto k = layer(8).view({2, 6, 2, 4}), v = layer(8).view({2, 6, 2, 4}), rate = layer(2).sigmoid();
           auto state = at::zeros({2, 2, 4, 4});
           for (int64_t step = 0; step < 3; ++step) {
             const auto key = k.select(1, step);
             const auto rest = v.select(1, step) - at::einsum("bhkv,bhk->bhv", {state, key});
             state = state + at::einsum("bhk,bhv->bhkv", {key, rest * rate.select(1, step).unsqueeze(-1)});
             at::einsum("bhkv,bhk->bhv", {state, key});
           }
         }) == 1);
  EXPECT(listed([](auto& layer) {
           const auto raised = layer(8).exp();
           (raised * layer(8)).cumsum(1) / raised.cumsum(1);
         }) == 1);
  EXPECT(listed([](auto& layer) {
           const auto k = layer(8), v = layer(8);
           auto sum = at::zeros({2, 8}), mixed = at::zeros({2, 8});
           for (int64_t step = 0; step < 4; ++step) {
             const auto raised = k.select(1, step).exp();
             mixed = mixed * 0.5 + raised * v.select(1, step);
             sum = sum * 0.5 + raised;
             mixed / sum;
           }
         }) == 1);
  EXPECT(listed([](auto& layer) { (layer(1).sigmoid() * layer(8)).sum(1); }) == 1);
  EXPECT(listed([](auto& layer) { at::bmm(layer(1).transpose(1, 2), layer(8)); }) == 1);
  // Gates of channels, two branches, means.
  EXPECT(listed([](auto& layer) { (layer(8).mean(1, true).sigmoid() * layer(8)).sum(1); }) == 0);
  EXPECT(listed([](auto& layer) { (layer(8).sigmoid() * layer(8)).sum(1); }) == 0);
  EXPECT(listed([](auto& layer) { at::bmm(layer(8).transpose(1, 2), layer(8)).pow(2).mean(); }) == 0);
  EXPECT(listed([](auto& layer) {
           const auto a = layer(8).exp(), b = layer(8).exp();
           (a * layer(8) + b * layer(8)) / (a + b);
         }) == 0);
}

TEST("a recurrence may have any number of steps") {
  const auto result = run(
      [&](NoModules& modules) {
        modules.parameter = at::randn({4, 4});
        const auto key = at::linear(at::randn({1, 4}), modules.parameter);
        auto state = at::zeros({1, 4, 4}), weights = at::softmax(at::mm(key, key.t()), -1);
        for (int step = 0; step < 60000; ++step) {
          state = state + key.unsqueeze(-1) * key.unsqueeze(-2);
          weights = weights * 1.0;
        }
        at::bmm(state, key.unsqueeze(-1));
      },
      mayMiss());
  EXPECT(result.unseen.size() == 2);
}

TEST("transforms of Fourier: between one and its inverse there is a convolution") {
  const auto listed = [](const std::function<void(const at::Tensor&)>& model) {
    return run([&](NoModules&) { model(at::randn({2, 6, 8})); }, mayMiss()).unseen.size();
  };
  EXPECT(listed([](auto& x) { at::fft_irfft(at::fft_rfft(x) * 2, 8); }) == 1);
  EXPECT(listed([](auto& x) { at::fft_irfft2(at::fft_rfft2(x) * 2); }) == 1);
  EXPECT(listed([](auto& x) { at::_fft_c2r(at::_fft_r2c(x, {2}, 0, true) * 2, {2}, 2, 8); }) == 1);
  EXPECT(listed([](auto& x) { at::real(at::fft_fft2(x)); }) == 0);
  EXPECT(listed([](auto& x) { at::fft_irfft(at::complex(x, x)); }) == 0);
}

TEST("scores written out as multiplication and sum are scores, of cosines and tables of constants too") {
  const auto sizes = [](const std::function<void(NoModules&)>& model) {
    return run(model).attentions.at(0).site.shape.sizes();
  };
  const auto layer = [](NoModules& modules) { return at::linear(at::randn({2, 6, 8}), modules.parameter); };
  EXPECT(sizes([&](NoModules& modules) {
           modules.parameter = at::randn({8, 8});
           const auto q = layer(modules), k = layer(modules);
           at::bmm(at::sigmoid((q.unsqueeze(2) * k.unsqueeze(1)).sum(-1)), layer(modules));
         }) == std::vector<int64_t>({2, 1, 6, 6}));
  EXPECT(sizes([&](NoModules& modules) {
           modules.parameter = at::randn({8, 8});
           const auto memory = modules.parameter.unsqueeze(0);
           const auto key = at::linear(at::randn({2, 8}), modules.parameter);
           const auto weights = at::softmax(at::cosine_similarity(memory, key.unsqueeze(1), -1), -1);
           at::mm(weights, modules.parameter);
         }) == std::vector<int64_t>({2, 1, 1, 8}));
}

// Operators whose kernels hide what they compute.
at::Tensor doubled(const at::Tensor& tensor) {
  const auto given = tensor.contiguous();
  auto result = at::empty(given.sizes(), given.options());
  for (int64_t i = 0; i < given.numel(); ++i) result.data_ptr<float>()[i] = 2 * given.data_ptr<float>()[i];
  return result;
}

TEST("operators of others: what is made of libtorch's is followed, what isn't is listed") {
  torch::Library library(torch::Library::DEF, "lta_flow_test", std::nullopt, __FILE__, __LINE__);
  library.def("open(Tensor weights) -> Tensor", [](const at::Tensor& weights) { return weights * 2; });
  library.def("closed(Tensor weights) -> Tensor", doubled);
  library.def("attend(Tensor q, Tensor k, Tensor v) -> Tensor",
              [](const at::Tensor& q, const at::Tensor&, const at::Tensor&) { return doubled(q); });
  const auto call = [](const char* name, const std::vector<at::Tensor>& tensors) {
    torch::jit::Stack stack(tensors.begin(), tensors.end());
    c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
    return stack.at(0).toTensor();
  };
  lta::CaptureOptions options;
  options.mayMiss = true;
  for (const bool additive : {false, true}) {
    const auto between = [&](const char* name) {
      return run(
          [&](NoModules& modules) {
            modules.parameter = at::randn({1, 8});
            const auto s = additive ? at::linear(at::randn({2, 4, 5, 8}), modules.parameter).squeeze(-1) : scores()[0];
            const auto weights = call(name, {at::softmax(s, -1)});
            at::matmul(weights, at::randn({weights.size(0), 5, 6}));
          },
          options);
    };
    const auto open = between("lta_flow_test::open"), closed = between("lta_flow_test::closed");
    EXPECT(open.attentions.size() == 1 && open.unseen.empty());
    EXPECT(closed.attentions.empty() && closed.unseen.size() == 1);
  }
  const auto attends = run(
      [&](NoModules&) {
        const auto x = at::randn({2, 3, 4, 8});
        call("lta_flow_test::attend", {x, x * 2, x * 3});
      },
      options);
  EXPECT(attends.attentions.empty() && attends.unseen.size() == 1);
  EXPECT(attends.unseen.at(0).operatorName == "lta_flow_test::attend" || attends.unseen.at(0).operatorName == "attend");
}
