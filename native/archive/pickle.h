// Validates a pickle and lists what it refers to. Constructs no libtorch value and executes nothing.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lta::archive {

// The contents of a pickle as far as they are known without unpickling.
//
// Interprets the opcodes that libtorch's pickler writes as its unpickler does, checking the operands of each. What
// would crash the unpickler (a mark below the stack, an odd number of dictionary items, a memo of four billion entries,
// a number in place of a function, a container modified after it became an element) is an error.
class Pickle {
 public:
  enum class Kind : uint8_t {
    None,
    Bool,
    Int,
    Float,
    Complex,
    String,
    Tuple,
    List,
    Dict,
    DType,
    Function,
    Storage,
    Tensor,
    Device,
    Object,
  };

  struct Value {
    Kind kind = Kind::None;
    int64_t number = 0;  // the number itself, or an index: of strings, tuples, storages …
  };

  // A storage and the record of its bytes.
  struct Storage {
    std::string record;
    at::ScalarType dtype;
    uint64_t elements;
    uint64_t bytes;
  };

  // A tensor: a view of a storage, whose elements all lie in it.
  struct Tensor {
    size_t storage;
    int64_t offset;
    std::vector<int64_t> sizes;
    std::vector<int64_t> strides;
    bool requiresGrad;
  };

  // The class of an object, or an enumeration and the value of its member.
  struct Named {
    std::string type;
    bool member = false;
    Value value;
  };

  struct Limits {
    uint64_t memory;
    bool keepLists = false;  // makes `list` available
    // Makes `tensor` available, and `list` of dictionaries, whose keys and values stand there by turns. Takes what
    // torch.save writes as well, which libtorch's unpickler doesn't.
    bool keepTensors = false;
  };

  // `bytes` must outlive this. Throws ERR_MODEL_LOAD.
  Pickle(std::string_view bytes, const Limits& limits);

  const Value& root() const { return root_; }
  const std::vector<Value>& tuple(const Value& value) const { return tuples_.at(static_cast<size_t>(value.number)); }
  const std::vector<Value>& list(const Value& value) const { return lists_.at(static_cast<size_t>(value.number)); }
  const Tensor& tensor(const Value& value) const { return tensors_.at(static_cast<size_t>(value.number)); }
  std::string_view string(const Value& value) const { return strings_.at(static_cast<size_t>(value.number)); }

  const std::vector<Storage>& storages() const { return storages_; }
  const std::vector<Named>& named() const { return named_; }
  // Declared types of lists and dictionaries, as source text.
  const std::vector<std::string>& containerTypes() const { return containerTypes_; }

 private:
  class Reader;

  Value root_;
  std::vector<std::vector<Value>> tuples_;
  std::vector<std::vector<Value>> lists_;  // dictionaries are empty lists here, without `keepTensors`
  std::vector<Tensor> tensors_;
  std::vector<std::string_view> strings_;
  std::vector<Storage> storages_;
  std::vector<Named> named_;
  std::vector<std::string> containerTypes_;
};

}  // namespace lta::archive
