#include "script/type_check.h"

#include <ATen/ATen.h>
#include <ATen/core/class_type.h>

#include <algorithm>

#include "runtime/error.h"

namespace lta::script {
namespace {

void checkTensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return;
  if (tensor.layout() == at::kSparse) {
    at::_validate_sparse_coo_tensor_args(tensor._indices(), tensor._values(), tensor.sizes());
  } else if (tensor.layout() == at::kSparseCsr) {
    at::_validate_sparse_csr_tensor_args(tensor.crow_indices(), tensor.col_indices(), tensor.values(), tensor.sizes());
  } else if (tensor.layout() != at::kStrided) {
    throw Error("ERR_MODEL_LOAD", "a tensor in it has a layout that can't be checked");
  } else if (tensor.is_quantized() && tensor.qscheme() != at::kPerTensorAffine) {
    const auto axis = tensor.q_per_channel_axis();
    const auto channels = axis >= 0 && axis < tensor.dim() ? tensor.size(axis) : -1;
    if (tensor.q_per_channel_scales().numel() != channels || tensor.q_per_channel_zero_points().numel() != channels) {
      throw Error("ERR_MODEL_LOAD", "a quantized tensor in it has scales for a different number of channels");
    }
  }
}

}  // namespace

bool TypeCheck::fits(const c10::IValue& value, const c10::TypePtr& type) {
  if (value.isTensor()) checkTensor(value.toTensor());
  if (value.isPtrType() && !value.isTensor() && !value.isString()) {
    const auto [entry, fresh] = seen_.emplace(value.internalToPointer(), type.get());
    if (!fresh) return true;
    const auto key = *entry;
    const bool result = fitsEach(value, type);
    if (!result) seen_.erase(key);
    return result;
  }
  return fitsEach(value, type);
}

bool TypeCheck::fitsEach(const c10::IValue& value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return value.isTensor() || value.isNone();
    case c10::TypeKind::OptionalType:
      return value.isNone() || fits(value, type->containedType(0));
    case c10::TypeKind::ListType: {
      if (!value.isList()) return false;
      const auto& element = type->containedType(0);
      for (const auto& each : value.toListRef()) {
        if (!fits(each, element)) return false;
      }
      value.toList().unsafeSetElementType(element);
      return true;
    }
    case c10::TypeKind::DictType: {
      if (!value.isGenericDict()) return false;
      auto dictionary = value.toGenericDict();
      for (const auto& entry : dictionary) {
        if (!fits(entry.key(), type->containedType(0)) || !fits(entry.value(), type->containedType(1))) return false;
      }
      dictionary.unsafeSetKeyType(type->containedType(0));
      dictionary.unsafeSetValueType(type->containedType(1));
      return true;
    }
    case c10::TypeKind::TupleType: {
      if (!value.isTuple()) return false;
      const auto& elements = value.toTupleRef().elements();
      if (elements.size() != type->containedTypeSize()) return false;
      for (size_t i = 0; i < elements.size(); ++i) {
        if (!fits(elements[i], type->containedType(i))) return false;
      }
      return true;
    }
    case c10::TypeKind::UnionType: {
      const auto& members = type->containedTypes();
      return std::any_of(members.begin(), members.end(), [&](const auto& member) { return fitsEach(value, member); });
    }
    case c10::TypeKind::AnyType:
      return true;
    case c10::TypeKind::ClassType:
    case c10::TypeKind::InterfaceType:
      return value.isObject() && value.toObjectRef().type()->isSubtypeOf(*type);
    case c10::TypeKind::LayoutType:
    case c10::TypeKind::ScalarTypeType:
    case c10::TypeKind::MemoryFormatType:
    case c10::TypeKind::QSchemeType:
      return value.isInt();
    default:
      return value.type()->isSubtypeOf(*type);
  }
}

}  // namespace lta::script
