#include "capture/taken_weights.h"

#include <algorithm>

namespace lta {

std::vector<TakenWeights::Taken>& TakenWeights::of(const flow::MatrixPtr& matrix) {
  auto& [kept, taken] = matrices_[matrix.get()];
  kept = matrix;
  return taken;
}

TakenWeights::Whole TakenWeights::takeWhole(const flow::Consumed& consumed,
                                            const std::function<Assembly::Part()>& part) {
  const auto version = consumed.value->version;
  auto& taken = of(consumed.value->matrix);
  PendingPtr completed;
  for (const auto& each : taken) {
    // Summed over the queries instead, they are an attention of their own: of keys to queries.
    if (each.version != version || each.key != consumed.key) continue;
    if (!each.pending) return {false, nullptr};  // the same weights again, with other values
    each.pending->assembly->replace(part());
    completed = each.pending;
  }
  if (completed) return {false, completed};
  taken.push_back({version, consumed.key, nullptr});
  return {true, nullptr};
}

TakenWeights::Part TakenWeights::takePart(const flow::Consumed& consumed, const std::function<PendingPtr()>& create,
                                          const std::function<Assembly::Part()>& part) {
  const auto version = consumed.value->version;
  auto& taken = of(consumed.value->matrix);
  PendingPtr pending;
  for (const auto& each : taken) {
    if (each.key != consumed.key) continue;
    if (each.pending && each.pending->assembly->isApart(consumed.arrange)) {
      pending = each.pending;
      break;
    }
    if (each.version != version) continue;
    if (!each.pending || each.pending->assembly->contains(consumed.arrange)) return {nullptr, false};
    // Overlapping, as windows do: of the same weights, so that each says the same of what both have.
    pending = each.pending;
    break;
  }
  const bool first = !pending;
  if (first) {
    pending = create();
    pending->assembly = std::make_shared<Assembly>(consumed.arrange.sizes());
    taken.push_back({version, consumed.key, pending});
    open_.push_back(pending);
  }
  pending->assembly->add(part());
  return {pending, first};
}

bool TakenWeights::close(const PendingPtr& pending) {
  if (std::erase(open_, pending) == 0) return false;
  for (auto& [key, of] : matrices_) {
    for (auto& each : of.taken) {
      if (each.pending == pending) each.pending.reset();
    }
  }
  return true;
}

std::vector<TakenWeights::PendingPtr> TakenWeights::openWithout(
    const std::function<bool(const flow::Matrix&)>& lives) const {
  std::vector<PendingPtr> without;
  if (open_.empty()) return without;
  for (const auto& [key, of] : matrices_) {
    for (const auto& each : of.taken) {
      if (each.pending && !lives(*of.matrix)) without.push_back(each.pending);
    }
  }
  return without;
}

}  // namespace lta
