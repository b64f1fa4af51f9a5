#include <ATen/ATen.h>

#include <cmath>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {

// What an operator makes, element by element, of exponentials that no scores led to, or of their sums: those that are
// divided by their own sum are a softmax.
void Flow::raised(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does == Does::Exponentiates) {
    if (tensors.empty() || result.dim() == 0 || isFixed(tensors.front()) || !result.is_floating_point()) return;
    auto& note = noteOf(result);
    note.raised = std::make_shared<Raised>(Raised{call.name, modules_.current()});
    note.raisedSum.reset();
    return;
  }
  const auto noted = [&](size_t place) { return place < tensors.size() ? find(tensors[place]) : nullptr; };
  const auto *first = noted(0), *second = noted(1);
  const auto raisedOf = [](const Note* note) { return note ? note->raised : nullptr; };
  const auto sumOf = [](const Note* note) { return note ? note->raisedSum : std::nullopt; };
  auto raised = raisedOf(first), other = raisedOf(second);
  auto sum = sumOf(second);
  if (!raised && !other && !sum && !sumOf(first)) return;
  const bool divides = call.name == "div" || call.name == "divide" || call.name == "true_divide";
  switch (call.rule.does) {
    case Does::Scales: {
      if (!divides && !sum && other) {
        std::swap(raised, other);
        sum = sumOf(first);
      }
      if (sum && raised && sum->of == raised) {
        // The softmax.
        const auto numerator = tensors[raisedOf(first) ? 0 : 1];
        if (sum->dim == kNone) {
          if (!std::exchange(raised->listed, true)) {
            list({raised->module, raised->operatorName, result.sizes().vec(),
                  "a softmax over groups (the edges of a graph): no matrix of queries and keys exists"});
          }
          return;
        }
        softmax(numerator, result, sum->dim, raised->operatorName.c_str());
        auto& note = noteOf(result);
        if (!note.value) return;
        Value value = *note.value;
        value.module = value.matrix->module = raised->module;
        value.last = std::make_shared<Step>(Step{call.name, nullptr});
        if (!sum->exact) {
          value.kind = Kind::Unnormalized;
          value.normalized = kNone;
        }
        note.value = std::make_shared<Value>(std::move(value));
        return;
      }
      if (sum && divides && !raised) {
        if (std::exchange(sum->of->listed, true)) return;
        return list({sum->of->module, sum->of->operatorName, result.sizes().vec(),
                     "exponentials that were normalized after something was multiplied with them"});
      }
      if (divides && raised && other) {
        // What is summed one key at a time is smaller than the values that are.
        bool smaller = false;
        for (int64_t dim = 0; dim < result.dim(); ++dim) {
          const auto there = aligned(tensors[1], result, dim);
          smaller = smaller || (result.size(dim) > 1 && (there < 0 || tensors[1].size(there) == 1));
        }
        if (smaller && !std::exchange(raised->listed, true)) {
          list({raised->module, raised->operatorName, result.sizes().vec(),
                "a softmax whose sum is accumulated key by key (online): no matrix of its weights exists"});
        }
        return;
      }
      if (raised) noteOf(result).raised = std::move(raised);
      if (!raised && sum) noteOf(result).raisedSum = std::move(sum);
      return;
    }
    case Does::Adds: {
      // A sum over keys begins with zeros.
      const bool begins = tensors.size() == 2 && (raised ? isFixed(tensors[1]) : other && isFixed(tensors[0]));
      if ((raised && other) || begins) {
        noteOf(result).raised = raised ? std::move(raised) : std::move(other);
        return;
      }
      auto kept = sumOf(first);
      const auto argument = call.argument("other");
      const auto number = argument ? numberOf(*argument) : std::nullopt;
      if (kept && number) {
        // What keeps a division from failing is no part of it; more than that is.
        kept->exact = kept->exact && std::abs(*number) <= 1e-2;
        noteOf(result).raisedSum = std::move(kept);
      } else if (raised && number) {
        noteOf(result).raised = std::move(raised);
      } else if (!kept && sum && !first) {
        noteOf(result).raisedSum = std::move(sum);
      }
      return;
    }
    case Does::Copies:
    case Does::Masks:
    case Does::Clamps:
    case Does::KeepsSign: {
      const bool keeps = call.rule.does != Does::KeepsSign || call.name == "reciprocal";
      const bool where = call.rule.operand == 1;
      auto kept = sumOf(where ? second : first);
      if (!kept) kept = sumOf(first);
      if (keeps && kept) noteOf(result).raisedSum = std::move(kept);
      if (keeps && call.rule.does != Does::KeepsSign && (raised || other)) {
        noteOf(result).raised = raised ? std::move(raised) : std::move(other);
      }
      return;
    }
    default:
      return;
  }
}

// Whether what is summed are such exponentials.
bool Flow::raisedSummed(const Call& call, const at::Tensor& result) {
  const auto tensor = call.tensor(0);
  const auto* note = find(tensor);
  if (!note || !note->raised || call.rule.does != Does::Sums) return false;
  const auto argument = call.argument("dim");
  const auto dims = argument ? intsOf(*argument) : std::vector<int64_t>();
  if (dims.size() != 1 || !storageOf(result)) return false;
  auto raised = note->raised;
  noteOf(result).raisedSum = RaisedSum{std::move(raised), wrapped(dims.front(), tensor.dim())};
  return true;
}

}  // namespace lta::flow
