#include "capture/assembly.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

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

void Assembly::add(Part part) { parts_.push_back(std::move(part)); }

void Assembly::replace(Part part) {
  parts_.clear();
  parts_.push_back(std::move(part));
}

bool Assembly::isWhole() const {
  int64_t all = 1, here = 0;
  for (const auto size : sizes_) all *= size;
  for (const auto& part : parts_) here += elements(part.arrange);
  return here == all;
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

bool Assembly::coversKeys() const { return sizes().back() == sizes_.back(); }

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
