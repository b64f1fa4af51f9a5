#include "capture/tensor_capture.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <sstream>

#include "capture/layer_selection.h"
#include "runtime/error.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

constexpr size_t kListed = 12;  // names in a message

// "aten::softmax" → "softmax"; operators of others keep their namespace.
std::string shortName(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name().name;
  return name.starts_with("aten::") ? name.substr(6) : name;
}

template <typename Take>
void forEachTensor(const c10::IValue& value, int64_t& place, const Take& take) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) take(place, value.toTensor());
    ++place;
  } else if (value.isTensorList() || value.isList()) {
    for (const c10::IValue& element : value.toListRef()) forEachTensor(element, place, take);
  }
}

// The values of a tensor of any layout, in rows and columns: what is jagged is filled up with zeros.
at::Tensor dense(const at::Tensor& tensor) {
  if (tensor.is_nested()) return at::nested_to_padded_tensor(tensor.detach(), 0.0);
  if (tensor.is_quantized()) return tensor.detach().dequantize();
  return tensor.layout() == at::kStrided ? tensor.detach() : tensor.detach().to_dense();
}

std::string shapeText(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

std::string named(const std::string& module) { return module.empty() ? "the model itself" : "'" + module + "'"; }

}  // namespace

TensorCapture::TensorCapture(TensorCaptureOptions options, std::shared_ptr<const ModuleResolver> modules)
    : options_(std::move(options)), modules_(std::move(modules)), budget_(options_.maxBytes) {}

bool TensorCapture::selects(const std::string& module) const {
  const auto& modules = options_.selector.modules;
  return !modules || modules->contains(module);
}

void TensorCapture::onOperator(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& selector = options_.selector;
  CapturedTensor place;
  place.name = modules_->current();
  place.operatorName = shortName(op);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    place.occurrence = calls_[place.name][place.operatorName]++;
  }
  if (!selects(place.name) || (selector.operatorName && *selector.operatorName != place.operatorName) ||
      (selector.occurrence && *selector.occurrence != place.occurrence)) {
    return;
  }
  failure_.noting([&] {
    const auto results = op.schema().returns().size();
    int64_t output = 0;
    for (size_t i = 0; i < results; ++i) {
      forEachTensor(torch::jit::peek(stack, i, results), output, [&](int64_t which, const at::Tensor& tensor) {
        place.output = which;
        keep(place, tensor);
      });
    }
  });
}

void TensorCapture::keep(CapturedTensor place, const at::Tensor& tensor) {
  const OwnComputation own;
  const auto values = dense(tensor);
  const auto type = options_.toFloat && values.is_floating_point() ? at::kFloat : values.scalar_type();
  budget_.reserve(
      values.numel() * static_cast<int64_t>(c10::elementSize(type)),
      [&] {
        return "what '" + place.operatorName + "' gave in " + named(place.name) + ", of shape " + shapeText(values);
      },
      "module, operator and occurrence");
  // Copied at once: the model may write into its own.
  auto copy = at::empty(values.sizes(), values.options().dtype(type).memory_format(at::MemoryFormat::Contiguous));
  copy.copy_(values);
  const std::lock_guard<std::mutex> lock(mutex_);
  place.tensor = options_.toCpu ? copies_.toCpu(copy) : std::move(copy);
  tensors_.push_back(std::move(place));
}

std::vector<CapturedTensor> TensorCapture::finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  finished_ = true;
  copies_.wait();
  if (tensors_.empty()) refuseSelector();
  return std::move(tensors_);
}

// Says what the selected modules called in place of what was asked for.
void TensorCapture::refuseSelector() const {
  const auto& selector = options_.selector;
  const auto listed = [](const Calls& calls) {
    std::ostringstream text;
    size_t count = 0;
    for (const auto& [name, times] : calls) {
      if (count++ == kListed) {
        text << ", … (" << calls.size() << " in all)";
        break;
      }
      text << (count > 1 ? ", " : "") << name;
      if (times > 1) text << " (" << times << " times)";
    }
    return text.str();
  };
  std::ostringstream message;

  Calls all;  // of the selected modules, added up
  std::string where = "this model";
  int64_t most = 0;  // how often one of them called the operator
  for (const auto& [module, calls] : calls_) {
    if (!selects(module)) continue;
    for (const auto& [name, times] : calls) {
      all[name] += times;
      if (name == selector.operatorName) most = std::max(most, times);
    }
  }
  if (selector.modules) {
    where = named(*selector.modules->begin());
    if (selector.modules->size() > 1) where = "the " + std::to_string(selector.modules->size()) + " modules selected";
  }

  if (all.empty()) {
    // A module's operators may be called below it, or above: by a layer that computes all of it at once.
    message << "Expected a module that calls operators itself in this forward, but " << where << " called none";
    size_t count = 0;
    for (const auto& [module, calls] : calls_) {
      const auto near = [&](const std::string& selected) {
        return isBelow(module, selected) || isBelow(selected, module) || selected.empty() || module.empty();
      };
      if (selector.modules && std::none_of(selector.modules->begin(), selector.modules->end(), near)) continue;
      if (count++ == kListed) {
        message << "; …";
        break;
      }
      message << (count == 1 ? ". Above or below it: " : "; ") << named(module) << " called " << listed(calls);
    }
    throw Error("ERR_UNKNOWN_MODULE", message.str());
  }
  if (selector.operatorName && !all.contains(*selector.operatorName)) {
    message << "Expected an operator that " << where << " called in this forward but received '"
            << *selector.operatorName << "'; called were " << listed(all);
  } else if (selector.operatorName && selector.occurrence && *selector.occurrence >= most) {
    message << "Expected an occurrence from 0 to " << most - 1 << ", since '" << *selector.operatorName
            << "' was called " << most << (most == 1 ? " time" : " times") << " in " << where << ", but received "
            << *selector.occurrence;
  } else if (!selector.operatorName && selector.occurrence) {
    message << "Expected an occurrence that one of the operators in " << where << " had in this forward but received "
            << *selector.occurrence << "; called were " << listed(all);
  } else {
    message << "Expected an operator that gives a tensor, but none of those selected in " << where
            << " did; called were " << listed(all);
  }
  throw Error("ERR_INVALID_ARGUMENT", message.str());
}

}  // namespace lta
