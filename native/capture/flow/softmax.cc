#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "capture/flow/dimensions.h"
#include "torch/nested.h"

namespace lta::flow {
namespace {

// Whether views split what a table of constants gave, as heads or windows are split off what a layer gives.
bool isSplit(const Matrix& matrix, const View& view) {
  int64_t parts = 0;
  for (const auto& components : view.dims) {
    parts += std::count_if(components.begin(), components.end(),
                           [&](const Component& component) { return component.span.dim == matrix.fixed; });
  }
  return parts > 1;
}

// Whether a dimension of a product is what a layer made of its second factor, and the other one is none of a layer's.
bool isOfValues(const Matrix& product, int64_t dim) {
  if (dim == kForeign || product.roles[static_cast<size_t>(dim)] != Role::Free || !product.isFeature(dim)) return false;
  for (int64_t each = 0; each < product.dims(); ++each) {
    if (each != dim && product.roles[static_cast<size_t>(each)] == Role::Free) return !product.isFeature(each);
  }
  return false;
}

}  // namespace

void Flow::softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, const char* operatorName) {
  if (result.is_nested()) {
    const auto longest = std::get<0>(sizesOfNested(result).max(0));
    std::vector<int64_t> sizes{result.size(0)};
    for (int64_t each = 0; each < longest.size(0); ++each) sizes.push_back(longest[each].item<int64_t>());
    return list({modules_.current(), operatorName, std::move(sizes),
                 "a softmax of nested tensors: each of the batch has a matrix of its own size"});
  }
  if (result.dim() == 0 || !storageOf(result)) return;
  dim = wrapped(dim, result.dim());
  const auto source = operandOf(input);
  auto matrix = std::make_shared<Matrix>();
  matrix->softmax = true;
  matrix->operatorName = operatorName;
  matrix->module = modules_.current();
  // Of those that were put side by side and went through one layer each, it weighs one against the others.
  const auto* feature = source ? nullptr : featureAlong(input, dim);
  // Of scores that couldn't be followed: put side by side, they are scores still.
  auto lost = source || !source.note || (feature && !feature->stacked) ? nullptr : tracedTo(*source.note);
  if (lost) {
    feature = nullptr;
    matrix->parents.push_back(lost);
  }
  matrix->layerKeys = feature && !feature->scored;
  matrix->chosenKeys = matrix->layerKeys && feature->chosen;
  if (matrix->layerKeys) matrix->layer = find(input)->by;
  matrix->constant = isFixed(input);
  const auto* const given = matrix->constant ? find(input) : nullptr;
  matrix->fixedScores = given && given->fixed == Fixed::Scores;
  const bool positions = (!source || isLayers(source)) && isPositions(input, dim);
  // What a layer gave, however it is written: no dimension of it is one operand's, as queries are.
  const bool ofLayer = !source || (isLayers(source) && isSplit(source.matrix(), *source.view));
  if (source) {
    matrix->fromScores = source.matrix().fromScores;
    matrix->ofFeatures = source.matrix().ofFeatures;
    matrix->allFeatures = source.matrix().allFeatures;
    matrix->headsGuessed = source.matrix().headsGuessed;
    matrix->parents.push_back(source.value().matrix);
    // Slots that a layer made for each sample are keys as any others.
    const auto fixed = source.matrix().generated ? kNone : source.matrix().fixed;
    if (fixed != kNone) matrix->fixedKeys = source.view->has(dim, fixed);
    matrix->chosenKeys = (matrix->fixedKeys || matrix->fromScores) && source.matrix().chosenKeys;
  }

  // Sizes that tell batch from heads where the softmax runs over [batch · heads, Q, K].
  std::optional<Lead> lead;
  if (ofLayer && result.dim() == 3) {
    lead = leadOf(input);
    if (!lead && input.is_view()) {
      const auto& base = input._base();
      if (base.dim() == 4 && base.size(0) * base.size(1) == result.size(0) && base.size(2) == result.size(1) &&
          base.size(3) == result.size(2)) {
        lead = Lead{base.size(0), base.size(1)};
      }
    }
  }

  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  // Where the softmax runs over a part of what one operand has, the rest of that is no queries.
  auto keySource = kForeign;
  if (source && !source.view->dims[static_cast<size_t>(dim)].empty()) {
    keySource = source.view->dims[static_cast<size_t>(dim)].back().span.dim;
  }
  // As one dimension of the scores that it stands for, or as one of its own.
  const auto add = [&](int64_t at, int64_t size, const Component* component) {
    const auto of = component ? component->span.dim : kForeign;
    const bool own = of != kForeign;
    spans[static_cast<size_t>(at)].push_back({matrix->dims(), 0, 1, size});
    matrix->features.push_back(own ? source.matrix().isFeature(of) : ofLayer && featureAlong(input, at) != nullptr);
    matrix->sizes.push_back(size);
    matrix->roles.push_back(own && of == keySource && at != dim ? Role::Lead
                            : own                               ? source.matrix().roles[static_cast<size_t>(of)]
                            : component                         ? Role::Lead
                                                                : Role::Unknown);
  };
  const auto ofQueries = [&](int64_t each) {
    if (!source || !source.matrix().queryGrid || each == dim || each >= result.dim()) return false;
    const auto& components = source.view->dims[static_cast<size_t>(each)];
    if (components.size() != 1 || components.front().span.dim == kForeign) return false;
    const auto of = components.front().span.dim;
    return source.matrix().roles[static_cast<size_t>(of)] == Role::Free && !source.matrix().isFeature(of);
  };
  // Places of a grid, each with keys of its own, as where a window slides over a picture: behind heads, they are the
  // queries.
  const auto only = [&](int64_t each) {
    const auto& components = source.view->dims[static_cast<size_t>(each)];
    return components.size() == 1 ? components.front().span.dim : kForeign;
  };
  const auto isLead = [&](int64_t each, bool feature) {
    const auto of = only(each);
    return of != kForeign && source.matrix().roles[static_cast<size_t>(of)] == Role::Lead &&
           source.matrix().isFeature(of) == feature;
  };
  const auto inGrid = [&](const std::vector<Component>& components) {
    return isLayers(source) && std::all_of(components.begin(), components.end(), [&](const Component& component) {
             const auto of = component.span.dim;
             return of > 0 && of != source.matrix().fixed && !source.matrix().isFeature(of);
           });
  };
  auto firstPlace = kNone, lastPlace = kNone;
  if (source && source.matrix().fromScores && !source.matrix().queryGrid && dim == result.dim() - 1 && dim > 3) {
    lastPlace = firstPlace = result.size(dim - 1) == 1 ? dim - 2 : dim - 1;
    while (firstPlace > 0 && isLead(firstPlace, /*feature=*/false)) --firstPlace;
    const bool heads = firstPlace > 0 && isLead(firstPlace, /*feature=*/true);
    if (!heads || ++firstPlace >= lastPlace) firstPlace = kNone;
  }
  for (int64_t each = 0; each < result.dim(); ++each) {
    const auto size = result.size(each);
    const auto* components = ofLayer ? nullptr : &source.view->dims[static_cast<size_t>(each)];
    const bool told = components && !components->empty();
    if (each == firstPlace) {
      int64_t step = 1;
      for (auto place = firstPlace; place <= lastPlace; ++place) step *= result.size(place);
      add(each, step, &components->front());
      for (auto place = firstPlace; place <= lastPlace; ++place) {
        step /= result.size(place);
        spans[static_cast<size_t>(place)] = {{matrix->dims() - 1, 0, step, result.size(place)}};
      }
      each = lastPlace;
    } else if (ofQueries(each) && ofQueries(each + 1)) {
      const auto width = result.size(each + 1);
      add(each, size * width, &components->front());
      spans[static_cast<size_t>(each)].back() = {matrix->dims() - 1, 0, width, size};
      spans[static_cast<size_t>(++each)].push_back({matrix->dims() - 1, 0, 1, width});
    } else if (each == dim) {
      matrix->key = matrix->dims();
      add(each, size, told ? &components->back() : nullptr);
    } else if (told && inGrid(*components)) {
      // Positions of a grid that went through one table.
      add(each, size, &components->back());
    } else if (told && components->size() > 1) {
      for (size_t first = 0; first < components->size();) {
        // Queries that a view had split (a grid of them) are one dimension.
        const auto& span = (*components)[first].span;
        auto size = span.size;
        auto next = first + 1;
        const auto isQueries = [&](const Span& each) {
          return each.dim != kForeign && source.matrix().roles[static_cast<size_t>(each.dim)] == Role::Free &&
                 !source.matrix().isFeature(each.dim);
        };
        for (; isQueries(span) && next < components->size() && isQueries((*components)[next].span); ++next) {
          size *= (*components)[next].span.size;
        }
        add(each, size, &(*components)[first]);
        first = next;
      }
    } else if (each == 0 && lead) {
      add(each, lead->outer, nullptr);
      add(each, lead->inner, nullptr);
      matrix->features[0] = lead->headsFirst;
      matrix->headsGuessed = lead->guessed && lead->inner > 1;
    } else {
      add(each, size, told ? &components->front() : nullptr);
    }
  }
  // Queries are what one operand of the scores' product has beside the keys; else the dimension ahead of the keys.
  for (const bool features : {true, false}) {
    for (int64_t each = 0; each < matrix->dims(); ++each) {
      const auto place = static_cast<size_t>(each);
      if (each != matrix->key && matrix->roles[place] == Role::Free && matrix->features[place] == features) {
        matrix->query = each;
      }
    }
  }
  const auto isHeads = [&](int64_t each) {
    const auto place = static_cast<size_t>(each);
    return matrix->roles[place] == Role::Lead && matrix->features[place];
  };
  // A product of matrices alone doesn't tell them from batch.
  if (source && source.matrix().ofPositions && result.dim() > 3 && result.size(-3) > 1) matrix->headsGuessed = true;
  if (matrix->query == kNone && matrix->key == matrix->dims() - 1 && matrix->dims() > 2 && !isHeads(matrix->key - 1)) {
    matrix->query = matrix->key - 1;
    // One query for each position, beside keys of its own, as where a window slides: the positions are the queries.
    const auto ahead = matrix->query - 1;
    const auto sizeOf = [&](int64_t dim) { return matrix->sizes[static_cast<size_t>(dim)]; };
    if (ahead > 1 && sizeOf(matrix->query) == 1 && sizeOf(ahead) > 1 && !isHeads(ahead)) {
      bool heads = false;
      for (int64_t dim = 0; dim < ahead; ++dim) heads = heads || isHeads(dim);
      if (heads) matrix->query = ahead;
    }
  }
  // The only query, of which there is no trace in strides.
  if (matrix->query == kNone && matrix->fromScores && matrix->dims() > 3) {
    for (int64_t each = 0; each < matrix->dims(); ++each) {
      const auto place = static_cast<size_t>(each);
      const bool only = each != matrix->key && matrix->roles[place] == Role::Unknown && matrix->sizes[place] == 1;
      if (only && (each < matrix->key || matrix->query == kNone)) matrix->query = each;
    }
  }
  // Positions behind the keys of their windows.
  const auto behind = matrix->dims() - 1;
  if (matrix->query == kNone && source && matrix->key > 1 && matrix->key < behind &&
      matrix->sizes[static_cast<size_t>(behind)] > 1 && !matrix->features[static_cast<size_t>(behind)]) {
    bool batch = isLayers(source);
    for (int64_t each = 0; each < matrix->key; ++each) batch = batch || !matrix->features[static_cast<size_t>(each)];
    if (batch) matrix->query = behind;
  }
  // Of weights for each channel, or for each head, too.
  if (matrix->query == kNone && (!source || isLayers(source)) && matrix->key > 1 && matrix->key < matrix->dims() - 1 &&
      matrix->sizes.back() > 1 && matrix->sizes[static_cast<size_t>(matrix->key - 1)] > 1 &&
      !matrix->features[static_cast<size_t>(matrix->key - 1)]) {
    matrix->query = matrix->key - 1;
  }

  auto value = std::make_shared<Value>();
  value->matrix = matrix;
  value->stage = std::string_view(operatorName) == "log_softmax" ? Stage::Log : Stage::Weights;
  value->kind = Kind::Softmax;
  value->normalized = matrix->key;
  value->operatorName = operatorName;
  value->module = matrix->module;
  value->version = ++versions_;
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::move(value);
  if (source) source.matrix().softmaxes.push_back(matrix);
  // Of experts, classes and slots, products tell more; of what layers weigh each other by, nothing is to be told.
  const bool explained = matrix->constant || matrix->layerKeys || matrix->fixedKeys || result.size(dim) < 2;
  const bool told = matrix->fromScores && !source.matrix().pairs;
  // Of what a layer made and a matrix mixed over positions, as in a graph convolution, or of each two positions:
  // classes, and no keys.
  const bool labels = keySource != kForeign && source.matrix().isFeature(keySource) &&
                      source.matrix().roles[static_cast<size_t>(keySource)] == Role::Lead;
  const bool classes = labels || (source && !matrix->ofFeatures && isOfValues(source.matrix(), keySource));
  matrix->unexplained = classes || (!told && !positions && !lost);
  if (!matrix->unexplained || !explained) matrices_.push_back(std::move(matrix));
}

}  // namespace lta::flow
