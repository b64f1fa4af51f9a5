#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "runtime/error.h"
#include "weights/weights.h"

namespace {

using lta::Rows;
using lta::SdpaArguments;
using lta::Wanted;

// The formula, as slowly and plainly as it can be written: what the softmax is of, and what it gives.
at::Tensor scoresOf(const SdpaArguments& call) {
  auto query = call.query.to(at::kDouble);
  auto key = call.key.to(at::kDouble);
  if (call.groupedQuery) key = key.repeat_interleave(query.size(1) / key.size(1), 1);
  auto scores = at::matmul(query, key.transpose(-1, -2)) *
                call.scale.value_or(1.0 / std::sqrt(static_cast<double>(query.size(-1))));
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  if (call.mask) {
    scores = call.mask->scalar_type() == at::kBool ? scores.masked_fill(call.mask->logical_not(), kNever)
                                                   : scores + call.mask->to(at::kDouble);
  }
  if (call.causal) {
    scores = scores.masked_fill(at::ones({query.size(-2), key.size(-2)}, at::kBool).tril().logical_not(), kNever);
  }
  return scores;
}
at::Tensor reference(const SdpaArguments& call) { return scoresOf(call).softmax(-1).nan_to_num(0.0); }

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// The full weights of some rows.
at::Tensor weightsOf(const SdpaArguments& call, const Rows& rows = {}) {
  Wanted wanted;
  wanted.rows = rows;
  return lta::computeWeights(call, wanted).weights;
}

SdpaArguments sample(int64_t queries, int64_t keys, int64_t keyHeads = 4, at::ScalarType type = at::kFloat) {
  at::manual_seed(queries * 1000 + keys);
  // Heads are interleaved with positions, as after a projection: not contiguous.
  const auto query = at::randn({2, queries, 4, 8}).transpose(1, 2).to(type);
  const auto key = at::randn({2, keys, keyHeads, 8}).transpose(1, 2).to(type);
  SdpaArguments call;
  call.query = query;
  call.key = key;
  call.groupedQuery = keyHeads != 4;
  return call;
}

}  // namespace

TEST("weights of every length equal the reference") {
  for (const int64_t queries : {1, 2, 3, 7, 16, 33, 130}) {
    for (const int64_t keys : {1, 5, 8, 17, 64, 129}) {
      const auto call = sample(queries, keys);
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
    }
  }
}

TEST("masks of every type and broadcast equal the reference") {
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{2, 9}, {6, 9}, {19, 150}}) {
    auto call = sample(queries, keys);
    const std::vector<std::vector<int64_t>> shapes{{queries, keys}, {1, keys},    {2, 1, queries, keys},
                                                   {2, 1, 1, keys}, {queries, 1}, {2, 4, queries, keys},
                                                   {1, 4, 1, keys}};
    for (const auto& shape : shapes) {
      call.mask = at::rand(shape) > 0.4;
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
      call.mask = at::randn(shape);
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
      call.mask = at::randn(shape).to(at::kBFloat16);
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
    }
  }
}

TEST("heads of every depth, and keys of any strides, equal the reference") {
  for (const int64_t depth : {1, 5, 8, 20, 33, 300}) {
    for (const int64_t queries : {1, 5, 6, 40}) {
      SdpaArguments call;
      call.query = at::randn({2, 3, depth, queries}).transpose(2, 3);
      call.key = at::randn({2, 3, depth, 50}).transpose(2, 3);
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
      call.causal = true;
      EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
    }
  }
}

TEST("causal attention of more or fewer queries than keys counts from the first key") {
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{5, 5}, {3, 8}, {8, 3}}) {
    auto call = sample(queries, keys);
    call.causal = true;
    EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
    const auto row = weightsOf(call, Rows{std::nullopt, std::vector<int64_t>{queries - 1}});
    EXPECT(distance(row, reference(call).narrow(2, queries - 1, 1)) < 1e-6);
  }
}

TEST("grouped keys serve their query heads, all and selected ones") {
  auto call = sample(5, 7, 2);
  EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
  const auto some = weightsOf(call, Rows{std::vector<int64_t>{3, 0}, std::nullopt});
  EXPECT(distance(some, reference(call).index_select(1, at::tensor({3, 0}, at::kLong))) < 1e-6);
}

TEST("selected rows equal those of the full weights") {
  auto call = sample(9, 11);
  call.mask = at::rand({2, 1, 9, 11}) > 0.3;
  call.scale = 0.2;
  const Rows rows{std::vector<int64_t>{2, 1}, std::vector<int64_t>{8, 0, 4}};
  const auto whole =
      reference(call).index_select(1, at::tensor({2, 1}, at::kLong)).index_select(2, at::tensor({8, 0, 4}, at::kLong));
  EXPECT(distance(weightsOf(call, rows), whole) < 1e-6);
}

TEST("a fully masked row is zero, for boolean and additive masks") {
  auto call = sample(4, 6);
  auto keep = at::ones({4, 6}, at::kBool);
  keep[2].fill_(false);
  call.mask = keep;
  EXPECT(weightsOf(call).select(2, 2).abs().sum().item<double>() == 0);
  call.mask = at::zeros({4, 6}).masked_fill(keep.logical_not(), -std::numeric_limits<double>::infinity());
  EXPECT(weightsOf(call).select(2, 2).abs().sum().item<double>() == 0);
  EXPECT(distance(weightsOf(call), reference(call)) < 1e-6);
}

TEST("half types are computed in float32, doubles in float64") {
  for (const auto type : {at::kHalf, at::kBFloat16, at::kDouble}) {
    const auto call = sample(5, 6, 4, type);
    const auto weights = weightsOf(call);
    EXPECT(weights.scalar_type() == (type == at::kDouble ? at::kDouble : at::kFloat));
    EXPECT(distance(weights, reference(call)) < (type == at::kDouble ? 1e-14 : 1e-5));
  }
}

TEST("shapes give batch, heads, queries and keys, and whether the heads are known") {
  const auto shape = lta::shapeOf(sample(5, 7));
  EXPECT(shape.batch == 2 && shape.heads == 4 && shape.queries == 5 && shape.keys == 7 && shape.headsKnown);
  EXPECT(!lta::shapeOf(at::IntArrayRef{6, 5, 7}).headsKnown);
  const auto windows = lta::shapeOf(at::IntArrayRef{2, 3, 2, 5, 7});
  EXPECT(windows.heads == 2 && windows.batch == 6 && windows.sizes() == (std::vector<int64_t>{2, 3, 2, 5, 7}));
}

TEST("the mean over heads and the top k of a row equal those of the full weights") {
  auto call = sample(9, 40, 2);
  call.mask = at::rand({2, 1, 9, 40}) > 0.3;
  Wanted wanted;
  wanted.averageHeads = true;
  EXPECT(distance(lta::computeWeights(call, wanted).weights, reference(call).mean(1)) < 1e-6);
  for (const int64_t k : {1, 10, 100}) {
    wanted.topK = k;
    for (const bool average : {true, false}) {
      wanted.averageHeads = average;
      const auto whole = average ? reference(call).mean(1) : reference(call);
      const auto largest = std::get<0>(whole.topk(std::min<int64_t>(k, 40), -1));
      const auto received = lta::computeWeights(call, wanted);
      EXPECT(distance(received.weights, largest) < 1e-6);
      EXPECT(distance(whole.gather(-1, received.keys), largest) < 1e-6);
    }
  }
}

TEST("scores, logSumExp, what keys received and entropies equal the formula, with the weights and without") {
  const auto close = [](const at::Tensor& a, const at::Tensor& b, double tolerance) {
    return a.sizes() == b.sizes() && at::allclose(a.to(at::kDouble), b, tolerance, tolerance);
  };
  std::vector<SdpaArguments> calls;
  for (const int64_t queries : {1, 4, 9, 150}) {
    for (const int64_t keys : {1, 7, 64, 333}) calls.push_back(sample(queries, keys));
  }
  const auto plain = sample(40, 50);
  for (const auto type : {at::kDouble, at::kHalf, at::kBFloat16}) calls.push_back(sample(40, 50, 4, type));
  calls.push_back(sample(9, 70, 2));
  calls.push_back(plain);
  calls.back().causal = true;
  calls.push_back(plain);
  calls.back().mask = at::rand({2, 1, 40, 50}) > 0.5;
  calls.back().mask->select(2, 3).fill_(false);  // a row without any key
  calls.push_back(plain);
  calls.back().mask = at::randn({40, 50}) * 3;
  calls.push_back(plain);
  calls.back().scale = 40.0;  // exponentials of nothing but the difference to the largest are sound
  const std::vector<Rows> selections{{}, {std::vector<int64_t>{3, 1}, std::vector<int64_t>{0}}};
  for (const auto& call : calls) {
    for (const auto& rows : selections) {
      for (const bool average : {false, true}) {
        const auto pick = [&](at::Tensor tensor) {
          if (rows.heads) tensor = tensor.index_select(1, at::tensor(*rows.heads));
          if (rows.queries) tensor = tensor.index_select(2, at::tensor(*rows.queries));
          return tensor;
        };
        const auto mean = [&](const at::Tensor& tensor) { return average ? tensor.mean(1) : tensor; };
        const auto scores = pick(scoresOf(call)), weights = mean(pick(reference(call)));
        Wanted wanted;
        wanted.rows = rows;
        wanted.averageHeads = average;
        wanted.scores = wanted.logSumExp = wanted.received = wanted.entropy = true;
        const auto all = lta::computeWeights(call, wanted);
        const double tolerance = (call.query.scalar_type() == at::kDouble ? 1e-12 : 4e-6) * call.scale.value_or(1);
        EXPECT(close(all.weights, weights, tolerance));
        EXPECT(close(all.scores, mean(scores), tolerance));
        EXPECT(close(all.logSumExp, mean(at::logsumexp(scores, -1)), tolerance));
        EXPECT(close(all.received, weights.sum(-2), tolerance));
        EXPECT(close(all.entropy, at::special_entr(weights).sum(-1), tolerance * 4));
        wanted.weights = wanted.scores = false;
        const auto sums = lta::computeWeights(call, wanted);
        EXPECT(!sums.weights.defined() && !sums.scores.defined());
        EXPECT(close(sums.logSumExp, mean(at::logsumexp(scores, -1)), tolerance));
        EXPECT(close(sums.received, all.received.to(at::kDouble), tolerance));
        EXPECT(close(sums.entropy, all.entropy.to(at::kDouble), tolerance * 4));
        // The same of weights and scores that exist.
        wanted.logSumExp = false;
        const auto existing = lta::reduceWeights(reference(call).to(at::kFloat), wanted);
        EXPECT(close(existing.received, weights.sum(-2), 4e-6) && !existing.weights.defined());
        EXPECT(close(existing.entropy, at::special_entr(weights).sum(-1), 2e-5));
        wanted.logSumExp = wanted.scores = true;
        const auto ofScores = lta::reduceScores(scoresOf(call), wanted, {});
        EXPECT(close(ofScores.scores, mean(scores), 1e-12));
        EXPECT(close(ofScores.logSumExp, mean(at::logsumexp(scores, -1)), 1e-12));
      }
    }
  }
}

TEST("scores beside the largest weights are those of the same keys, and sums are of all keys") {
  auto call = sample(9, 40, 2);
  call.mask = at::rand({2, 1, 9, 40}) > 0.3;
  Wanted wanted;
  wanted.topK = 5;
  wanted.scores = wanted.received = wanted.entropy = true;
  for (const bool average : {false, true}) {
    for (const bool weights : {false, true}) {
      wanted.averageHeads = average;
      wanted.weights = weights;
      const auto mean = [&](const at::Tensor& tensor) { return average ? tensor.mean(1) : tensor; };
      const auto whole = mean(reference(call));
      const auto received = lta::computeWeights(call, wanted);
      EXPECT(received.weights.defined() == weights);
      EXPECT(at::allclose(received.scores.to(at::kDouble), mean(scoresOf(call)).gather(-1, received.keys), 1e-5, 1e-5));
      EXPECT(distance(received.received, whole.sum(-2)) < 4e-6);
      EXPECT(distance(received.entropy, at::special_entr(whole).sum(-1)) < 1e-5);
    }
  }
}

TEST("what long sequences receive is exact to a float, however many rows are summed up") {
  SdpaArguments call;
  call.query = at::zeros({1, 1, 20000, 4});
  call.key = at::zeros({1, 1, 3, 4});
  Wanted wanted;
  wanted.weights = false;
  wanted.received = wanted.entropy = true;
  const auto sums = lta::computeWeights(call, wanted);
  EXPECT(distance(sums.received / (20000.0 / 3), at::ones({1, 1, 3}, at::kDouble)) < 2e-7);
  EXPECT(distance(sums.entropy, at::full({1, 1, 20000}, std::log(3.0), at::kDouble)) < 1e-6);
}

TEST("the largest of rows of every length: ties by position, NaN ahead, doubles too") {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const int64_t keys : {10, 63, 64, 65, 500, 1030}) {
      for (const int64_t k : {1, 10, 13, 26, 52, 64, 65}) {
        if (k > keys) continue;
        auto weights = at::rand({1, 1, 8, keys}, type);
        weights.select(2, 1).fill_(0.25);  // all equal
        weights.select(2, 2).copy_(at::arange(keys, type).remainder(7));
        weights.select(2, 3).copy_(at::arange(keys, type));
        weights.select(2, 4).fill_(0).narrow(-1, keys - 1, 1).fill_(1);
        weights.select(2, 5).narrow(-1, keys / 2, 1).fill_(std::numeric_limits<double>::quiet_NaN());
        weights.select(2, 6).narrow(-1, keys - 1, 1).fill_(std::numeric_limits<double>::quiet_NaN());
        weights.select(2, 7).fill_(-std::numeric_limits<double>::infinity());
        Wanted wanted;
        wanted.topK = k;
        const auto received = lta::reduceWeights(weights, wanted);
        const auto [values, positions] = at::sort(weights, /*stable=*/true, -1, /*descending=*/true);
        EXPECT(at::equal(received.keys, positions.narrow(-1, 0, k)));
        EXPECT(at::allclose(received.weights, values.narrow(-1, 0, k), 0, 0, /*equal_nan=*/true));
      }
    }
  }
}

TEST("any size may be zero: there is a result, and no division by zero") {
  const c10::NoGradGuard noGrad;
  const int64_t sizes[] = {0, 1, 2, 7};
  for (const auto batch : sizes) {
    for (const auto heads : sizes) {
      for (const auto queries : sizes) {
        for (const auto keys : sizes) {
          for (const auto depth : sizes) {
            if (batch * heads * queries * keys * depth != 0) continue;
            for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
              lta::SdpaArguments call;
              call.query = at::randn({batch, heads, queries, depth}).to(type);
              call.key = at::randn({batch, heads, keys, depth}).to(type);
              call.causal = queries % 2 == 1;
              const auto weights = lta::computeWeights(call, {}).weights;
              EXPECT(weights.sizes() == (at::IntArrayRef{batch, heads, queries, keys}));
              // Scores of an empty embedding are zero.
              if (weights.numel() > 0 && !call.causal) {
                EXPECT((weights - 1.0 / static_cast<double>(keys)).abs().max().item<double>() < 1e-6);
              }
              for (const bool average : {false, true}) {
                for (const std::optional<int64_t> topK : {std::optional<int64_t>(), std::optional<int64_t>(3)}) {
                  lta::Wanted wanted{{}, average, topK, at::kFloat};
                  const auto columns = topK ? std::min<int64_t>(*topK, keys) : keys;
                  const auto expected = average ? std::vector<int64_t>{batch, queries, columns}
                                                : std::vector<int64_t>{batch, heads, queries, columns};
                  EXPECT(lta::computeWeights(call, wanted).weights.sizes() == at::IntArrayRef(expected));
                  EXPECT(lta::reduceWeights(weights.to(at::kFloat), wanted).weights.sizes() ==
                         at::IntArrayRef(expected));
                }
              }
            }
          }
        }
      }
    }
  }
  lta::SdpaArguments call;
  call.query = call.key = at::randn({2, 4, 7, 8});
  EXPECT(lta::computeWeights(call, {{std::vector<int64_t>{}, std::nullopt}, false, {}, {}}).weights.size(1) == 0);
  EXPECT(lta::computeWeights(call, {{std::nullopt, std::vector<int64_t>{}}, false, 2, {}}).weights.size(2) == 0);
  EXPECT(lta::computeWeights(call, {{std::vector<int64_t>{}, std::nullopt}, true, {}, {}})
             .weights.isnan()
             .all()
             .item<bool>());
}

namespace {

// What codes stand for, in doubles.
at::Tensor decoded(const at::Tensor& codes, lta::CodeScale scale) {
  const auto code = codes.to(at::kDouble);
  if (scale == lta::CodeScale::Linear) return code / 255;
  auto weights = at::pow(2.0, (code - 254) * (24.0 / 253));
  weights.masked_fill_(code.eq(0), 0.0);
  return weights.masked_fill_(code.eq(255), std::numeric_limits<double>::quiet_NaN());
}

// Whether codes are as near to weights as their scale says, and zero exactly where those are.
bool isNear(const at::Tensor& codes, const at::Tensor& given, lta::CodeScale scale) {
  const auto weights = given.to(at::kDouble), from = decoded(codes, scale);
  if (scale == lta::CodeScale::Linear) return distance(from, weights) <= 1.0 / 510 + 1e-7;
  const bool sameZeros = from.eq(0).eq(weights.eq(0)).all().item<bool>();
  const auto large = weights.ge(std::pow(2.0, -24));
  const bool ratios = from.div(weights).sub(1).abs().masked_select(large).le(0.034).all().item<bool>();
  return sameZeros && ratios && distance(from, weights) < 0.034;
}

constexpr lta::CodeScale kScales[] = {lta::CodeScale::Linear, lta::CodeScale::Log};

}  // namespace

TEST("weights in float16 are those in float32, rounded") {
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 9}, {40, 131}, {300, 512}}) {
    auto call = sample(queries, keys);
    call.query = call.query * 8;
    call.mask = at::rand({queries, keys}) > 0.3;
    for (const bool average : {false, true}) {
      for (const std::optional<int64_t> topK : {std::optional<int64_t>(), std::optional<int64_t>(4)}) {
        Wanted wanted{{}, average, topK};
        wanted.scores = true;
        const auto whole = lta::computeWeights(call, wanted);
        wanted.dtype = at::kHalf;
        const auto half = lta::computeWeights(call, wanted);
        EXPECT(half.weights.scalar_type() == at::kHalf && half.scores.scalar_type() == at::kHalf);
        EXPECT(half.weights.equal(whole.weights.to(at::kHalf)));
        EXPECT(half.scores.equal(whole.scores.to(at::kHalf)));
        EXPECT(!topK || half.keys.equal(whole.keys));
      }
    }
    const auto wide = call;
    call.query = call.query.to(at::kDouble);
    call.key = call.key.to(at::kDouble);
    Wanted wanted;
    wanted.dtype = at::kHalf;
    EXPECT(lta::computeWeights(call, wanted).weights.equal(weightsOf(call).to(at::kHalf)));
  }
}

TEST("every float becomes the nearest float16") {
  // As weights that exist, of all sizes, signs and kinds.
  auto bits = at::arange(1 << 20, at::kInt).mul(4099);
  auto values = at::empty({1, 1, 1024, 1024}, at::kFloat);
  std::memcpy(values.mutable_data_ptr(), bits.const_data_ptr(), values.nbytes());
  values = at::where(values.isnan(), at::full({}, 65520.0, at::kFloat), values);
  Wanted wanted;
  wanted.dtype = at::kHalf;
  wanted.entropy = true;  // in tiles
  EXPECT(lta::reduceWeights(values, wanted).weights.equal(values.to(at::kHalf)));
}

TEST("codes are as near to the weights as their scale says") {
  for (const auto scale : kScales) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      for (const auto& [queries, keys] :
           std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 9}, {40, 131}, {300, 512}}) {
        auto call = sample(queries, keys, 4, type);
        call.query = call.query * 4;
        call.mask = at::rand({queries, keys}) > 0.3;
        for (const bool average : {false, true}) {
          for (const std::optional<int64_t> topK : {std::optional<int64_t>(), std::optional<int64_t>(4)}) {
            Wanted wanted{{}, average, topK};
            const auto whole = lta::computeWeights(call, wanted);
            wanted.codes = scale;
            const auto coded = lta::computeWeights(call, wanted);
            EXPECT(coded.weights.scalar_type() == at::kByte && !coded.uncodable);
            EXPECT(isNear(coded.weights, whole.weights, scale));
            EXPECT(!topK || coded.keys.equal(whole.keys));
            const auto reduced = lta::reduceWeights(lta::computeWeights(call, {}).weights, wanted);
            EXPECT(isNear(reduced.weights, whole.weights, scale) && !reduced.uncodable);
          }
        }
      }
    }
  }
}

TEST("codes of every weight are the nearest, by kernels and by operators, and what is none is told") {
  const auto weights = at::cat({at::linspace(0, 1, 9000), at::logspace(-8, 0, 9000)}).view({1, 1, 10, 1800});
  for (const auto scale : kScales) {
    Wanted wanted;
    wanted.codes = scale;
    const auto kernels = lta::reduceWeights(weights, wanted);
    EXPECT(isNear(kernels.weights, weights, scale));
    EXPECT(isNear(lta::encodeWeights(weights, scale), weights, scale));
    EXPECT(!lta::uncodableOf(weights, scale));
    auto table = at::empty({256});
    for (int64_t code = 0; code < 256; ++code) {
      table[code] = decoded(at::full({}, code, at::kByte), scale).item<double>();
    }
    EXPECT(lta::decodeWeights(kernels.weights, table).equal(decoded(kernels.weights, scale).to(at::kFloat)));
    for (const double other : {-0.5, 1.5, std::numeric_limits<double>::infinity()}) {
      for (const auto type : {at::kFloat, at::kDouble}) {
        auto wrong = weights.to(type, false, true);
        wrong[0][0][7][1799] = other;
        EXPECT(lta::reduceWeights(wrong, wanted).uncodable == other);
        EXPECT(lta::uncodableOf(wrong, scale) == other);
      }
    }
    auto nan = weights.clone();
    nan[0][0][3][5] = std::numeric_limits<double>::quiet_NaN();
    const auto coded = lta::reduceWeights(nan, wanted);
    EXPECT(coded.uncodable.has_value() == (scale == lta::CodeScale::Linear));
    EXPECT(lta::uncodableOf(nan, scale).has_value() == (scale == lta::CodeScale::Linear));
    EXPECT(scale == lta::CodeScale::Linear || coded.weights[0][0][3][5].item<int>() == 255);
    EXPECT(scale == lta::CodeScale::Linear || lta::encodeWeights(nan, scale)[0][0][3][5].item<int>() == 255);
  }
}

namespace {

// The output of a fused kernel, and that of one pass, beside the formula in doubles: how far each is off, as a share of
// the largest element.
struct Attended {
  lta::Weights weights;
  at::Tensor output, fused, exact;

  double share(const at::Tensor& a, const at::Tensor& b) const {
    return distance(a, b) / exact.abs().max().item<double>();
  }
};

Attended attendTo(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted) {
  Attended result;
  result.fused = at::scaled_dot_product_attention(call.query, call.key, value, call.mask, 0.0, call.causal, call.scale,
                                                  call.groupedQuery);
  result.weights = lta::attend(call, value, wanted, result.output);
  auto values = value.to(at::kDouble);
  if (call.groupedQuery) values = values.repeat_interleave(call.query.size(1) / value.size(1), 1);
  result.exact = at::matmul(reference(call), values);
  return result;
}

// `like`: how often as far off as the fused kernel the output may be, where that isn't exact either.
void expectAttends(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted = {}, double like = 0) {
  EXPECT(lta::canAttend(call, value));
  const auto attended = attendTo(call, value, wanted);
  const auto& output = attended.output;
  EXPECT(output.sizes() == attended.fused.sizes() && output.strides() == attended.fused.strides());
  EXPECT(output.scalar_type() == at::kFloat);
  const auto off = attended.share(attended.fused, attended.exact);
  EXPECT(attended.share(output, attended.exact) < std::max(1e-6, like * off));
  EXPECT(attended.share(output, attended.fused) < std::max(1.5e-6, (like + 1) * off));
  const auto beside = lta::computeWeights(call, wanted);
  for (const auto member : {&lta::Weights::weights, &lta::Weights::keys, &lta::Weights::scores,
                            &lta::Weights::logSumExp, &lta::Weights::received, &lta::Weights::entropy}) {
    EXPECT((attended.weights.*member).defined() == (beside.*member).defined());
    if ((beside.*member).defined()) EXPECT((attended.weights.*member).equal(beside.*member));
  }
}

at::Tensor values(const SdpaArguments& call, int64_t depth) {
  return at::randn({call.key.size(0), call.key.size(2), call.key.size(1), depth}).transpose(1, 2);
}

}  // namespace

TEST("one pass gives the output of the fused kernel, and the weights as they are, whatever the sizes") {
  const c10::NoGradGuard noGrad;
  for (const int64_t queries : {6, 7, 16, 33, 130, 513}) {
    for (const int64_t keys : {1, 5, 17, 63, 64, 65, 129, 640}) {
      auto call = sample(queries, keys);
      expectAttends(call, values(call, 8));
      call.causal = true;
      expectAttends(call, values(call, 8));
    }
  }
  for (const int64_t depth : {1, 5, 16, 20, 33, 64, 80, 256}) {
    // Laid out by heads, which the output then is as well.
    SdpaArguments call;
    call.query = at::randn({2, 3, 40, depth});
    call.key = at::randn({2, 3, 50, depth});
    expectAttends(call, values(call, depth));
  }
}

TEST("one pass takes masks of every form, groups of heads, and rows without any key") {
  const c10::NoGradGuard noGrad;
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{6, 9}, {19, 150}, {130, 130}}) {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{queries, keys},
                                                               {1, keys},
                                                               {2, 1, queries, keys},
                                                               {2, 1, 1, keys},
                                                               {2, 4, queries, keys},
                                                               {1, 4, 1, keys}}) {
      auto call = sample(queries, keys);
      call.mask = at::rand(shape) > 0.4;
      expectAttends(call, values(call, 8));
      call.mask = at::randn(shape);
      expectAttends(call, values(call, 8));
      call.mask = at::randn(shape).masked_fill(at::rand(shape) > 0.5, -std::numeric_limits<double>::infinity());
      expectAttends(call, values(call, 8));
    }
    auto grouped = sample(queries, keys, 2);
    expectAttends(grouped, values(grouped, 8));
    auto call = sample(queries, keys);
    auto mask = at::ones({queries, keys}, at::kBool);
    mask[2].fill_(false);
    call.mask = mask;
    const auto attended = attendTo(call, values(call, 8), {});
    EXPECT(attended.output.select(2, 2).eq(0).all().item<bool>());
    expectAttends(call, values(call, 8));
  }
}

TEST("one pass gives what else is wanted of the weights") {
  const c10::NoGradGuard noGrad;
  const auto call = sample(70, 200);
  for (const bool average : {false, true}) {
    for (const std::optional<int64_t> topK : {std::optional<int64_t>(), std::optional<int64_t>(4)}) {
      for (const bool scores : {false, true}) {
        Wanted wanted{{}, average, topK};
        wanted.scores = wanted.logSumExp = scores;
        wanted.received = wanted.entropy = true;
        expectAttends(call, values(call, 8), wanted);
        wanted.dtype = at::kHalf;
        expectAttends(call, values(call, 8), wanted);
        wanted.weights = false;
        expectAttends(call, values(call, 8), wanted);
      }
    }
  }
}

TEST("one pass is as sound as the fused kernel where numbers are large, and passes NaN on") {
  const c10::NoGradGuard noGrad;
  auto call = sample(40, 90);
  call.query = call.query * 100;
  expectAttends(call, values(call, 8), {}, 3);
  call = sample(40, 90);
  call.query = call.query + 6.0;
  call.key = call.key + 1.5;
  // Exponentials up to e^60, times values that overflow with them.
  expectAttends(call, values(call, 8) * 1e30, {}, 3);
  auto value = values(call, 8);
  value[0][1][3][2] = std::numeric_limits<double>::quiet_NaN();
  const auto attended = attendTo(call, value, {});
  EXPECT(attended.output.isnan().equal(attended.fused.isnan()));
  auto query = call.query.clone();
  query[1][2][7][0] = std::numeric_limits<double>::quiet_NaN();
  call.query = std::move(query);
  const auto other = attendTo(call, values(call, 8), {});
  EXPECT(other.output.isnan().equal(other.fused.isnan()));
}

TEST("what one pass isn't for is told: other types, gradients, few rows, no keys, and what isn't fused") {
  auto call = sample(40, 90);
  const auto value = values(call, 8);
  EXPECT(lta::canAttend(call, value));
  const auto with = [&](auto change) {
    auto other = call;
    auto otherValue = value;
    change(other, otherValue);
    return lta::canAttend(other, otherValue);
  };
  EXPECT(!with([](auto& each, auto& v) {
    v = v.to(at::kDouble), each.query = each.query.to(at::kDouble), each.key = each.key.to(at::kDouble);
  }));
  EXPECT(!with([](auto& each, auto& v) {
    v = v.to(at::kBFloat16), each.query = each.query.to(at::kBFloat16), each.key = each.key.to(at::kBFloat16);
  }));
  EXPECT(!with([](auto& each, auto&) { each.query = each.query.narrow(2, 0, 5); }));
  EXPECT(!with([](auto& each, auto& v) { v = v.narrow(2, 0, 0), each.key = each.key.narrow(2, 0, 0); }));
  EXPECT(!with([](auto& each, auto& v) { v = v[0], each.query = each.query[0], each.key = each.key[0]; }));
  EXPECT(!with([](auto&, auto& v) { v = v.narrow(3, 0, 4); }));
  EXPECT(!with([](auto& each, auto&) { each.query = each.query.detach().requires_grad_(); }));
  EXPECT(!with([](auto& each, auto&) { each.mask = at::ones({40, 90}, at::kBool), each.causal = true; }));
  EXPECT(!with([](auto& each, auto&) { each.mask = at::ones({40, 90}, at::kDouble); }));
  EXPECT(!with([](auto& each, auto&) { each.query = each.query.narrow(0, 0, 1); }));
}
