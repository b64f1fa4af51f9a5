#include "archive/pickle.h"

#include <ATen/core/ATen_fwd.h>
#include <c10/core/QScheme.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "runtime/error.h"

namespace lta::archive {
namespace {

using Kind = Pickle::Kind;

Error corrupt(const std::string& what) { return Error("ERR_MODEL_LOAD", "a pickle in it is corrupt: " + what); }

// Approximate size of libtorch's values, beyond the 16 bytes in the container.
constexpr uint64_t kContainerBytes = 192;
constexpr uint64_t kTensorBytes = 640;
constexpr uint64_t kFunctionBytes = 96;
constexpr uint64_t kValueBytes = 16;

enum class Function : uint8_t {
  RebuildTensor,
  RebuildQuantizedTensor,
  RebuildSparseTensor,
  RebuildParameter,
  RebuildParameterWithState,
  OrderedDict,
  Complex,
  Device,
  RestoreTypeTag,
  BuildIntList,
  BuildTensorList,
  BuildDoubleList,
  BuildBoolList,
  Class,
};

const std::unordered_map<std::string, Function>& functions() {
  static const auto* known = new std::unordered_map<std::string, Function>{
      {"torch._utils._rebuild_tensor_v2", Function::RebuildTensor},
      {"torch._utils._rebuild_qtensor", Function::RebuildQuantizedTensor},
      {"torch._utils._rebuild_sparse_tensor", Function::RebuildSparseTensor},
      {"torch._utils._rebuild_parameter", Function::RebuildParameter},
      {"torch._utils._rebuild_parameter_with_state", Function::RebuildParameterWithState},
      {"collections.OrderedDict", Function::OrderedDict},
      {"builtins.complex", Function::Complex},
      {"torch.device", Function::Device},
      {"torch.jit._pickle.restore_type_tag", Function::RestoreTypeTag},
      {"torch.jit._pickle.build_intlist", Function::BuildIntList},
      {"torch.jit._pickle.build_tensorlist", Function::BuildTensorList},
      {"torch.jit._pickle.build_doublelist", Function::BuildDoubleList},
      {"torch.jit._pickle.build_boollist", Function::BuildBoolList},
  };
  return *known;
}

std::optional<at::ScalarType> storageType(const std::string& name) {
#define LTA_CASE(_, type) \
  if (name == #type "Storage") return at::ScalarType::type;
  AT_FORALL_SCALAR_TYPES_WITH_COMPLEX_AND_QINTS(LTA_CASE)
#undef LTA_CASE
  return std::nullopt;
}

std::optional<int64_t> quantizationScheme(const std::string& name) {
  for (int64_t scheme = 0; scheme < at::COMPILE_TIME_NUM_QSCHEMES; ++scheme) {
    if (name == toString(static_cast<at::QScheme>(scheme))) return scheme;
  }
  return std::nullopt;
}

uint64_t elementsPerByte(at::ScalarType dtype) {
  return dtype == at::ScalarType::QUInt4x2 ? 2 : dtype == at::ScalarType::QUInt2x4 ? 4 : 1;
}

bool isIdentifier(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return c == '_' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

// Checked arithmetic.
uint64_t checkedProduct(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw corrupt("the size of a tensor overflows");
  return result;
}

uint64_t checkedSum(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_add_overflow(a, b, &result)) throw corrupt("the size of a tensor overflows");
  return result;
}

}  // namespace

class Pickle::Reader {
 public:
  Reader(Pickle& pickle, std::string_view bytes, const Limits& limits)
      : pickle_(pickle), bytes_(bytes), limits_(limits) {
    if (bytes.size() > kMaxPickleBytes)
      throw LimitExceeded("a pickle in it has " + std::to_string(bytes.size()) + " bytes");
  }

  Value run() {
    if (number<uint8_t>() != 0x80 || number<uint8_t>() != 2) throw corrupt("it isn't of protocol 2");
    while (step()) {
    }
    if (!marks_.empty() || stack_.size() != 1) {
      throw corrupt("it leaves " + std::to_string(stack_.size()) + " values on its stack");
    }
    return stack_.back();
  }

 private:
  // Facts about a container. Once it is an element of another it is immutable, so that checks stay valid.
  struct Container {
    uint32_t depth = 1;
    uint64_t visits = 1;
    bool isElement = false;
    uint32_t kinds = 0;  // bit set of its elements' kinds
  };

  template <typename Number>
  Number number() {
    if (bytes_.size() - at_ < sizeof(Number)) throw corrupt("it is truncated");
    Number value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  // An integer in two's complement.
  int64_t integer(size_t size) {
    if (bytes_.size() - at_ < size) throw corrupt("it is truncated");
    uint64_t bits = 0;
    std::memcpy(&bits, bytes_.data() + at_, size);
    at_ += size;
    const auto shift = 8 * (sizeof bits - size);
    return static_cast<int64_t>(bits << shift) >> shift;
  }

  std::string line() {
    const auto end = bytes_.substr(at_, kMaxTypeNameBytes + 1).find('\n');
    if (end == std::string_view::npos) throw corrupt("a name in it isn't terminated");
    std::string text(bytes_.substr(at_, end));
    at_ += end + 1;
    return text;
  }

  void charge(uint64_t memory) {
    memory_ += memory;
    if (memory_ > limits_.memory) {
      throw LimitExceeded("the values of a pickle in it would take more than " + std::to_string(limits_.memory / kMiB) +
                          " MiB");
    }
  }

  void push(Kind kind, int64_t value = 0) {
    charge(kValueBytes);
    stack_.push_back({kind, value});
  }

  size_t bottom() const { return marks_.empty() ? 0 : marks_.back(); }

  Value pop() {
    if (stack_.size() <= bottom()) throw corrupt("it pops a value from an empty stack");
    const auto value = stack_.back();
    stack_.pop_back();
    return value;
  }

  size_t popMark() {
    if (marks_.empty()) throw corrupt("a container in it has no mark");
    const auto mark = marks_.back();
    marks_.pop_back();
    return mark;
  }

  Container* container(const Value& value) {
    switch (value.kind) {
      case Kind::Tuple:
        return &tuples_[static_cast<size_t>(value.number)];
      case Kind::List:
      case Kind::Dict:
        return &containers_[static_cast<size_t>(value.number)];
      default:
        return nullptr;
    }
  }

  void addElement(Container& owner, const Value& value) {
    owner.kinds |= 1u << static_cast<unsigned>(value.kind);
    owner.visits += 1;
    if (auto* inner = container(value)) {
      inner->isElement = true;
      owner.depth = std::max(owner.depth, inner->depth + 1);
      owner.visits += inner->visits;
    } else if (value.kind == Kind::Object) {
      owner.depth = std::max(owner.depth, objectDepths_[static_cast<size_t>(value.number)] + 1);
    }
    if (owner.depth > kMaxPickleDepth) {
      throw LimitExceeded("containers in a pickle are nested more than " + std::to_string(kMaxPickleDepth) + " deep");
    }
    if (owner.visits > kMaxPickleVisits) throw LimitExceeded("containers in a pickle share too many elements");
  }

  void pushTuple(std::vector<Value> elements) {
    Container tuple;
    for (const auto& element : elements) addElement(tuple, element);
    charge(kContainerBytes + elements.size() * kValueBytes);
    tuples_.push_back(tuple);
    pickle_.tuples_.push_back(std::move(elements));
    push(Kind::Tuple, static_cast<int64_t>(tuples_.size() - 1));
  }

  void pushContainer(Kind kind) {
    charge(kContainerBytes);
    containers_.emplace_back();
    if (limits_.keepLists || limits_.keepTensors) pickle_.lists_.emplace_back();
    push(kind, static_cast<int64_t>(containers_.size() - 1));
  }

  void pushTupleOf(size_t count) {
    std::vector<Value> elements(count);
    for (size_t i = count; i-- > 0;) elements[i] = pop();
    pushTuple(std::move(elements));
  }

  std::vector<Value> popTo(size_t mark) {
    std::vector<Value> values(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark);
    return values;
  }

  // The container on top of the stack, to be modified.
  Container& top(Kind kind, const char* what) {
    if (stack_.size() <= bottom() || stack_.back().kind != kind) throw corrupt(std::string("it has no ") + what);
    auto& inner = *container(stack_.back());
    if (inner.isElement) throw corrupt("it modifies a container that is an element of another");
    return inner;
  }

  void append(const std::vector<Value>& values) {
    auto& list = top(Kind::List, "list to append to");
    for (const auto& value : values) addElement(list, value);
    if (limits_.keepLists || limits_.keepTensors) keep(values);
    charge(values.size() * kValueBytes);
  }

  // Adds to the container on top of the stack.
  void keep(const std::vector<Value>& values) {
    auto& kept = pickle_.lists_[static_cast<size_t>(stack_.back().number)];
    kept.insert(kept.end(), values.begin(), values.end());
  }

  void setItems(const std::vector<Value>& values) {
    if (values.size() % 2 != 0) throw corrupt("a dictionary in it has a key without a value");
    auto& dictionary = top(Kind::Dict, "dictionary to add to");
    for (size_t i = 0; i < values.size(); i += 2) {
      switch (values[i].kind) {
        case Kind::Bool:
        case Kind::Int:
        case Kind::Float:
        case Kind::Complex:
        case Kind::String:
        case Kind::Tensor:
        case Kind::Device:
        case Kind::Object:  // a member of an enumeration
          break;
        default:
          throw corrupt("a dictionary in it has a key of a type that can't be one");
      }
      addElement(dictionary, values[i]);
      addElement(dictionary, values[i + 1]);
    }
    if (limits_.keepTensors) keep(values);
    charge(values.size() * 2 * kValueBytes);
  }

  void memoize(size_t id) {
    if (stack_.size() <= bottom()) throw corrupt("it memoizes a value from an empty stack");
    if (id > memo_.size()) throw corrupt("it memoizes a value out of order");
    if (id == memo_.size()) {
      charge(kValueBytes);
      memo_.push_back(stack_.back());
    } else {
      memo_[id] = stack_.back();
    }
  }

  void recall(size_t id) {
    if (id >= memo_.size()) throw corrupt("it gets a value that it didn't memoize");
    push(memo_[id].kind, memo_[id].number);
  }

  void global() {
    const auto module = line();
    const auto name = line();
    if (!isIdentifier(module) || !isIdentifier(name)) throw corrupt("the name of a type in it is invalid");
    charge(kFunctionBytes);
    const auto full = module + "." + name;
    const auto known = functions().find(full);
    if (known != functions().end() && (limits_.keepTensors || known->second != Function::RebuildParameterWithState)) {
      return push(Kind::Function, static_cast<int64_t>(known->second));
    }
    if (module == "torch") {
      if (const auto dtype = storageType(name)) return push(Kind::DType, static_cast<int64_t>(*dtype));
      if (const auto scheme = quantizationScheme(name)) return push(Kind::Int, *scheme);
    }
    if (module.compare(0, 9, "__torch__") != 0) throw corrupt("it refers to '" + full.substr(0, 100) + "'");
    // Classes follow the other functions, each with a number of its own.
    const auto [found, fresh] = classIds_.emplace(full, classes_.size());
    if (fresh) classes_.push_back(full);
    push(Kind::Function, static_cast<int64_t>(Function::Class) + static_cast<int64_t>(found->second));
  }

  // Calls a function or sets the state of an object, which libtorch treats alike.
  void apply(bool build) {
    const auto argument = pop();
    const auto function = pop();
    // Attributes of a dictionary, as those of a state dictionary have them.
    if (build && limits_.keepTensors && function.kind == Kind::Dict) return push(Kind::Dict, function.number);
    if (function.kind != Kind::Function) throw corrupt("it calls something that isn't a function");
    uint32_t depth = 1;
    if (auto* inner = container(argument)) {
      inner->isElement = true;
      depth = inner->depth;
    }
    const auto classNumber = function.number - static_cast<int64_t>(Function::Class);
    if (classNumber >= 0) {
      const bool scalar = argument.kind == Kind::Int || argument.kind == Kind::Float || argument.kind == Kind::String;
      if (!build && !scalar) throw corrupt("it calls a class");
      pickle_.named_.push_back({classes_[static_cast<size_t>(classNumber)], !build, argument});
      charge(kContainerBytes);
      objectDepths_.push_back(depth + 1);
      return push(Kind::Object, static_cast<int64_t>(objectDepths_.size() - 1));
    }
    if (build) throw corrupt("it sets the state of something that isn't an object");
    if (argument.kind != Kind::Tuple) throw corrupt("it calls a function without arguments");
    // A copy, since the calls below append tuples.
    const auto arguments = pickle_.tuples_[static_cast<size_t>(argument.number)];
    call(static_cast<Function>(function.number), arguments);
  }

  static const Value& at(const std::vector<Value>& values, size_t i, Kind kind, const char* what) {
    if (i >= values.size() || values[i].kind != kind) throw corrupt(std::string("it has no ") + what);
    return values[i];
  }

  void call(Function function, const std::vector<Value>& arguments) {
    switch (function) {
      case Function::RebuildTensor:
      case Function::RebuildQuantizedTensor:
        checkTensor(arguments, function == Function::RebuildQuantizedTensor);
        return pushTensor(function == Function::RebuildTensor ? &arguments : nullptr);
      case Function::RebuildSparseTensor:
        // Its parts are checked after construction, since indices are data.
        at(arguments, 0, Kind::Int, "layout of a sparse tensor");
        at(arguments, 1, Kind::Tuple, "size of a sparse tensor");
        at(arguments, 2, Kind::Bool, "flag of a sparse tensor");
        at(arguments, 3, Kind::Tensor, "indices of a sparse tensor");
        at(arguments, 4, Kind::Tensor, "values of a sparse tensor");
        return pushTensor();
      case Function::RebuildParameter:
      case Function::RebuildParameterWithState:  // attributes that Python gave it
        at(arguments, 0, Kind::Tensor, "tensor of a parameter");
        at(arguments, 1, Kind::Bool, "flag of a parameter");
        return pushParameter(arguments[0], arguments[1].number != 0);
      case Function::OrderedDict:
        return limits_.keepTensors ? pushContainer(Kind::Dict) : push(Kind::None);
      case Function::Complex:
        at(arguments, 0, Kind::Float, "real part of a number");
        at(arguments, 1, Kind::Float, "imaginary part of a number");
        return push(Kind::Complex);
      case Function::Device:
        at(arguments, 0, Kind::String, "name of a device");
        return push(Kind::Device);
      case Function::RestoreTypeTag: {
        if (arguments.empty() || (arguments[0].kind != Kind::List && arguments[0].kind != Kind::Dict)) {
          throw corrupt("it declares the type of something that isn't a container");
        }
        const auto type = pickle_.string(at(arguments, 1, Kind::String, "type of a container"));
        if (type.size() > kMaxTypeNameBytes) throw LimitExceeded("the type of a container in a pickle is too long");
        if (containerTypesSeen_.emplace(type).second) pickle_.containerTypes_.emplace_back(type);
        return push(arguments[0].kind, arguments[0].number);
      }
      case Function::BuildIntList:
        return checkElements(arguments, Kind::Int);
      case Function::BuildTensorList:
        return checkElements(arguments, Kind::Tensor);
      case Function::BuildDoubleList:
        return checkElements(arguments, Kind::Float);
      case Function::BuildBoolList:
        return checkElements(arguments, Kind::Bool);
      case Function::Class:
        break;
    }
    throw corrupt("it calls something that isn't a function");
  }

  void checkElements(const std::vector<Value>& arguments, Kind kind) {
    const auto& list = at(arguments, 0, Kind::List, "list to type");
    const auto kinds = container(list)->kinds;
    if (kinds & ~(1u << static_cast<unsigned>(kind))) throw corrupt("a list in it has elements of another type");
    push(Kind::List, list.number);
  }

  // With the arguments that it is made of, which were checked; none for one that isn't kept.
  void pushTensor(const std::vector<Value>* arguments = nullptr) {
    charge(kTensorBytes);
    if (!limits_.keepTensors) return push(Kind::Tensor);
    if (!arguments) throw corrupt("it has a quantized or sparse tensor, which isn't served there");
    Tensor tensor{
        static_cast<size_t>((*arguments)[0].number), (*arguments)[1].number, {}, {}, (*arguments)[4].number != 0};
    for (const auto& size : pickle_.tuple((*arguments)[2])) tensor.sizes.push_back(size.number);
    for (const auto& stride : pickle_.tuple((*arguments)[3])) tensor.strides.push_back(stride.number);
    pickle_.tensors_.push_back(std::move(tensor));
    push(Kind::Tensor, static_cast<int64_t>(pickle_.tensors_.size() - 1));
  }

  void pushParameter(const Value& data, bool requiresGrad) {
    charge(kTensorBytes);
    if (!limits_.keepTensors) return push(Kind::Tensor);
    auto tensor = pickle_.tensor(data);
    tensor.requiresGrad = requiresGrad;
    pickle_.tensors_.push_back(std::move(tensor));
    push(Kind::Tensor, static_cast<int64_t>(pickle_.tensors_.size() - 1));
  }

  std::vector<uint64_t> extents(const Value& value, const char* what) {
    std::vector<uint64_t> numbers;
    for (const auto& element : pickle_.tuple(value)) {
      if (element.kind != Kind::Int || element.number < 0) throw corrupt(std::string("a tensor in it has no ") + what);
      numbers.push_back(static_cast<uint64_t>(element.number));
    }
    if (numbers.size() > kMaxTensorDimensions) {
      throw corrupt("a tensor in it has " + std::to_string(numbers.size()) + " dimensions");
    }
    return numbers;
  }

  void checkTensor(const std::vector<Value>& arguments, bool quantized) {
    const auto& storage = pickle_.storages_[static_cast<size_t>(at(arguments, 0, Kind::Storage, "storage").number)];
    const auto offset = at(arguments, 1, Kind::Int, "offset of a tensor").number;
    if (offset < 0) throw corrupt("a tensor in it begins before its storage");
    const auto sizes = extents(at(arguments, 2, Kind::Tuple, "size of a tensor"), "size");
    const auto strides = extents(at(arguments, 3, Kind::Tuple, "strides of a tensor"), "strides");
    if (sizes.size() != strides.size()) throw corrupt("a tensor in it has a different number of sizes and strides");
    if (quantized) {
      checkQuantization(pickle_.tuple(at(arguments, 4, Kind::Tuple, "quantization of a tensor")));
    }
    const size_t flag = quantized ? 5 : 4;
    at(arguments, flag, Kind::Bool, "flag of a tensor");
    if (arguments.size() < flag + 2 || arguments.size() > flag + 3) throw corrupt("a tensor in it lacks a part");

    uint64_t elements = 1;
    uint64_t last = static_cast<uint64_t>(offset);
    const bool empty = std::find(sizes.begin(), sizes.end(), 0u) != sizes.end();
    for (size_t i = 0; i < sizes.size(); ++i) {
      elements = checkedProduct(elements, std::max<uint64_t>(sizes[i], 1));
      if (!empty) last = checkedSum(last, checkedProduct(sizes[i] - 1, strides[i]));
    }
    const auto itemBytes = c10::elementSize(storage.dtype);
    const auto available = checkedProduct(storage.elements, elementsPerByte(storage.dtype));
    if (checkedProduct(elements, itemBytes) > static_cast<uint64_t>(INT64_MAX)) throw corrupt("a tensor is too large");
    if (empty ? last > available : last >= available) {
      throw corrupt("a tensor in it reaches to element " + std::to_string(last) + " of a storage of " +
                    std::to_string(available) + " (record '" + storage.record + "')");
    }
    if (!empty && elements > available && checkedProduct(elements, itemBytes) > kMaxExpandedBytes) {
      throw LimitExceeded("a tensor in it repeats its storage " + std::to_string(elements / available) + " times");
    }
  }

  static void checkQuantization(const std::vector<Value>& parts) {
    switch (static_cast<at::QScheme>(at(parts, 0, Kind::Int, "quantization scheme").number)) {
      case at::QScheme::PER_TENSOR_AFFINE:
        at(parts, 1, Kind::Float, "quantization scale");
        at(parts, 2, Kind::Int, "quantization zero point");
        return;
      case at::QScheme::PER_CHANNEL_AFFINE:
      case at::QScheme::PER_CHANNEL_AFFINE_FLOAT_QPARAMS:
        at(parts, 1, Kind::Tensor, "quantization scales");
        at(parts, 2, Kind::Tensor, "quantization zero points");
        at(parts, 3, Kind::Int, "quantization axis");
        return;
      default:
        throw corrupt("a tensor in it has an unknown quantization");
    }
  }

  void storage() {
    const auto reference = pop();
    if (reference.kind != Kind::Tuple) throw corrupt("it has a persistent reference that isn't a storage");
    const auto& parts = pickle_.tuple(reference);
    if (pickle_.string(at(parts, 0, Kind::String, "kind of what it refers to")) != "storage") {
      throw corrupt("it has a persistent reference that isn't a storage");
    }
    const auto dtype = static_cast<at::ScalarType>(at(parts, 1, Kind::DType, "type of a storage").number);
    const auto record = pickle_.string(at(parts, 2, Kind::String, "record of a storage"));
    at(parts, 3, Kind::String, "device of a storage");
    const auto elements = at(parts, 4, Kind::Int, "size of a storage").number;
    if (elements < 0) throw corrupt("a storage in it has a negative size");
    const auto bytes = checkedProduct(static_cast<uint64_t>(elements), c10::elementSize(dtype));
    charge(kTensorBytes);
    pickle_.storages_.push_back({std::string(record), dtype, static_cast<uint64_t>(elements), bytes});
    push(Kind::Storage, static_cast<int64_t>(pickle_.storages_.size() - 1));
  }

  bool step() {
    const auto operation = number<uint8_t>();
    switch (operation) {
      case '.':
        return false;
      case 'N':
        push(Kind::None);
        break;
      case 0x88:
      case 0x89:
        push(Kind::Bool, operation == 0x88);
        break;
      case 'K':
        push(Kind::Int, number<uint8_t>());
        break;
      case 'M':
        push(Kind::Int, number<uint16_t>());
        break;
      case 'J':
        push(Kind::Int, number<int32_t>());
        break;
      case 0x8a: {
        const size_t size = number<uint8_t>();
        const bool isShorter = limits_.keepTensors && size > 0 && size < sizeof(int64_t);
        if (size != sizeof(int64_t) && !isShorter) {
          throw corrupt("an integer in it has " + std::to_string(size) + " bytes");
        }
        push(Kind::Int, integer(size));
        break;
      }
      case 'G':
        number<uint64_t>();
        push(Kind::Float);
        break;
      case 'X': {
        const auto size = number<uint32_t>();
        if (size > bytes_.size() - at_) throw corrupt("a string in it exceeds it");
        charge(2 * kValueBytes + size);
        pickle_.strings_.push_back(bytes_.substr(at_, size));
        at_ += size;
        push(Kind::String, static_cast<int64_t>(pickle_.strings_.size() - 1));
        break;
      }
      case '(':
        charge(kValueBytes);
        marks_.push_back(stack_.size());
        break;
      case ')':
        pushTuple({});
        break;
      case 't':
        pushTuple(popTo(popMark()));
        break;
      case 0x85:
      case 0x86:
      case 0x87:
        pushTupleOf(operation - 0x84);
        break;
      case ']':
        pushContainer(Kind::List);
        break;
      case '}':
        pushContainer(Kind::Dict);
        break;
      case 'e':
        append(popTo(popMark()));
        break;
      case 'a':
        append({pop()});
        break;
      case 'u':
        setItems(popTo(popMark()));
        break;
      case 's': {
        const auto value = pop();
        const auto key = pop();
        setItems({key, value});
        break;
      }
      case 'q':
      case 'r':
        memoize(operation == 'q' ? number<uint8_t>() : number<uint32_t>());
        break;
      case 'h':
      case 'j':
        recall(operation == 'h' ? number<uint8_t>() : number<uint32_t>());
        break;
      case 'c':
        global();
        break;
      case 0x81: {
        const auto arguments = pop();
        if (arguments.kind != Kind::Tuple || stack_.size() <= bottom() || stack_.back().kind != Kind::Function) {
          throw corrupt("it makes an object of something that isn't a class");
        }
        break;
      }
      case 'b':
      case 'R':
        apply(/*build=*/operation == 'b');
        break;
      case 'Q':
        storage();
        break;
      default:
        throw corrupt("it has the unknown operation " + std::to_string(operation));
    }
    return true;
  }

  Pickle& pickle_;
  const std::string_view bytes_;
  const Limits limits_;
  size_t at_ = 0;
  uint64_t memory_ = 0;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::vector<Value> memo_;
  std::vector<Container> tuples_;  // parallel to the pickle's own
  std::vector<Container> containers_;
  std::vector<uint32_t> objectDepths_;
  std::vector<std::string> classes_;
  std::unordered_map<std::string, size_t> classIds_;
  std::unordered_set<std::string_view> containerTypesSeen_;
};

Pickle::Pickle(std::string_view bytes, const Limits& limits) { root_ = Reader(*this, bytes, limits).run(); }

}  // namespace lta::archive
