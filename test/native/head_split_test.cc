#include "capture/head_split.h"

#include <ATen/ATen.h>

#include "check.h"
#include "runtime/error.h"

namespace {

// What a view of the product [6, 5, 8] (two of batch, three heads) tells.
int64_t headsAfter(const std::function<std::optional<lta::HeadSplit::Split>(lta::HeadSplit&, const at::Tensor&)>& use) {
  lta::HeadSplit split;
  const auto product = at::randn({6, 5, 8});
  int64_t heads = 0;
  split.follow(product, [&](int64_t, int64_t number) { heads = number; });
  if (const auto told = use(split, product)) told->resolved(told->batch, told->heads);
  return heads;
}

}  // namespace

TEST("a view as batch and heads tells the heads") {
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {2, 3, 5, 8}); }) == 3);
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {2, -1, 5, 8}); }) == 3);
}

TEST("merged heads tell through a transpose and a copy, as in nn.MultiheadAttention") {
  EXPECT(headsAfter([](auto& split, const auto& product) {
           const auto copy = product.transpose(0, 1).contiguous();
           split.derive(product.transpose(0, 1), copy);
           return split.view(copy, {5 * 2, 3 * 8});
         }) == 3);
}

TEST("a view that keeps the depth, or fits no heads, tells nothing") {
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {30, 8}); }) == 0);
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {6, 40}); }) == 0);
}

TEST("queries that are flattened, everything in a row, and a part of something larger tell nothing") {
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {6, 5 * 8}); }) == 0);
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {10, 3 * 8}); }) == 0);
  EXPECT(headsAfter([](auto& split, const auto& product) { return split.view(product, {6 * 5 * 8}); }) == 0);
  EXPECT(headsAfter([](auto& split, const auto& product) {
           const auto larger = at::zeros({12, 5, 8});
           split.derive(product, larger.narrow(0, 0, 6));
           return split.view(larger.transpose(0, 1), {20, 3 * 8});
         }) == 0);
}

TEST("an empty batch and no heads are told apart, and divide nothing by zero") {
  for (const auto& [batch, heads] : {std::pair<int64_t, int64_t>{0, 3}, {2, 0}, {0, 0}}) {
    lta::HeadSplit split;
    const auto product = at::randn({batch * heads, 5, 8});
    split.follow(product, [](int64_t, int64_t) {});
    const auto told = split.view(product, {batch, heads, 5, 8});
    EXPECT(told && told->batch == batch && told->heads == heads);
  }
  lta::HeadSplit split;
  const auto product = at::randn({0, 5, 8});
  split.follow(product, [](int64_t, int64_t) {});
  const auto told = split.view(product.transpose(0, 1), {5, 0, 24});
  EXPECT(told && told->batch == 0 && told->heads == 3);
}
