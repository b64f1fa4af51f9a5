#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"
#include "capture/flow/flow.h"

namespace lta::flow {
namespace {

// Whether a dimension that isn't of size one is the same everywhere, or another tensor has one where this has none.
bool isBroadcast(const at::Tensor& tensor, const at::Tensor& other) {
  for (int64_t dim = 1; dim <= other.dim(); ++dim) {
    if (other.size(-dim) < 2 || other.stride(-dim) == 0) continue;
    if (dim > tensor.dim() || tensor.size(-dim) == 1 || tensor.stride(-dim) == 0) return true;
  }
  return false;
}

// Whether it has no such dimension, or one of size one.
bool isOfOne(const at::Tensor& tensor, int64_t dim) { return dim < 0 || tensor.size(dim) == 1; }

bool isExpanded(const at::Tensor& tensor) {
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (tensor.stride(dim) == 0 && tensor.size(dim) > 1) return true;
  }
  return false;
}

bool isPlain(const c10::IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined()) return false;
  const auto& tensor = value.toTensor();
  return tensor.dim() > 1 && tensor.layout() == at::kStrided && tensor.is_floating_point() && !tensor.is_nested();
}

}  // namespace

bool Flow::mayPair(Does does, c10::ArrayRef<c10::IValue> arguments) {
  const bool pairs = does == Does::Scales || does == Does::Subtracts;
  if (!(pairs || does == Does::Norms) || arguments.empty() || !isPlain(arguments[0])) return false;
  const auto& a = arguments[0].toTensor();
  if (does == Does::Norms) return isExpanded(a);
  if (arguments.size() < 2 || !isPlain(arguments[1])) return false;
  const auto& b = arguments[1].toTensor();
  return (does == Does::Scales && (isExpanded(a) || isExpanded(b))) || (isBroadcast(a, b) && isBroadcast(b, a));
}

// What may become scores, once it is summed over a dimension that both operands have.
void Flow::writtenOut(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result) {
  const bool differs = call.rule.does == Does::Subtracts || call.rule.does == Does::SubtractsFrom;
  if ((call.rule.does != Does::Scales && !differs) || tensors.size() != 2) return;
  if (!storageOf(result) || result.dim() < 2) return;
  const auto &a = tensors[0], &b = tensors[1];
  if (!storageOf(a) || !storageOf(b) || a.dim() == 0 || b.dim() == 0 || !result.is_floating_point()) return;
  const auto fixedA = isFixed(a), fixedB = isFixed(b);
  if ((fixedA && fixedB) || (differs && (fixedA || fixedB))) return;
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
  if (differs && !made->bothOwn) return;
  made->differences = differs;
  const auto ofLayer = [&](const at::Tensor& tensor) {
    const auto* note = find(tensor);
    return note && (note->layer || !note->features.empty());
  };
  // What layers made is told by their sizes alone.
  const bool sized = row == kNone || column == kNone ||
                     (isOfOne(b, aligned(b, result, row)) && isOfOne(a, aligned(a, result, column)));
  made->pairs = !made->constant && (differs || !(ofLayer(a) || ofLayer(b)) || !(sized || (ofLayer(a) && ofLayer(b))));
  for (const auto own : {row, column}) {
    if (own == kNone) continue;
    // Beside a table of constants, the first dimension is the batch.
    const bool batch = made->constant && own == 0 && own != made->fixed;
    if (!batch) made->dims[static_cast<size_t>(own)].role = Role::Free;
  }
  made->layout = layoutOf(result, spans, {});
  noteOf(result).writtenOut = std::move(made);
}

// What an operator makes, element by element, of differences that may become distances.
std::shared_ptr<const Flow::WrittenOut> Flow::differences(const Call& call, const std::vector<at::Tensor>& tensors,
                                                          const at::Tensor& result) const {
  const auto* note = tensors.empty() ? nullptr : find(tensors.front());
  if (!note || !note->writtenOut || !note->writtenOut->differences) return nullptr;
  const auto& given = tensors.front();
  if (given.sizes() != result.sizes() || given.strides() != result.strides() ||
      given.storage_offset() != result.storage_offset()) {
    return nullptr;
  }
  const bool squares = call.rule.does == Does::Scales && tensors.size() == 2 && given.is_same(tensors[1]);
  switch (call.rule.does) {
    case Does::Copies:
      return note->writtenOut;
    case Does::Scales:
      if (squares) break;
      // In units of their own.
      return tensors.size() < 2 || tensors[1].dim() == 0 || isFixed(tensors[1]) ? note->writtenOut : nullptr;
    case Does::Powers:
      break;
    default:
      return nullptr;
  }
  auto made = std::make_shared<WrittenOut>(*note->writtenOut);
  made->nonnegative = true;
  return made;
}

// Whether that is what is summed here: its sum is scores.
bool Flow::writtenOutSummed(const Call& call, const at::Tensor& result) {
  const auto tensor = call.tensor(0);
  const auto* note = find(tensor);
  if (!note || !note->writtenOut || !storageOf(result)) return false;
  const auto written = note->writtenOut;
  const bool measures = written->differences &&
                        (call.rule.does == Does::Norms || (written->nonnegative && (call.rule.does == Does::Averages)));
  if (!measures && (call.rule.does != Does::Sums || (written->differences && !written->nonnegative))) return false;
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
  matrix->pairs = written->pairs;
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
