#include <ATen/ATen.h>

#include "capture/probe.h"
#include "check.h"
#include "nn/model.h"
#include "nn/multihead_attention.h"
#include "runtime/error.h"

namespace {

using lta::nn::Model;

std::shared_ptr<Model> attention() {
  return std::make_shared<Model>(lta::nn::make<lta::nn::MultiheadAttention>(
      lta::nn::MultiheadAttentionOptions{8, 2, 0, true, false, false, 8, 8, true}));
}

std::string messageOf(const std::function<void()>& run) {
  try {
    run();
  } catch (const lta::Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A resolver without names.
class NoModules final : public lta::ModuleResolver {
 public:
  std::string current() const override { return {}; }
  bool isParameter(const at::Tensor&) const override { return false; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
};

}  // namespace

// Meta tensors stand for those of another device, which test machines lack.
TEST("inputs and masks on another device than the module are refused by name") {
  const auto model = attention();
  const auto here = at::rand({2, 3, 8}), elsewhere = at::empty({2, 3, 8}, at::kMeta);
  const auto inputs = [](const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
    return lta::engine::Inputs{{query, key, value}, {"query", "key", "value"}, {}};
  };
  model->run(inputs(here, here, here), {});
  EXPECT_ERROR(model->run(inputs(here, elsewhere, here), {}), "ERR_INVALID_ARGUMENT");
  EXPECT(contains(messageOf([&] { model->run(inputs(here, elsewhere, here), {}); }), "for key but"));
  auto masked = inputs(here, here, here);
  masked.named["attnMask"] = at::empty({3, 3}, at::kMeta);
  EXPECT(contains(messageOf([&] { model->run(masked, {}); }), "for attnMask but"));
  EXPECT(contains(messageOf([&] { model->capture(masked, {}, {}); }), "for attnMask but"));
}

TEST("the probe sees nothing while it is suspended") {
  const auto query = at::rand({1, 2, 3, 4});
  const auto attend = [&] { return at::scaled_dot_product_attention(query, query, query); };
  const auto capture = std::make_shared<lta::Capture>(lta::CaptureOptions{}, std::make_shared<NoModules>(), nullptr);
  {
    const lta::ProbeScope probe(capture);
    attend();
    {
      const lta::ProbeSuspended suspended;
      attend();
    }
    attend();
  }
  EXPECT(capture->finish().size() == 2);
  // No effect without a capture.
  const lta::ProbeSuspended suspended;
  EXPECT(attend().defined());
}
