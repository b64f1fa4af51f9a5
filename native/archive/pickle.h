#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lta::archive {

// What a pickle holds, as far as it can be told without making anything of it.
//
// It is read as libtorch's unpickler reads it, by the operations that libtorch's pickler writes, each with what it may
// be given. What the unpickler would trip over (a mark below nothing, an odd dictionary, a memo of four billion
// entries, a number where a function stands, a container that is changed once something else holds it) is an error
// here.
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
    int64_t number = 0;  // the number itself, or where it lies: in strings, tuples, storages …
  };

  // A storage, and the record with its bytes.
  struct Storage {
    std::string record;
    at::ScalarType dtype;
    uint64_t elements;
    uint64_t bytes;
  };

  // A class by whose name an object was made, or a member of an enumeration, which libtorch makes of a value.
  struct Named {
    std::string type;
    bool member = false;
    Value value;
  };

  struct Limits {
    uint64_t memory;
    bool keepLists = false;  // so that `list` can be asked for their elements
  };

  // `bytes` have to outlive this. Throws ERR_MODEL_LOAD.
  Pickle(std::string_view bytes, const Limits& limits);

  const Value& root() const { return root_; }
  const std::vector<Value>& tuple(const Value& value) const { return tuples_.at(static_cast<size_t>(value.number)); }
  const std::vector<Value>& list(const Value& value) const { return lists_.at(static_cast<size_t>(value.number)); }
  std::string_view string(const Value& value) const { return strings_.at(static_cast<size_t>(value.number)); }

  const std::vector<Storage>& storages() const { return storages_; }
  const std::vector<Named>& named() const { return named_; }
  // Types of lists and dictionaries, which are written as code.
  const std::vector<std::string>& containerTypes() const { return containerTypes_; }

 private:
  class Reader;

  Value root_;
  std::vector<std::vector<Value>> tuples_;
  std::vector<std::vector<Value>> lists_;  // dictionaries are empty lists here
  std::vector<std::string_view> strings_;
  std::vector<Storage> storages_;
  std::vector<Named> named_;
  std::vector<std::string> containerTypes_;
};

}  // namespace lta::archive
