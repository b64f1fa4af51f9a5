#include "node/values.h"

#include <ATen/core/Dict.h>
#include <ATen/core/jit_type.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "node/arguments.h"
#include "node/dtypes.h"
#include "node/script_object_wrap.h"
#include "node/tensor_wrap.h"
#include "runtime/error.h"

namespace lta::node {
namespace {

constexpr double kSafeInteger = 9007199254740991.0;

std::string typeName(const c10::Type& type) { return type.annotation_str(); }

bool isInteger(Napi::Value value) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  return std::trunc(number) == number && std::abs(number) <= kSafeInteger;
}

int64_t toInteger(Napi::Value value, const std::string& where) {
  if (isInteger(value)) return static_cast<int64_t>(value.As<Napi::Number>().DoubleValue());
  if (value.IsBigInt()) {
    bool lossless = false;
    const auto number = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (lossless) return number;
  }
  mismatch("an integer", where, value);
}

bool isPlainObject(Napi::Value value) {
  return value.IsObject() && !value.IsArray() && !value.IsFunction() && !value.IsTypedArray() &&
         !TensorWrap::is(value) && !ScriptObjectWrap::find(value);
}

// Marks an array of pairs [key, value] that represents a Map, which Node-API can neither detect nor create: lib/
// converts.
Napi::Symbol pairsMark(Napi::Env env) {
  constexpr std::string_view kName = "libtorch-attention.pairs";
  napi_value symbol = nullptr;
  if (node_api_symbol_for(env, kName.data(), kName.size(), &symbol) != napi_ok) throw Napi::Error::New(env);
  return {env, symbol};
}

bool isPairs(Napi::Value value) {
  return value.IsArray() && value.As<Napi::Object>().HasOwnProperty(pairsMark(value.Env()));
}

// `depth` counts the containers around a value.
c10::IValue convert(Napi::Value value, const c10::TypePtr& type, const std::string& where, int depth);
c10::IValue convertUntypedPairs(const Napi::Array& pairs, const std::string& where, int depth);

void checkDepth(int depth, const std::string& where) {
  if (depth < kMaximumDepth) return;
  throw Error("ERR_INVALID_ARGUMENT", "Expected values nested at most " + std::to_string(kMaximumDepth) +
                                          " deep but received deeper ones: " + where);
}

// A value for a parameter of type Any: the closest TorchScript type.
c10::IValue convertUntyped(Napi::Value value, const std::string& where, int depth) {
  if (value.IsNull() || value.IsUndefined()) return {};
  if (TensorWrap::is(value)) return TensorWrap::of(value);
  if (const auto* held = ScriptObjectWrap::find(value)) return held->value();
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  if (value.IsBigInt() || isInteger(value)) return toInteger(value, where);
  if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
  if (isPairs(value)) return convertUntypedPairs(value.As<Napi::Array>(), where, depth);
  if (value.IsArray()) {
    checkDepth(depth, where);
    const auto array = value.As<Napi::Array>();
    std::vector<c10::IValue> elements;
    for (uint32_t i = 0; i < array.Length(); ++i) {
      elements.push_back(convertUntyped(array.Get(i), where + "[" + std::to_string(i) + "]", depth + 1));
    }
    c10::TypePtr element = elements.empty() ? c10::AnyType::get() : elements.front().type();
    for (const auto& other : elements) {
      if (*other.type() != *element) element = c10::AnyType::get();
    }
    c10::impl::GenericList list(element);
    for (auto& each : elements) list.push_back(std::move(each));
    return list;
  }
  if (isPlainObject(value))
    return convert(value, c10::DictType::create(c10::StringType::get(), c10::AnyType::get()), where, depth);
  mismatch("a Tensor, number, boolean, string, array, object, ScriptObject or null", where, value);
}

c10::IValue convertTuple(Napi::Value value, const c10::TupleTypePtr& pointer, const std::string& where, int depth) {
  checkDepth(depth, where);
  const auto& type = *pointer;
  const auto& elements = type.elements();
  const auto& schema = type.schema();
  std::vector<c10::IValue> converted;
  if (value.IsArray()) {
    const auto array = value.As<Napi::Array>();
    if (array.Length() != elements.size()) {
      mismatch("an array of " + std::to_string(elements.size()) + " (" + typeName(type) + ")", where, value);
    }
    for (uint32_t i = 0; i < array.Length(); ++i) {
      converted.push_back(convert(array.Get(i), elements[i], where + "[" + std::to_string(i) + "]", depth + 1));
    }
  } else if (schema && isPlainObject(value)) {
    const auto object = value.As<Napi::Object>();
    for (size_t i = 0; i < elements.size(); ++i) {
      const auto& field = schema->arguments()[i].name();
      converted.push_back(convert(object.Get(field), elements[i], where + "." + field, depth + 1));
    }
  } else {
    mismatch("an array of " + std::to_string(elements.size()) + " (" + typeName(type) + ")", where, value);
  }
  if (schema) return c10::ivalue::Tuple::createNamed(std::move(converted), pointer);
  return c10::ivalue::Tuple::create(std::move(converted));
}

// A key of an object, or of a Map if `type` has a text form.
c10::IValue keyFromText(Napi::Value key, const c10::TypePtr& type, const std::string& where) {
  const auto text = key.ToString().Utf8Value();
  size_t read = 0;
  try {
    switch (type->kind()) {
      case c10::TypeKind::StringType:
        return text;
      case c10::TypeKind::IntType: {
        const auto number = static_cast<int64_t>(std::stoll(text, &read));
        if (read == text.size() && read > 0) return number;
        break;
      }
      case c10::TypeKind::FloatType: {
        const auto number = std::stod(text, &read);
        if (read == text.size() && read > 0) return number;
        break;
      }
      default:
        return c10::Device(text);
    }
  } catch (const std::exception&) {
    // not a number, or out of range
  }
  mismatch("a key of type " + typeName(*type), where, key);
}

bool hasText(const c10::Type& type) {
  const auto kind = type.kind();
  return kind == c10::TypeKind::StringType || kind == c10::TypeKind::IntType || kind == c10::TypeKind::FloatType ||
         kind == c10::TypeKind::DeviceObjType;
}

// Calls `take` for each entry of a Map.
template <typename Take>
void eachPair(const Napi::Array& pairs, const std::string& where, const Take& take) {
  for (uint32_t i = 0; i < pairs.Length(); ++i) {
    const Napi::Value pair = pairs.Get(i);
    if (!pair.IsArray() || pair.As<Napi::Array>().Length() != 2) mismatch("an array of two as a pair", where, pair);
    const auto array = pair.As<Napi::Array>();
    take(array.Get(uint32_t{0}), array.Get(uint32_t{1}), where + " (entry " + std::to_string(i) + ")");
  }
}

c10::IValue convertDict(Napi::Value value, const c10::DictType& type, const std::string& where, int depth) {
  checkDepth(depth, where);
  const auto& keyType = type.getKeyType();
  c10::impl::GenericDict dict(keyType, type.getValueType());
  if (isPairs(value)) {
    eachPair(value.As<Napi::Array>(), where, [&](Napi::Value key, Napi::Value element, const std::string& place) {
      auto converted = hasText(*keyType) ? keyFromText(key, keyType, where)
                                         : convert(key, keyType, "the key of " + place, depth + 1);
      dict.insert(std::move(converted), convert(element, type.getValueType(), place, depth + 1));
    });
    return dict;
  }
  if (!isPlainObject(value)) mismatch("an object (" + typeName(type) + ")", where, value);
  const auto object = value.As<Napi::Object>();
  const auto keys = object.GetPropertyNames();
  if (!hasText(*keyType) && keys.Length() > 0) {
    mismatch("a Map with keys of type " + typeName(*keyType) + ", which objects don't have,", where, value);
  }
  for (uint32_t i = 0; i < keys.Length(); ++i) {
    const Napi::Value key = keys.Get(i);
    dict.insert(keyFromText(key, keyType, where),
                convert(object.Get(key), type.getValueType(), where + "." + key.ToString().Utf8Value(), depth + 1));
  }
  return dict;
}

// The key type of a dictionary with this key; null for a type that can't be one.
c10::TypePtr keyTypeOf(const c10::IValue& key) {
  if (key.isString()) return c10::StringType::get();
  if (key.isInt()) return c10::IntType::get();
  if (key.isDouble()) return c10::FloatType::get();
  if (key.isBool()) return c10::BoolType::get();
  if (key.isComplexDouble()) return c10::ComplexType::get();
  if (key.isTensor()) return c10::TensorType::get();
  return nullptr;
}

// A Map for a parameter of type Any: its keys must be of one type.
c10::IValue convertUntypedPairs(const Napi::Array& pairs, const std::string& where, int depth) {
  checkDepth(depth, where);
  std::vector<std::pair<c10::IValue, c10::IValue>> converted;
  c10::TypePtr keyType;
  eachPair(pairs, where, [&](Napi::Value key, Napi::Value element, const std::string& place) {
    auto convertedKey = convertUntyped(key, "the key of " + place, depth + 1);
    const auto type = keyTypeOf(convertedKey);
    if (!type || (keyType && *type != *keyType)) {
      mismatch("keys of one type that dictionaries have (strings, ints, floats, booleans, Tensors)", where, pairs);
    }
    keyType = type;
    converted.emplace_back(std::move(convertedKey), convertUntyped(element, place, depth + 1));
  });
  c10::impl::GenericDict dict(keyType ? keyType : c10::StringType::get(), c10::AnyType::get());
  for (auto& [key, element] : converted) dict.insert(std::move(key), std::move(element));
  return dict;
}

c10::IValue convertList(Napi::Value value, const c10::ListType& type, const std::string& where, int depth) {
  checkDepth(depth, where);
  const auto& element = type.getElementType();
  if (!value.IsArray()) mismatch("an array (" + typeName(type) + ")", where, value);
  const auto array = value.As<Napi::Array>();
  c10::impl::GenericList list(element);
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    list.push_back(convert(array.Get(i), element, where + "[" + std::to_string(i) + "]", depth + 1));
  }
  return list;
}

c10::IValue convert(Napi::Value value, const c10::TypePtr& type, const std::string& where, int depth) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      if (!TensorWrap::is(value)) mismatch("a Tensor", where, value);
      return TensorWrap::of(value);
    case c10::TypeKind::OptionalType:
      if (value.IsNull() || value.IsUndefined()) return {};
      return convert(value, type->expectRef<c10::OptionalType>().getElementType(), where, depth);
    case c10::TypeKind::NoneType:
      if (!value.IsNull() && !value.IsUndefined()) mismatch("null", where, value);
      return {};
    case c10::TypeKind::IntType:
      return toInteger(value, where);
    case c10::TypeKind::FloatType:
      if (!value.IsNumber()) mismatch("a number", where, value);
      return value.As<Napi::Number>().DoubleValue();
    case c10::TypeKind::NumberType:
      if (value.IsBigInt() || isInteger(value)) return toInteger(value, where);
      if (!value.IsNumber()) mismatch("a number", where, value);
      return value.As<Napi::Number>().DoubleValue();
    case c10::TypeKind::BoolType:
      if (!value.IsBoolean()) mismatch("a boolean", where, value);
      return value.As<Napi::Boolean>().Value();
    case c10::TypeKind::StringType:
      if (!value.IsString()) mismatch("a string", where, value);
      return value.As<Napi::String>().Utf8Value();
    case c10::TypeKind::DeviceObjType:
      if (!value.IsString()) mismatch("the name of a device", where, value);
      return c10::Device(value.As<Napi::String>().Utf8Value());
    case c10::TypeKind::ListType:
      return convertList(value, type->expectRef<c10::ListType>(), where, depth);
    case c10::TypeKind::TupleType:
      return convertTuple(value, type->expect<c10::TupleType>(), where, depth);
    case c10::TypeKind::DictType:
      return convertDict(value, type->expectRef<c10::DictType>(), where, depth);
    case c10::TypeKind::UnionType: {
      for (const auto& option : type->expectRef<c10::UnionType>().containedTypes()) {
        try {
          return convert(value, option, where, depth);
        } catch (const Error&) {
          continue;  // try the next member
        }
      }
      mismatch(typeName(*type), where, value);
    }
    case c10::TypeKind::AnyType:
      return convertUntyped(value, where, depth);
    default:
      if (const auto* held = ScriptObjectWrap::find(value); held && held->value().type()->isSubtypeOf(*type)) {
        return held->value();
      }
      mismatch("a ScriptObject of this model's type " + typeName(*type) + ", which JavaScript can't make,", where,
               value);
  }
}

std::string signature(const c10::FunctionSchema& schema, const std::string& method) {
  std::ostringstream text;
  text << method << "(";
  for (size_t i = 1; i < schema.arguments().size(); ++i) {
    const auto& argument = schema.arguments()[i];
    text << (i > 1 ? ", " : "") << argument.name() << ": " << typeName(*argument.type());
    if (argument.default_value()) text << " = " << *argument.default_value();
  }
  text << ")";
  return text.str();
}

Napi::Value fromNumber(Napi::Env env, int64_t number) {
  if (std::abs(static_cast<double>(number)) <= kSafeInteger) return Napi::Number::New(env, static_cast<double>(number));
  return Napi::BigInt::New(env, number);
}

// Defines rather than sets, since a key such as "__proto__" is an ordinary key.
void define(Napi::Object object, const std::string& name, Napi::Value value) {
  object.DefineProperty(Napi::PropertyDescriptor::Value(
      name, value, static_cast<napi_property_attributes>(napi_writable | napi_enumerable | napi_configurable)));
}

}  // namespace

std::string_view bytesOf(Napi::Value typedArray) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(typedArray.Env(), typedArray, &type, &length, &data, nullptr, nullptr) != napi_ok) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected a typed array but received " + shown(typedArray));
  }
  return {static_cast<const char*>(data), length * elementBytes(type)};
}

std::vector<c10::IValue> toInputs(Napi::Array inputs, const c10::FunctionSchema& schema, const std::string& method) {
  const auto& arguments = schema.arguments();  // the first is `self`
  const size_t given = inputs.Length();
  const size_t most = arguments.size() - 1;
  size_t least = most;
  while (least > 0 && arguments[least].default_value()) --least;
  if (given < least || given > most) {
    const auto range = least == most ? std::to_string(most) : std::to_string(least) + " to " + std::to_string(most);
    throw Error("ERR_INVALID_ARGUMENT", "Expected " + range + " input" + (most == 1 && least == 1 ? "" : "s") +
                                            " for " + signature(schema, method) + " but received " +
                                            std::to_string(given));
  }
  std::vector<c10::IValue> converted;
  converted.reserve(most);
  for (size_t i = 0; i < most; ++i) {
    const auto& argument = arguments[i + 1];
    const Napi::Value value = i < given ? inputs.Get(static_cast<uint32_t>(i)) : inputs.Env().Undefined();
    if (value.IsUndefined() && argument.default_value()) {
      converted.push_back(*argument.default_value());
    } else {
      converted.push_back(convert(value, argument.type(),
                                  "input " + std::to_string(i) + " ('" + argument.name() + "') of " + method, 0));
    }
  }
  return converted;
}

c10::IValue toIValue(Napi::Value value, const c10::TypePtr& type, const std::string& where) {
  return convert(value, type, where, 0);
}

namespace {

// A tuple without names infers its type from its elements, which fails for undefined tensors (weights that a fused
// attention wasn't asked for).
bool hasUndefined(c10::ArrayRef<c10::IValue> elements) {
  return std::any_of(elements.begin(), elements.end(), [](const c10::IValue& element) {
    return (element.isTensor() && !element.toTensor().defined()) ||
           (element.isTuple() && hasUndefined(element.toTupleRef().elements()));
  });
}

// Approximate limit in JavaScript's heap, whose exhaustion would end the process.
constexpr size_t kMaximumBytes = 500 * 1000 * 1000;

// Converts one output of a model.
class Output {
 public:
  explicit Output(Napi::Env env) : env_(env) {}

  Napi::Value convert(const c10::IValue& value, int depth) {
    take(16);
    if (value.isNone()) return env_.Null();
    if (value.isTensor()) {
      const auto& tensor = value.toTensor();
      if (!tensor.defined()) return env_.Null();
      take(512);
      return TensorWrap::wrap(env_, tensor);
    }
    if (value.isBool()) return Napi::Boolean::New(env_, value.toBool());
    if (value.isInt()) return fromNumber(env_, value.toInt());
    if (value.isDouble()) return Napi::Number::New(env_, value.toDouble());
    if (value.isString()) return text(value.toStringRef());
    if (value.isDevice()) return text(value.toDevice().str());
    if (value.isTuple() || value.isList() || value.isGenericDict()) {
      if (depth >= kMaximumDepth) {
        refuse("values nested at most " + std::to_string(kMaximumDepth) + " deep",
               "deeper ones, or one that contains itself");
      }
      take(1000);
      return value.isTuple() ? tuple(value, depth) : value.isList() ? list(value.toList(), depth) : dict(value, depth);
    }
    take(512);
    return ScriptObjectWrap::wrap(env_, value);
  }

 private:
  [[noreturn]] static void refuse(const std::string& expected, const std::string& received) {
    throw Error("ERR_MODEL_RUN", "Expected the model to give " + expected + " but received " + received);
  }

  void take(size_t bytes) {
    if (bytes > kMaximumBytes - taken_) {
      refuse("values that take at most " + std::to_string(kMaximumBytes) + " bytes in JavaScript",
             "more (what is referred to in several places counts in each of them)");
    }
    taken_ += bytes;
  }

  Napi::Value text(const std::string& text) {
    take(text.size());
    return Napi::String::New(env_, text);
  }

  // The scope releases the handles of elements early.
  void set(Napi::Array& array, uint32_t index, const c10::IValue& element, int depth) {
    const Napi::HandleScope scope(env_);
    array.Set(index, convert(element, depth + 1));
  }

  Napi::Value tuple(const c10::IValue& value, int depth) {
    const auto tuple = value.toTuple();
    const auto& elements = tuple->elements();
    take(elements.size() * 8);
    auto array = Napi::Array::New(env_, elements.size());
    for (uint32_t i = 0; i < elements.size(); ++i) set(array, i, elements[i], depth);
    // After the elements, since inferring the type recurses into them, and their depth is checked by then.
    if (const auto type = hasUndefined(elements) ? nullptr : tuple->type(); type && type->schema()) {
      const auto& fields = type->schema()->arguments();
      for (uint32_t i = 0; i < fields.size(); ++i) {
        // A field with the name of an array property ("length") is accessible by index only.
        if (!array.Has(fields[i].name())) define(array, fields[i].name(), array.Get(i));
      }
    }
    return array;
  }

  Napi::Value list(const c10::List<c10::IValue>& list, int depth) {
    take(list.size() * 8);
    auto array = Napi::Array::New(env_, list.size());
    for (uint32_t i = 0; i < list.size(); ++i) set(array, i, list.get(i), depth);
    return array;
  }

  Napi::Value dict(const c10::IValue& value, int depth) {
    const auto dictionary = value.toGenericDict();
    if (!hasText(*dictionary.keyType())) return pairs(dictionary, depth);
    auto object = Napi::Object::New(env_);
    for (const auto& entry : dictionary) {
      const Napi::HandleScope scope(env_);
      const auto name = convert(entry.key(), depth + 1).ToString().Utf8Value();
      take(64 + name.size());
      define(object, name, convert(entry.value(), depth + 1));
    }
    return object;
  }

  // A dictionary whose keys have no unambiguous text, for lib/ to make a Map of.
  Napi::Value pairs(const c10::impl::GenericDict& dictionary, int depth) {
    auto array = Napi::Array::New(env_, dictionary.size());
    uint32_t i = 0;
    for (const auto& entry : dictionary) {
      const Napi::HandleScope scope(env_);
      take(64);
      auto pair = Napi::Array::New(env_, 2);
      pair.Set(uint32_t{0}, convert(entry.key(), depth + 1));
      pair.Set(uint32_t{1}, convert(entry.value(), depth + 1));
      array.Set(i++, pair);
    }
    array.Set(pairsMark(env_), Napi::Boolean::New(env_, true));
    return array;
  }

  const Napi::Env env_;
  size_t taken_ = 0;
};

}  // namespace

Napi::Value fromIValue(Napi::Env env, const c10::IValue& value) { return Output(env).convert(value, 0); }

Napi::Object describeSchema(Napi::Env env, const c10::FunctionSchema& schema) {
  auto described = Napi::Object::New(env);
  auto parameters = Napi::Array::New(env);
  for (size_t i = 1; i < schema.arguments().size(); ++i) {
    const auto& argument = schema.arguments()[i];
    auto parameter = Napi::Object::New(env);
    parameter.Set("name", argument.name());
    parameter.Set("type", typeName(*argument.type()));
    parameter.Set("optional", Napi::Boolean::New(env, argument.default_value().has_value()));
    parameters.Set(static_cast<uint32_t>(i - 1), parameter);
  }
  described.Set("parameters", parameters);
  described.Set("returns", schema.returns().empty() ? "None" : typeName(*schema.returns()[0].type()));
  return described;
}

}  // namespace lta::node
