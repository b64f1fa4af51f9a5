// The parts that a capture is made of, each by itself. The whole is in capture_test.cc.

#include <ATen/ATen.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "capture/attention_sink.h"
#include "capture/capture_budget.h"
#include "capture/capture_messages.h"
#include "capture/fixed_tensors.h"
#include "capture/layer_selection.h"
#include "capture/materialise.h"
#include "capture/retained_tensors.h"
#include "capture/sdpa_heads.h"
#include "capture/taken_weights.h"
#include "capture/weight_gradients.h"
#include "check.h"
#include "runtime/error.h"
#include "runtime/first_failure.h"

namespace {

using lta::CaptureOptions;
using lta::Site;

const std::string kInvalid = "ERR_INVALID_ARGUMENT";

Site siteAt(int64_t index, const std::string& name) {
  Site site;
  site.index = index;
  site.name = name;
  site.shape = {2, 4, 5, 6, true};
  return site;
}

lta::LayerSelector named(std::vector<std::string> names) { return {std::move(names), std::nullopt, "named"}; }
lta::LayerSelector positioned(int64_t position) { return {{}, position, std::to_string(position)}; }

class Parameters final : public lta::ModuleResolver {
 public:
  std::string current() const override { return {}; }
  std::string ownerOf(const at::Tensor&) const override { return {}; }
  bool isParameter(const at::Tensor& tensor) const override { return tensor.is_alias_of(parameter); }
  at::Tensor parameter = at::ones({3});
};

// An attention whose weights exist, [2, 4, 5, 6].
std::unique_ptr<lta::PendingAttention> existing(at::Tensor weights) {
  auto pending = std::make_unique<lta::PendingAttention>();
  pending->site = siteAt(0, "attention");
  pending->arrange = [](const at::Tensor& operand) { return operand; };
  pending->weights = std::move(weights);
  return pending;
}

// What a product takes of weights [2, 6, 6] (heads, queries, keys): the heads from `start`, `count` of them. `version`
// tells weights of one matrix apart to which different things were done.
lta::flow::Consumed taken(const lta::flow::MatrixPtr& matrix, int64_t start, int64_t count, int64_t version = 0) {
  const auto whole = at::rand({2, 6, 6});
  lta::flow::Consumed consumed;
  consumed.operand = whole.narrow(0, start, count);
  const auto layout = lta::flow::layoutOf(whole, {{{0, 0, 1, 2}}, {{1, 0, 1, 6}}, {{2, 0, 1, 6}}}, {});
  consumed.arrange = lta::flow::Arrangement(*matrix, *layout.view(consumed.operand), 1, 2);
  auto value = std::make_shared<lta::flow::Value>();
  value->matrix = matrix;
  value->version = version;
  consumed.value = std::move(value);
  return consumed;
}

lta::flow::MatrixPtr matrixOfTwoHeads() {
  auto matrix = std::make_shared<lta::flow::Matrix>();
  matrix->sizes = {2, 6, 6};
  matrix->query = 1;
  matrix->key = 2;
  return matrix;
}

}  // namespace

TEST("LayerSelection: names select what lies below them, whole parts of names only") {
  EXPECT(lta::isBelow("encoder.layers.1", "encoder.layers") && lta::isBelow("encoder", "encoder"));
  EXPECT(!lta::isBelow("encoder.layers.10", "encoder.layers.1") && !lta::isBelow("encoder", ""));
  const std::vector<lta::LayerSelector> layers{named({"encoder.layers.1"}), positioned(0)};
  lta::LayerSelection selection(layers);
  EXPECT(selection.selects(siteAt(0, "elsewhere")) && !selection.selects(siteAt(1, "encoder.layers.10")));
  EXPECT(selection.unmatched() == std::vector<std::string>{"named"});
  EXPECT(selection.selects(siteAt(2, "encoder.layers.1.self_attn")) && selection.unmatched().empty());
}

TEST("LayerSelection: positions from the end are known when the forward is over") {
  const std::vector<lta::LayerSelector> layers{positioned(-1), positioned(-3), positioned(-9)};
  lta::LayerSelection selection(layers);
  EXPECT(selection.reachFromEnd() == 9 && !selection.selects(siteAt(0, "a")));
  EXPECT(selection.selectedFromEnd(5) == (std::vector<int64_t>{4, 2}));
  EXPECT(selection.unmatched() == std::vector<std::string>{"-9"});
  const std::vector<lta::LayerSelector> none;
  EXPECT(lta::LayerSelection(none).selects(siteAt(7, "")) && lta::LayerSelection(none).reachFromEnd() == 0);
}

TEST("CaptureBudget: counts what is held, to the byte, and forgets what was handed over") {
  lta::CaptureBudget budget(100);
  budget.reserve(siteAt(0, "a"), 60);
  budget.reserve(siteAt(1, "a"), 40);
  EXPECT_ERROR(budget.reserve(siteAt(2, "a"), 1), std::string("ERR_CAPTURE_TOO_LARGE"));
  budget.reset();
  budget.reserve(siteAt(3, "a"), 100);
  lta::CaptureBudget(std::nullopt).reserve(siteAt(0, "a"), INT64_MAX);
}

TEST("RetainedTensors: by reference until something writes there; others stay as they are") {
  lta::RetainedTensors tensors(/*copyAtOnce=*/false);
  auto written = at::ones({4}), left = at::ones({4});
  const auto first = tensors.retain(written), second = tensors.retain(left);
  EXPECT(first->get().is_alias_of(written) && !tensors.empty());
  tensors.beforeWrite(written);
  written.fill_(5);
  EXPECT(at::equal(first->get(), at::ones({4})) && second->get().is_alias_of(left));
  left.add_(1);  // without anybody being told
  EXPECT_ERROR(second->get(), std::string("ERR_MODEL_RUN"));
  lta::RetainedTensors copying(/*copyAtOnce=*/true);
  EXPECT(!copying.retain(written)->get().is_alias_of(written) && copying.empty());
}

TEST("RetainedTensors: a write to one part of a tensor copies none of its other parts") {
  lta::RetainedTensors tensors(/*copyAtOnce=*/false);
  auto whole = at::ones({2, 100});
  const auto head = tensors.retain(whole[0]), tail = tensors.retain(whole[1]);
  tensors.beforeWrite(whole[0]);
  EXPECT(!head->get().is_alias_of(whole) && tail->get().is_alias_of(whole));
}

TEST("keptOf: rows are those asked for, and have to exist") {
  CaptureOptions options;
  EXPECT(lta::keptOf(siteAt(0, ""), options).heads == (std::vector<int64_t>{0, 1, 2, 3}));
  options.heads = std::vector<int64_t>{3, 1};
  options.queryRange = lta::QueryRange{2, 5};
  const auto kept = lta::keptOf(siteAt(0, ""), options);
  EXPECT(kept.heads == (std::vector<int64_t>{3, 1}) && kept.queries == (std::vector<int64_t>{2, 3, 4}));
  EXPECT(lta::bytesOf(siteAt(0, ""), kept, options) == 2 * 2 * 3 * 6 * 4);
  options.queryRange = lta::QueryRange{2, 6};
  EXPECT_ERROR(lta::keptOf(siteAt(0, ""), options), kInvalid);
  options.queryRange.reset();
  options.heads = std::vector<int64_t>{4};
  EXPECT_ERROR(lta::keptOf(siteAt(0, ""), options), kInvalid);
}

TEST("bytesOf: what averaging, the largest keys, gradients and the type change") {
  const auto bytes = [](const CaptureOptions& options) {
    const auto site = siteAt(0, "");
    return lta::bytesOf(site, lta::keptOf(site, options), options);
  };
  CaptureOptions options;
  EXPECT(bytes(options) == 2 * 4 * 5 * 6 * 4);
  options.averageHeads = true;
  EXPECT(bytes(options) == 2 * 5 * 6 * 4);
  options.topK = 2;
  EXPECT(bytes(options) == 2 * 5 * 2 * (4 + 8));
  options.gradients = true;
  EXPECT(bytes(options) == 2 * 5 * 2 * (8 + 8));
}

TEST("materialise: weights that exist are borrowed whole, and copied in part or where they have to be its own") {
  const auto weights = at::rand({2, 4, 5, 6});
  CaptureOptions options;
  const auto made = [&](bool ownMemory) {
    const auto pending = existing(weights);
    return lta::materialise(*pending, lta::keptOf(pending->site, options), options, ownMemory);
  };
  EXPECT(made(false).borrowed && made(false).result.weights.is_alias_of(weights));
  EXPECT(!made(true).borrowed && at::equal(made(true).result.weights, weights));
  options.heads = std::vector<int64_t>{1};
  const auto part = made(false);
  EXPECT(!part.borrowed && part.result.weights.storage().nbytes() == part.result.weights.nbytes());
  EXPECT(at::equal(part.result.weights, weights.narrow(1, 1, 1)));
}

TEST("materialise: the heads of a call on [batch · heads, L, E] are split before it is computed") {
  const auto query = at::rand({8, 5, 3}), key = at::rand({8, 6, 3});
  lta::PendingAttention pending;
  pending.site = siteAt(0, "");
  pending.call = lta::SdpaArguments{query, key, {}, false, {}, false};
  const CaptureOptions options;
  const auto made = lta::materialise(pending, lta::keptOf(pending.site, options), options, false);
  const auto expected = at::softmax(at::matmul(query, key.transpose(1, 2)) / std::sqrt(3.0), -1);
  EXPECT(at::allclose(made.result.weights, expected.view({2, 4, 5, 6}), 1e-4, 1e-5));
}

TEST("gradient points: of the rows, heads and columns that are kept") {
  const auto weights = at::rand({2, 4, 5, 6});
  CaptureOptions options;
  options.heads = std::vector<int64_t>{2};
  const auto pending = existing(weights);
  pending->gradientPoint = weights;
  const auto kept = lta::keptOf(pending->site, options);
  const auto gradient = at::rand({2, 4, 5, 6});
  const auto columns = at::tensor({4, 0}, at::kLong).expand({2, 1, 5, 2});
  const auto told = lta::gradientPointsOf(*pending, kept, columns, options).front().toWeights(gradient);
  EXPECT(at::equal(told, gradient.narrow(1, 2, 1).gather(-1, columns)));
  lta::Attention attention;
  attention.site = pending->site;
  attention.weights = at::zeros({2, 5, 6});
  attention.heads = {0, 3};
  attention.queries = {0, 1, 2, 3, 4};
  options.averageHeads = true;
  const auto returned = lta::gradientPointOfReturned(weights, attention, options).toWeights(gradient);
  EXPECT(at::allclose(returned, (gradient.select(1, 0) + gradient.select(1, 3)) / 2));
}

TEST("AttentionSink: what is collected comes in execution order, and nothing after the end") {
  lta::RetainedTensors retained(false);
  lta::AttentionSink sink(nullptr);
  const auto nothing = [] {};
  for (const int64_t index : {2, 0, 1}) {
    lta::AttentionSink::Delivery delivery;
    delivery.attention.site = siteAt(index, "");
    delivery.attention.weights = at::full({1}, static_cast<double>(index));
    sink.deliver(std::move(delivery), nothing);
  }
  const auto attentions = sink.close(retained);
  EXPECT(attentions.size() == 3 && attentions[0].site.index == 0 && attentions[2].weights.item<float>() == 2);
  sink.deliver({}, nothing);
  EXPECT(sink.close(retained).empty());
}

TEST("AttentionSink: weights that the model still has are its own in the end") {
  lta::RetainedTensors retained(false);
  lta::AttentionSink sink(nullptr);
  const auto kept = at::ones({3});
  auto gone = at::ones({3});
  const auto* const address = gone.const_data_ptr();
  for (const auto& weights : {kept, gone}) {
    lta::AttentionSink::Delivery delivery;
    delivery.retainedWeights = retained.retain(weights);
    sink.deliver(std::move(delivery), [] {});
  }
  gone.reset();
  const auto attentions = sink.close(retained);
  EXPECT(!attentions[0].weights.is_alias_of(kept) && attentions[1].weights.const_data_ptr() == address);
}

TEST("AttentionSink: one at a time is handed over, whichever thread has it") {
  std::atomic<int> now{0}, most{0}, count{0};
  lta::AttentionSink sink([&](lta::Attention) {
    const int here = ++now;
    if (here > most) most = here;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    --now;
    ++count;
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { sink.deliver({}, [] {}); });
  for (auto& thread : threads) thread.join();
  EXPECT(most == 1 && count == 4);
  lta::RetainedTensors retained(false);
  EXPECT(sink.close(retained).empty());
  sink.deliver({}, [] {});
  EXPECT(count == 4);
}

TEST("FixedTensors: parameters, what is made of them alone, and no memory at a freed one's address") {
  const auto modules = std::make_shared<Parameters>();
  lta::FixedTensors fixed(modules);
  auto made = at::ones({3});
  EXPECT(fixed.contains(modules->parameter.narrow(0, 0, 2)) && !fixed.contains(made));
  fixed.add(made);
  EXPECT(fixed.contains(made.view({3, 1})) && !fixed.contains(at::ones({3})));
}

TEST("FirstFailure: the first that was thrown is the one to report") {
  lta::FirstFailure failure;
  EXPECT(!failure.get() && failure.noting([] { return 5; }) == 5);
  for (const auto* code : {"ERR_FIRST", "ERR_SECOND"}) {
    EXPECT_ERROR(failure.noting([&] { throw lta::Error(code, ""); }), std::string(code));
  }
  EXPECT_ERROR(std::rethrow_exception(failure.get()), std::string("ERR_FIRST"));
}

TEST("TakenWeights: parts of one matrix are one attention, the same part again is none") {
  lta::RetainedTensors retained(false);
  lta::TakenWeights weights;
  const auto matrix = matrixOfTwoHeads();
  int created = 0;
  const auto take = [&](const lta::flow::Consumed& consumed) {
    return weights.takePart(
        consumed,
        [&] {
          ++created;
          return std::make_shared<lta::PendingAttention>();
        },
        [&] { return lta::Assembly::Part{retained.retain(consumed.operand), consumed.arrange, {}}; });
  };
  const auto first = taken(matrix, 0, 1), second = taken(matrix, 1, 1);
  const auto one = take(first);
  EXPECT(one.first && one.pending && !one.pending->assembly->isWhole() && weights.open().size() == 1);
  EXPECT(!take(first).pending);
  const auto two = take(second);
  EXPECT(!two.first && two.pending == one.pending && two.pending->assembly->isWhole() && created == 1);
  auto reading = retained.reading();
  const auto assembled = one.pending->assembly->weights();
  EXPECT(assembled.sizes() == at::IntArrayRef({2, 6, 6}));
  EXPECT(assembled[0].equal(first.operand[0]) && assembled[1].equal(second.operand[0]));
  EXPECT(weights.close(one.pending) && !weights.close(one.pending) && weights.open().empty());
}

TEST("TakenWeights: the whole completes its parts; with other things done to it, it is another attention") {
  lta::RetainedTensors retained(false);
  lta::TakenWeights weights;
  const auto matrix = matrixOfTwoHeads();
  const auto partOf = [&](const lta::flow::Consumed& consumed) {
    return [&] { return lta::Assembly::Part{retained.retain(consumed.operand), consumed.arrange, {}}; };
  };
  const auto part = taken(matrix, 0, 1), whole = taken(matrix, 0, 2), other = taken(matrix, 0, 2, 1);
  const auto pending =
      weights.takePart(part, [] { return std::make_shared<lta::PendingAttention>(); }, partOf(part)).pending;
  EXPECT(weights.openWithout([](const auto&) { return true; }).empty());
  EXPECT(weights.openWithout([](const auto&) { return false; }).size() == 1);
  EXPECT(weights.takeWhole(other, partOf(other)).first);
  const auto completed = weights.takeWhole(whole, partOf(whole));
  EXPECT(!completed.first && completed.completed == pending && pending->assembly->isWhole());
  EXPECT(weights.close(pending));
  const auto again = weights.takeWhole(whole, partOf(whole));
  EXPECT(!again.first && !again.completed);
}

TEST("SdpaHeads: queries and keys get the output's leading dimensions where theirs don't tell them") {
  lta::SdpaArguments call;
  call.query = at::rand({4, 5, 8});
  call.key = at::rand({2, 4, 7, 8});
  lta::broadcastToOutput(call, at::empty({2, 4, 5, 8}));
  EXPECT(call.query.sizes() == at::IntArrayRef({2, 4, 5, 8}) && call.key.sizes() == at::IntArrayRef({2, 4, 7, 8}));
  lta::SdpaArguments grouped;
  grouped.query = at::rand({2, 4, 5, 8});
  grouped.key = at::rand({2, 2, 7, 8});
  grouped.groupedQuery = true;
  lta::broadcastToOutput(grouped, at::empty({2, 4, 5, 8}));
  EXPECT(grouped.key.sizes() == at::IntArrayRef({2, 2, 7, 8}));
}

TEST("SdpaHeads: heads move behind the batch, and groups of them are joined, masks with them") {
  const auto query = at::rand({2, 3, 4, 5, 8}), key = at::rand({2, 3, 4, 7, 8}), mask = at::rand({3, 1, 5, 7});
  lta::SdpaArguments call;
  call.query = query;
  call.key = key;
  call.mask = mask;
  lta::moveHeads(call, 1);
  EXPECT(call.query.equal(query.transpose(1, 2)) && call.key.equal(key.transpose(1, 2)));
  EXPECT(call.mask->sizes() == at::IntArrayRef({1, 1, 3, 5, 7}) && call.mask->flatten().equal(mask.flatten()));
  call.query = query;
  call.key = key;
  call.mask = mask;
  lta::joinHeads(call, 2);
  EXPECT(call.query.equal(query.reshape({2, 12, 5, 8})) && call.key.equal(key.reshape({2, 12, 7, 8})));
  EXPECT(call.mask->equal(mask.expand({1, 3, 4, 5, 7}).reshape({1, 12, 5, 7})));
  EXPECT(lta::joinHeads(query, 2).sizes() == at::IntArrayRef({2, 12, 5, 8}));
}

TEST("a capture's messages name what looks like attention, and the layers that computed some") {
  const auto none = lta::describeNoAttention({});
  EXPECT(none.find("Nothing in it looks like attention") != std::string::npos);
  const std::vector<lta::Unseen> unseen(12, {"pool", "softmax", {2, 6}, "it met no values"});
  const auto listed = lta::describeNoAttention(unseen);
  EXPECT(listed.find("softmax [2, 6] in 'pool': it met no values") != std::string::npos);
  EXPECT(listed.find("; and 2 more. captureTensor") != std::string::npos);
  const auto missing = lta::describeMissingLayer("7", {siteAt(0, "a"), siteAt(1, "")});
  EXPECT(missing ==
         "No attention was computed in layer 7. This forward computed 2, at positions 0 to 1: 'a', (no name)");
}
