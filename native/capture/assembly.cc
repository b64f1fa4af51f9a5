#include "capture/assembly.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "torch/own_computation.h"
#include "weights/layout.h"

namespace lta {
namespace {

int64_t elements(const flow::Arrangement& part) {
  int64_t count = 1;
  for (const auto& each : part.coordinates()) count *= static_cast<int64_t>(each.size());
  return count;
}

bool meet(std::vector<int64_t> a, std::vector<int64_t> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::vector<int64_t> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return !both.empty();
}

}  // namespace

bool Assembly::isApart(const flow::Arrangement& part) const {
  return std::all_of(parts_.begin(), parts_.end(), [&](const Part& other) {
    for (size_t dim = 0; dim < sizes_.size(); ++dim) {
      if (!meet(other.arrange.coordinates()[dim], part.coordinates()[dim])) return true;
    }
    return false;
  });
}

bool Assembly::contains(const flow::Arrangement& part) const {
  return std::any_of(parts_.begin(), parts_.end(), [&](const Part& other) {
    for (size_t dim = 0; dim < sizes_.size(); ++dim) {
      auto all = other.arrange.coordinates()[dim], own = part.coordinates()[dim];
      std::sort(all.begin(), all.end());
      std::sort(own.begin(), own.end());
      if (!std::includes(all.begin(), all.end(), own.begin(), own.end())) return false;
    }
    return true;
  });
}

void Assembly::add(Part part) {
  overlap_ = overlap_ || !isApart(part.arrange);
  parts_.push_back(std::move(part));
}

void Assembly::replace(Part part) {
  overlap_ = false;
  parts_.clear();
  parts_.push_back(std::move(part));
}

bool Assembly::isWhole() const { return sizes() == sizes_ && hasNoGaps(); }

bool Assembly::hasNoGaps() const {
  const auto here = sizes();
  if (overlap_) {
    const OwnComputation own;
    auto taken = at::zeros(here, at::kBool);
    for (const auto& part : parts_) write(part, at::ones({}, at::kBool), taken);
    return taken.all().item<bool>();
  }
  int64_t all = 1, taken = 0;
  for (const auto size : here) all *= size;
  for (const auto& part : parts_) taken += elements(part.arrange);
  return taken == all;
}

std::vector<std::vector<int64_t>> Assembly::covered() const {
  std::vector<std::vector<int64_t>> all(sizes_.size());
  for (size_t dim = 0; dim < sizes_.size(); ++dim) {
    for (const auto& part : parts_) {
      const auto& own = part.arrange.coordinates()[dim];
      all[dim].insert(all[dim].end(), own.begin(), own.end());
    }
    std::sort(all[dim].begin(), all[dim].end());
    all[dim].erase(std::unique(all[dim].begin(), all[dim].end()), all[dim].end());
  }
  return all;
}

std::vector<int64_t> Assembly::sizes() const {
  std::vector<int64_t> sizes;
  for (const auto& each : covered()) sizes.push_back(static_cast<int64_t>(each.size()));
  return sizes;
}

bool Assembly::hasWholeRows() const { return sizes().back() == sizes_.back() && hasNoGaps(); }

void Assembly::write(const Part& part, const at::Tensor& from, at::Tensor& into) const {
  const auto all = covered();
  std::vector<at::Tensor> places;
  for (size_t dim = 0; dim < all.size(); ++dim) {
    std::vector<int64_t> found;
    for (const auto coordinate : part.arrange.coordinates()[dim]) {
      found.push_back(std::lower_bound(all[dim].begin(), all[dim].end(), coordinate) - all[dim].begin());
    }
    // Each dimension's places along its own.
    std::vector<int64_t> shape(all.size(), 1);
    shape[dim] = static_cast<int64_t>(found.size());
    places.push_back(indexTensor(found, into.device()).view(shape));
  }
  c10::List<std::optional<at::Tensor>> indices;
  for (auto& each : places) indices.push_back(std::move(each));
  into.index_put_(indices, from.to(into.scalar_type()));
}

at::Tensor Assembly::weights() const {
  const auto first = parts_.front().operand->get().detach();
  if (parts_.size() == 1) return parts_.front().arrange.part(first, /*gradient=*/false);
  auto whole = at::zeros(sizes(), first.options());
  for (const auto& part : parts_)
    write(part, part.arrange.part(part.operand->get().detach(), /*gradient=*/false), whole);
  return whole;
}

at::Tensor Assembly::place(const Part& part, const at::Tensor& gradient) const {
  auto whole = at::zeros(sizes(), gradient.options());
  write(part, part.arrange.part(gradient, /*gradient=*/true), whole);
  return whole;
}

}  // namespace lta
