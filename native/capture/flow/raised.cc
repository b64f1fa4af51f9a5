#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {
namespace {

// So many positions are more than two branches that are weighed against each other.
constexpr int64_t kSeveral = 3;

}  // namespace

// What an operator makes, element by element, of exponentials that no scores led to, or of their sums: those that are
// divided by their own sum are a softmax.
void Flow::raised(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does == Does::Exponentiates) {
    if (tensors.empty() || result.dim() == 0 || isFixed(tensors.front()) || !result.is_floating_point()) return;
    auto& note = noteOf(result);
    note.raised = RaisedTerm{std::make_shared<Raised>(Raised{call.name, modules_.current()})};
    note.raisedSum.reset();
    return;
  }
  const auto noted = [&](size_t place) { return place < tensors.size() ? find(tensors[place]) : nullptr; };
  const auto *first = noted(0), *second = noted(1);
  const auto raisedOf = [](const Note* note) { return note ? note->raised : std::nullopt; };
  const auto sumOf = [](const Note* note) { return note ? note->raisedSum : std::nullopt; };
  auto raised = raisedOf(first), other = raisedOf(second);
  auto sum = sumOf(second);
  if (!raised && !other && !sum && !sumOf(first)) return;
  const bool divides = call.divides();
  switch (call.rule.does) {
    case Does::Scales: {
      if (!divides && !sum && other) {
        std::swap(raised, other);
        sum = sumOf(first);
      }
      if (sum && raised && sum->of == raised->of) {
        // The softmax.
        const auto of = raised->of;
        const auto numerator = tensors[raisedOf(first) ? 0 : 1];
        if (sum->dim == kNone) {
          if (!std::exchange(of->listed, true)) {
            list({of->module, of->operatorName, result.sizes().vec(),
                  "a softmax over groups (the edges of a graph): no matrix of queries and keys exists"});
          }
          return;
        }
        softmax(numerator, result, sum->dim, of->operatorName.c_str());
        auto& note = noteOf(result);
        if (!note.value) return;
        Value value = *note.value;
        value.module = value.matrix->module = of->module;
        value.last = std::make_shared<Step>(call.name, nullptr);
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
        // As wide as the values: each channel has keys of its own.
        const bool channels = !smaller && raised->factors > other->factors && other->terms >= kSeveral;
        if ((smaller || channels) && !std::exchange(raised->of->listed, true)) {
          list({raised->of->module, raised->of->operatorName, result.sizes().vec(),
                smaller ? "a softmax whose sum is accumulated key by key (online): no matrix of its weights exists"
                        : "each channel is averaged over positions by exponentials of its own (a recurrence, an "
                          "attention-free layer): no matrix of queries and keys exists"});
        }
        return;
      }
      if (raised) {
        auto term = *raised;
        if (other) term.terms = std::max(term.terms, other->terms);
        if (other) {
          term.factors = std::max(term.factors, other->factors);
        } else if (tensors.size() > 1 && tensors[0].dim() > 0 && tensors[1].dim() > 0) {
          ++term.factors;
        }
        noteOf(result).raised = std::move(term);
      }
      if (!raised && sum) noteOf(result).raisedSum = std::move(sum);
      return;
    }
    case Does::Adds: {
      // A sum over keys begins with zeros, of which nothing is known where the JIT made a constant of them.
      const auto mayBeZeros = [&](size_t place, const Note* note) { return !note || isFixed(tensors[place]); };
      const bool begins = tensors.size() == 2 && tensors[0].dim() > 0 && tensors[1].dim() > 0 &&
                          (raised ? mayBeZeros(1, second) : other && mayBeZeros(0, first));
      const auto termOf = [](const Note* note) -> std::optional<RaisedTerm> {
        if (!note || note->raised || !note->raisedSum) return note ? note->raised : std::nullopt;
        return RaisedTerm{note->raisedSum->of, kSeveral, note->raisedSum->factors};
      };
      const auto a = termOf(first), b = termOf(second);
      if ((a && b && (raised || other)) || begins) {
        auto term = a ? *a : *b;
        if (a && b) {
          term.terms += b->terms;
          term.factors = std::min(term.factors, b->factors);
        }
        noteOf(result).raised = std::move(term);
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
    case Does::Accumulates:
      if (raised && call.name == "cumsum") {
        raised->terms += kSeveral;
        noteOf(result).raised = std::move(raised);
      }
      return;
    case Does::Copies:
    case Does::Masks:
    case Does::Clamps:
    case Does::KeepsSign: {
      const auto adds = call.argument("accumulate");
      if (other && adds && adds->isBool() && adds->toBool()) {
        noteOf(result).raisedSum = RaisedSum{other->of, kNone};
        return;
      }
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
  const auto [raised, terms, factors] = *note->raised;
  noteOf(result).raisedSum = RaisedSum{raised, wrapped(dims.front(), tensor.dim()), true, factors};
  return true;
}

// A product or a convolution adds up exponentials of several positions.
void Flow::raisedMixed(const at::Tensor& a, const at::Tensor& b, const at::Tensor& result) {
  const auto *noteA = find(a), *noteB = find(b);
  const bool first = noteA && noteA->raised, second = noteB && noteB->raised;
  if (first == second || !storageOf(result)) return;
  auto term = first ? *noteA->raised : *noteB->raised;
  term.terms += kSeveral;
  noteOf(result).raised = std::move(term);
}

}  // namespace lta::flow
