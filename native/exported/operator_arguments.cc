#include "exported/operator_arguments.h"

#include <ATen/ops/scalar_tensor.h>

#include <sstream>
#include <utility>

#include "exported/argument_reader.h"
#include "exported/json.h"
#include "runtime/operator_checks.h"

namespace lta::exported {
namespace {

using c10::IValue;
using c10::TypeKind;
using Kind = Argument::Kind;
using Cast = Argument::Cast;

bool isIntegerType(const c10::Type& type) {
  return type.kind() == TypeKind::IntType || type.kind() == TypeKind::SymIntType;
}

IValue emptyList(const c10::Type& element) {
  switch (element.kind()) {
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return c10::List<int64_t>();
    case TypeKind::FloatType:
      return c10::List<double>();
    case TypeKind::BoolType:
      return c10::List<bool>();
    case TypeKind::StringType:
      return c10::List<std::string>();
    case TypeKind::OptionalType:
      return c10::List<std::optional<at::Tensor>>();
    default:
      return c10::List<at::Tensor>();
  }
}

// What the exporter wrote as another kind of list than the operator has.
void fitList(Argument& argument, const c10::Type& element, const c10::Argument& wanted) {
  if (element.kind() == TypeKind::OptionalType && argument.kind == Kind::Tensors) argument.kind = Kind::OptionalTensors;
  // Lists without elements are written as lists of anything.
  const bool isEmpty = argument.kind == Kind::Constant
                           ? argument.constant.isList() && argument.constant.toListRef().empty()
                           : argument.kind != Kind::Slot && argument.kind != Kind::Graph && argument.items.empty();
  if (isEmpty) argument = constantArgument(emptyList(element));
  if (argument.kind != Kind::Constant) return;
  auto& constant = argument.constant;
  if (isIntegerType(element) && constant.isInt()) {
    const auto count = static_cast<size_t>(wanted.N().value_or(1));
    constant = c10::List<int64_t>(std::vector<int64_t>(count, constant.toInt()));
  } else if (element.kind() == TypeKind::FloatType && constant.isIntList()) {
    c10::List<double> list;
    for (const int64_t each : constant.toIntVector()) list.push_back(static_cast<double>(each));
    constant = list;
  }
}

// Whether a constant is of a type, as far as the type says it. libtorch looks only where it has to be a tensor or list.
bool fits(const IValue& constant, const c10::Type& type) {
  switch (type.kind()) {
    case TypeKind::TensorType:
      return constant.isTensor();
    case TypeKind::IntType:
    case TypeKind::SymIntType:
    case TypeKind::LayoutType:
    case TypeKind::ScalarTypeType:
    case TypeKind::MemoryFormatType:
      return constant.isInt();
    case TypeKind::FloatType:
    case TypeKind::SymFloatType:
      return constant.isDouble();
    case TypeKind::BoolType:
    case TypeKind::SymBoolType:
      return constant.isBool();
    case TypeKind::NumberType:
      return constant.isScalar();
    case TypeKind::StringType:
      return constant.isString();
    case TypeKind::DeviceObjType:
      return constant.isDevice();
    case TypeKind::ListType: {
      const auto& element = *type.castRaw<c10::ListType>()->getElementType();
      if (isIntegerType(element)) return constant.isIntList();
      switch (element.kind()) {
        case TypeKind::FloatType:
          return constant.isDoubleList();
        case TypeKind::BoolType:
          return constant.isBoolList();
        case TypeKind::TensorType:
          return constant.isTensorList();
        default:
          return constant.isList();
      }
    }
    default:
      return true;
  }
}

Error wrong(const std::string& what, const c10::FunctionSchema& schema) {
  return broken(what + " of " + toString(schema.operator_name()));
}

void fit(Argument& argument, const c10::Argument& wanted, const c10::FunctionSchema& schema, const IsNumber& isNumber) {
  auto type = wanted.real_type();
  const auto optional = type->cast<c10::OptionalType>();
  if (optional) type = optional->getElementType();
  if (optional && argument.kind == Kind::Constant && argument.constant.isNone()) return;
  if (const auto* list = type->castRaw<c10::ListType>()) fitList(argument, *list->getElementType(), wanted);
  if (argument.kind == Kind::Constant) {
    auto& constant = argument.constant;
    if (type->kind() == TypeKind::TensorType && constant.isScalar()) constant = wrappedNumber(constant);
    if (type->kind() == TypeKind::FloatType && constant.isInt()) constant = static_cast<double>(constant.toInt());
    if (!fits(constant, *type)) throw wrong("the argument '" + wanted.name() + "' has another type than that", schema);
    if (const auto* enumeration = enumerationOf(wanted)) checkEnumeration(*enumeration, constant);
    return;
  }
  if (enumerationOf(wanted)) throw wrong("the argument '" + wanted.name() + "' has to be a constant", schema);
  // Whether a slot holds a number is known from the file, so that tensors aren't asked at each run.
  if (argument.kind != Kind::Slot || !isNumber[static_cast<size_t>(argument.slot)]) return;
  if (type->kind() == TypeKind::TensorType) argument.cast = Cast::Tensor;
  if (type->kind() == TypeKind::FloatType) argument.cast = Cast::Float;
}

}  // namespace

at::Tensor wrappedNumber(const IValue& number) {
  const auto scalar = number.toScalar();
  auto tensor = at::scalar_tensor(scalar, at::TensorOptions().dtype(scalar.type()));
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

std::vector<Argument> arrangeArguments(const c10::FunctionSchema& schema, std::vector<Argument> given,
                                       const std::vector<std::string>& names, const IsNumber& isNumber) {
  std::vector<bool> used(given.size(), false);
  std::vector<Argument> arranged;
  arranged.reserve(schema.arguments().size());
  for (const auto& wanted : schema.arguments()) {
    size_t at = 0;
    while (at < given.size() && (used[at] || names[at] != wanted.name())) ++at;
    if (at < given.size()) {
      used[at] = true;
      arranged.push_back(std::move(given[at]));
      fit(arranged.back(), wanted, schema, isNumber);
    } else if (wanted.default_value()) {
      arranged.push_back(constantArgument(*wanted.default_value()));
    } else if (wanted.type()->kind() == TypeKind::OptionalType) {
      arranged.push_back(constantArgument({}));
    } else {
      throw wrong("a node lacks the argument '" + wanted.name() + "'", schema);
    }
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) throw wrong("a node has an argument " + shown(names[i]) + ", which is none", schema);
  }
  return arranged;
}

}  // namespace lta::exported
