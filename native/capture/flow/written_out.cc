#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {

// What may become scores, once it is summed over a dimension that both operands have.
void Flow::writtenOut(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  if (call.rule.does != Does::Scales || tensors.size() != 2 || !storageOf(result) || result.dim() < 2) return;
  const auto &a = tensors[0], &b = tensors[1];
  if (!storageOf(a) || !storageOf(b) || a.dim() == 0 || b.dim() == 0 || !result.is_floating_point()) return;
  const auto fixedA = isFixed(a), fixedB = isFixed(b);
  if (fixedA && fixedB) return;
  auto made = std::make_shared<WrittenOut>();
  made->constant = fixedA || fixedB;
  made->operatorName = call.name;
  int64_t row = kNone, column = kNone;
  bool contracts = false;
  std::vector<std::vector<Span>> spans;
  for (int64_t dim = 0; dim < result.dim(); ++dim) {
    const auto ofA = aligned(a, result, dim), ofB = aligned(b, result, dim);
    const bool inA = varies(a, ofA), inB = varies(b, ofB);
    if (inA && !inB) row = dim;
    if (inB && !inA) column = dim;
    const bool featureA = inA && featureAlong(a, ofA), featureB = inB && featureAlong(b, ofB);
    contracts = contracts || (inA && inB);
    made->dims.push_back({Role::Lead, featureA || featureB, inA && inB, featureA && featureB});
    spans.push_back({{dim, 0, 1, result.size(dim)}});
  }
  if (!contracts) return;
  made->fixed = fixedA ? row : fixedB ? column : kNone;
  made->vector = made->constant && made->fixed == kNone;
  if (made->vector) {
    // A vector of constants: a layer with one output, of features or of whatever stands last.
    auto& last = made->dims.back();
    last.feature = last.feature || last.contracted;
    if (std::none_of(made->dims.begin(), made->dims.end(),
                     [](const auto& dim) { return dim.contracted && dim.feature; })) {
      return;
    }
  } else if (row == kNone && column == kNone) {
    // One number for each position: of a query and the key that was moved to where it stands.
    const bool features =
        std::any_of(made->dims.begin(), made->dims.end(), [](const auto& dim) { return dim.ofFeatures; });
    const bool square = storageOf(a) == storageOf(b) && a.storage_offset() == b.storage_offset();
    if (!features || square) return;
  }
  made->bothOwn = row != kNone && column != kNone;
  for (const auto own : {row, column}) {
    if (own == kNone) continue;
    // Beside a table of constants, the first dimension is the batch.
    const bool batch = made->constant && own == 0 && own != made->fixed;
    if (!batch) made->dims[static_cast<size_t>(own)].role = Role::Free;
  }
  made->layout = layoutOf(result, spans, {});
  noteOf(result).writtenOut = std::move(made);
}

// Whether that is what is summed here: its sum is scores.
bool Flow::writtenOutSummed(const Call& call, const at::Tensor& result) {
  const auto tensor = call.tensor(0);
  const auto* note = find(tensor);
  if (call.rule.does != Does::Sums || !note || !note->writtenOut || !storageOf(result)) return false;
  const auto written = note->writtenOut;
  const auto view = written->layout.view(tensor);
  const auto argument = call.argument("dim");
  const auto summed = argument ? intsOf(*argument) : std::vector<int64_t>();
  if (!view || summed.size() != 1) return false;
  const auto over = wrapped(summed.front(), tensor.dim());
  const auto& contracted = view->dims[static_cast<size_t>(over)];
  if (contracted.size() != 1 || contracted.front().span.dim == kForeign) return false;
  const auto& along = written->dims[static_cast<size_t>(contracted.front().span.dim)];
  // A number for each key alone may be anything, unless features of two layers were multiplied.
  if (!along.contracted || !(written->bothOwn || written->constant || along.ofFeatures)) return false;

  if (written->vector) {
    if (along.feature) newNote(result).layer = true;
    return along.feature;
  }

  auto matrix = std::make_shared<Matrix>();
  matrix->operatorName = written->operatorName;
  matrix->module = modules_.current();
  matrix->fromScores = !written->constant;
  matrix->ofFeatures = along.ofFeatures;
  std::vector<std::vector<Span>> spans(static_cast<size_t>(result.dim()));
  const bool keepdim = result.dim() == tensor.dim();
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (dim == over) continue;
    const auto at = static_cast<size_t>(keepdim || dim < over ? dim : dim - 1);
    for (const auto& [span, stride] : view->dims[static_cast<size_t>(dim)]) {
      const auto* of = span.dim == kForeign ? nullptr : &written->dims[static_cast<size_t>(span.dim)];
      if (of && span.dim == written->fixed) matrix->fixed = matrix->dims();
      spans[at].push_back({matrix->dims(), 0, 1, span.size});
      matrix->sizes.push_back(span.size);
      matrix->roles.push_back(of ? of->role : Role::Lead);
      matrix->features.push_back(of && of->feature);
    }
  }
  if (matrix->sizes.empty()) return false;
  // Unless both have a dimension of their own, they are what any layer gives, until there is a softmax.
  if (!written->bothOwn && matrix->fixed == kNone) matrix->fixed = 0;
  auto value = std::make_shared<Value>();
  value->matrix = std::move(matrix);
  value->version = ++versions_;
  auto& made = newNote(result);
  made.layout = layoutOf(result, spans, {});
  made.value = std::move(value);
  return true;
}

}  // namespace lta::flow
