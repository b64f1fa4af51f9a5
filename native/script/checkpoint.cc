#include "script/checkpoint.h"

#include <c10/core/CPUAllocator.h>
#include <caffe2/serialize/versions.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/source_range.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import_source.h>
#include <torch/csrc/jit/serialization/unpickler.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "archive/pickle.h"
#include "archive/zip.h"
#include "runtime/deep_stack.h"
#include "runtime/error.h"
#include "script/code_chains.h"
#include "script/code_depth.h"
#include "script/debug_ranges.h"
#include "script/guarded_operators.h"
#include "script/loop_checks.h"
#include "script/old_quantized.h"
#include "script/type_check.h"
#include "script/type_hints.h"
#include "script/untrusted.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;
using archive::Pickle;
using archive::Record;

bool startsWith(const std::string& text, const std::string& start) { return text.compare(0, start.size(), start) == 0; }

bool endsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Error loadError(const std::string& what) { return Error("ERR_MODEL_LOAD", what); }

// Whether a class has `__setstate__`, with the matching `__getstate__` that libtorch requires.
bool hasSetState(const c10::ClassType& type) {
  const auto* set = type.findMethod("__setstate__");
  if (!set) return false;
  const auto* get = type.findMethod("__getstate__");
  if (!get)
    throw loadError("the class '" + type.name()->qualifiedName() + "' defines __setstate__ but not __getstate__");
  const auto& arguments = set->getSchema().arguments();
  if (arguments.size() != 2 || get->getSchema().arguments().size() != 1 || get->getSchema().returns().size() != 1 ||
      !get->getSchema().returns()[0].type()->isSubtypeOf(*arguments[1].type())) {
    throw loadError("the class '" + type.name()->qualifiedName() +
                    "' has __setstate__ and __getstate__ of different types");
  }
  return true;
}

class Checkpoint {
 public:
  Checkpoint(std::shared_ptr<const archive::ByteSource> source, const CheckpointOptions& options)
      : zip_(std::move(source)), options_(options), verify_(options.verify || options.untrusted) {
    if (zip_.records().empty()) throw loadError("the file is a zip archive without any record");
    const auto& first = zip_.records().front().name;
    const auto slash = first.find('/');
    if (slash == std::string::npos) throw noProgram();
    folder_ = first.substr(0, slash + 1);
    if (zip_.find(folder_ + "model.json")) {
      throw loadError(
          "it was written by PyTorch 1.3 or older: load it with torch.jit.load and save it again with torch.jit.save");
    }
    if (!zip_.find(folder_ + "constants.pkl") || !zip_.find(folder_ + "data.pkl")) throw noProgram();
    readVersion();
    readCode();
    readPickle("constants", constants_);
    readPickle("data", data_);
    checkStorages();
    if (verify_) verifyUnreadRecords();
  }

  jit::Module load() {
    units_ = std::make_shared<jit::CompilationUnit>();
    importer_ = std::make_unique<jit::SourceImporter>(
        units_, &constantValues_, [this](const std::string& qualifier) { return sourceOf(qualifier); }, version_);
    const auto constants = unpickle(constants_, "constants");
    for (const auto& constant : constants.toTupleRef().elements()) {
      if (!types_.fits(constant, constant.type())) throw loadError("a constant in it isn't of its type");
      constantValues_.push_back(constant);
    }
    const auto root = unpickle(data_, "data");
    if (!root.isObject() || !root.toObjectRef().type()->is_module()) {
      throw loadError("expected a module but the archive holds a value of type " + root.type()->str());
    }
    jit::Module module(root.toObject());
    if (version_ < kNewQuantizedVersion) upgradeQuantizedConvolutions(module);
    checkInlinedSize(*units_, options_.untrusted);
    if (options_.untrusted) checkCompiled(*units_);
    return module;
  }

 private:
  struct PickleRecord {
    std::string bytes;
    std::unique_ptr<Pickle> content;
  };

  static Error noProgram() {
    return loadError(
        "expected a TorchScript archive (what torch.jit.save writes) but the archive holds no TorchScript program; a "
        "file of torch.save or torch.export has to be exported first with torch.jit.trace or torch.jit.script");
  }

  // Reads a small record as a whole.
  std::string readText(const Record& record, uint64_t limit) {
    if (record.size > limit) {
      throw archive::LimitExceeded("the record '" + record.name + "' has " + std::to_string(record.size) +
                                   " bytes, more than " + std::to_string(limit));
    }
    checked_.insert(&record);
    return zip_.read(record, verify_);
  }

  void readVersion() {
    constexpr uint64_t kMaxBytes = 64;
    const auto* record = zip_.find(folder_ + ".data/version");
    if (!record) record = zip_.find(folder_ + "version");
    if (!record) throw noProgram();
    const auto text = readText(*record, kMaxBytes);
    uint64_t version = 0;
    for (const char c : text) {
      if (c == '\n') break;
      if (c < '0' || c > '9' || version > 1000) throw loadError("its version isn't a number");
      version = version * 10 + static_cast<uint64_t>(c - '0');
    }
    using caffe2::serialize::kMaxSupportedFileFormatVersion;
    using caffe2::serialize::kMinSupportedFileFormatVersion;
    if (version < kMinSupportedFileFormatVersion || version > kMaxSupportedFileFormatVersion) {
      throw loadError("expected an archive of version " + std::to_string(kMinSupportedFileFormatVersion) + " to " +
                      std::to_string(kMaxSupportedFileFormatVersion) + " but it is of version " +
                      std::to_string(version) + ": libtorch is older than what wrote it");
    }
    version_ = version;
    if (const auto* order = zip_.find(folder_ + "byteorder"); order && readText(*order, kMaxBytes) == "big") {
      throw loadError("it was written on a big-endian machine");
    }
  }

  void readCode() {
    const auto code = folder_ + "code/";
    const uint64_t limit = options_.untrusted ? archive::kMaxUntrustedCodeBytes : archive::kMaxCodeBytes;
    uint64_t total = 0;
    for (const auto& record : zip_.records()) {
      if (!startsWith(record.name, code) || !endsWith(record.name, ".py")) continue;
      total += record.size;
      if (total > limit) throw archive::LimitExceeded("it has more than " + std::to_string(limit) + " bytes of code");
      const auto text = readText(record, limit);
      if (text.find('\0') != std::string::npos) throw loadError("its code isn't text");
      const auto path = record.name.substr(folder_.size());
      std::shared_ptr<jit::SourceRangeUnpickler> ranges;
      if (const auto* debug = zip_.find(record.name + ".debug_pkl"); debug && !options_.untrusted) {
        ranges = debugRanges(readText(*debug, archive::kMaxPickleBytes));
      }
      const auto source = std::make_shared<jit::Source>(std::string_view(text), path, 1, ranges);
      checkDepth(source);
      checkTypeHints(source);
      auto qualifier = path.substr(code.size() - folder_.size());
      qualifier.resize(qualifier.size() - 3);
      if (qualifier.find('.') != std::string::npos) continue;  // not a name that code can refer to
      std::replace(qualifier.begin(), qualifier.end(), '/', '.');
      chains_.add(qualifier, source);
      sources_.emplace(std::move(qualifier), source);
    }
    chains_.check(options_.untrusted);
    if (options_.untrusted) {
      for (const auto& [qualifier, source] : sources_) untrusted_.addSource(source);
      untrusted_.check();
    }
  }

  std::shared_ptr<jit::Source> sourceOf(const std::string& qualifier) const {
    const auto found = sources_.find(qualifier);
    return found == sources_.end() ? nullptr : found->second;
  }

  void readPickle(const std::string& name, PickleRecord& into) {
    const auto* record = zip_.find(folder_ + name + ".pkl");
    into.bytes = readText(*record, archive::kMaxPickleBytes);
    into.content = std::make_unique<Pickle>(
        into.bytes,
        Pickle::Limits{options_.untrusted ? archive::kMaxUntrustedPickleMemory : archive::kMaxPickleMemory});
    const auto expected = name == "data" ? Pickle::Kind::Object : Pickle::Kind::Tuple;
    if (into.content->root().kind != expected) throw loadError("its record '" + name + ".pkl' has an unexpected type");
    for (const auto& type : into.content->containerTypes()) {
      checkDepth(std::make_shared<jit::Source>(std::string_view(type)));
      if (options_.untrusted) checkTypeName(type);
    }
    for (const auto& named : into.content->named()) {
      if (options_.untrusted) checkTypeName(named.type);
    }
  }

  // Every storage must fit its record; their total is bounded by the size of the file.
  void checkStorages() {
    uint64_t total = 0;
    for (const auto* pickle : {&constants_, &data_}) {
      const auto& prefix = folder_ + (pickle == &data_ ? "data/" : "constants/");
      for (const auto& storage : pickle->content->storages()) {
        if (storage.elements == 0) continue;
        const auto* record = zip_.find(prefix + storage.record);
        if (!record) throw loadError("it lacks the record of a tensor");
        if (storage.bytes > record->size) {
          throw loadError("a tensor takes " + std::to_string(storage.bytes) + " bytes but its record '" + record->name +
                          "' has " + std::to_string(record->size));
        }
        ofTensors_.insert(record);
        if (storage.dtype == at::kBool) booleans_.insert(record);
        total += record->size;
        compressed_ += record->deflated ? record->size : 0;
      }
    }
    if (total - compressed_ > zip_.fileSize() * archive::kMaxStorageReuse ||
        compressed_ > zip_.fileSize() * archive::kMaxCompressionRatio) {
      throw archive::LimitExceeded("its tensors take " + std::to_string(total) + " bytes in a file of " +
                                   std::to_string(zip_.fileSize()));
    }
  }

  // Verifies the records that nothing reads; those of tensors are verified when they are read.
  void verifyUnreadRecords() {
    for (const auto& record : zip_.records()) {
      if (!checked_.count(&record) && !ofTensors_.count(&record)) zip_.verify(record);
    }
  }

  c10::DataPtr readStorage(const std::string& name) {
    const auto* record = zip_.find(name);
    if (!record) throw loadError("it lacks the record of a tensor");
    auto memory = c10::GetCPUAllocator()->allocate(record->size);
    zip_.readInto(*record, memory.get(), verify_);
    if (booleans_.count(record)) {
      // Kernels rely on true being 1.
      auto* bytes = static_cast<uint8_t*>(memory.get());
      for (uint64_t i = 0; i < record->size; ++i) bytes[i] = bytes[i] != 0;
    }
    return memory;
  }

  // libtorch checks neither that a value is a member of its enumeration nor that an object's class exists.
  void checkNamed(const Pickle& pickle) {
    for (const auto& named : pickle.named()) {
      const auto type = importer_->loadType(c10::QualifiedName(named.type));
      if (!type) throw loadError("its code lacks the class '" + named.type + "'");
      const auto members = type->cast<c10::EnumType>();
      if (!named.member) {
        if (!type->cast<c10::ClassType>()) throw loadError("'" + named.type + "' isn't a class");
        continue;
      }
      if (!members) throw loadError("'" + named.type + "' isn't an enumeration");
      const auto& values = members->enumNamesValues();
      const bool known = std::any_of(values.begin(), values.end(), [&](const auto& each) {
        switch (named.value.kind) {
          case Pickle::Kind::Int:
            return each.second.isInt() && each.second.toInt() == named.value.number;
          case Pickle::Kind::String:
            return each.second.isString() && each.second.toStringRef() == pickle.string(named.value);
          default:
            // The unpickler compares floats exactly; here it suffices that the members are floats.
            return each.second.isDouble();
        }
      });
      if (!known) throw loadError("a value in it isn't a member of '" + named.type + "'");
    }
  }

  c10::IValue unpickle(const PickleRecord& pickle, const std::string& name) {
    // Compiles the classes that the pickle names in advance, with enough stack.
    onDeepStack([&] {
      checkNamed(*pickle.content);
      for (const auto& type : pickle.content->containerTypes()) importer_->loadType(c10::QualifiedName(type));
    });
    size_t at = 0;
    const auto& bytes = pickle.bytes;
    const auto reader = [&](char* into, size_t count) {
      count = std::min(count, bytes.size() - at);
      bytes.copy(into, count, at);
      at += count;
      return count;
    };
    const auto typeOf = [this](const c10::QualifiedName& qualifiedName) {
      auto type = importer_->loadType(qualifiedName);
      if (!type) throw loadError("its code lacks the type '" + qualifiedName.qualifiedName() + "'");
      return c10::StrongTypePtr(units_, std::move(type));
    };
    jit::Unpickler unpickler(
        reader, typeOf, [this](const c10::StrongTypePtr& type, c10::IValue state) { return makeObject(type, state); },
        [this, &name](const std::string& record) { return readStorage(folder_ + name + "/" + record); },
        options_.device);
    unpickler.set_version(version_);
    return unpickler.parse_ivalue();
  }

  c10::intrusive_ptr<c10::ivalue::Object> makeObject(const c10::StrongTypePtr& type, c10::IValue state) {
    const auto classType = type.type_->expect<c10::ClassType>();
    const auto& className = classType->name()->qualifiedName();
    const auto count = classType->numAttributes();
    auto object = c10::ivalue::Object::create(type, count);
    if (hasSetState(*classType)) {
      auto& setState = classType->getMethod("__setstate__");
      if (options_.untrusted) checkSetState(setState);
      const auto& expected = setState.getSchema().arguments()[1].type();
      if (!types_.fits(state, expected)) throw loadError("the state of a '" + className + "' isn't of its type");
      runSetState(setState, object, std::move(state));
    } else {
      if (!state.isGenericDict()) throw loadError("the state of a '" + className + "' isn't a dictionary");
      const auto values = state.toGenericDict();
      for (size_t i = 0; i < count; ++i) {
        const auto found = values.find(classType->getAttributeName(i));
        if (found == values.end()) {
          throw loadError("a '" + className + "' lacks its attribute '" + classType->getAttributeName(i) + "'");
        }
        object->setSlot(i, found->value());
      }
    }
    for (size_t i = 0; i < count; ++i) {
      if (!types_.fits(object->getSlot(i), classType->getAttribute(i))) {
        throw loadError("the attribute '" + classType->getAttributeName(i) + "' of a '" + className +
                        "' isn't of the type that its class declares");
      }
    }
    return object;
  }

  // Code that runs before its class is complete must not be specialized for it. It can be stopped, as that of a run.
  static void runSetState(jit::Function& setState, const c10::intrusive_ptr<c10::ivalue::Object>& object,
                          c10::IValue state) {
    jit::Stack stack{object, std::move(state)};
    // Of libtorch's own classes, such as the packed weights of quantized layers, it is no TorchScript.
    if (!setState.isGraphFunction()) return setState.run(stack);
    auto graph = jit::toGraphFunction(setState).graph()->copy();
    jit::Inline(*graph);
    addLoopChecks(graph);
    const jit::Code code(graph, setState.name());
    jit::InterpreterState(code).run(stack);
  }

  archive::Zip zip_;
  const CheckpointOptions options_;
  const bool verify_;
  std::string folder_;  // prefix of all records, with the slash
  uint64_t version_ = 0;
  uint64_t compressed_ = 0;
  std::unordered_map<std::string, std::shared_ptr<jit::Source>> sources_;
  CodeChains chains_;
  UntrustedCode untrusted_;
  PickleRecord constants_;
  PickleRecord data_;
  std::unordered_set<const Record*> ofTensors_;  // records of storages
  std::unordered_set<const Record*> booleans_;
  std::unordered_set<const Record*> checked_;
  std::shared_ptr<jit::CompilationUnit> units_;
  std::vector<c10::IValue> constantValues_;
  std::unique_ptr<jit::SourceImporter> importer_;
  TypeCheck types_;
};

}  // namespace

jit::Module readCheckpoint(std::shared_ptr<const archive::ByteSource> source, const CheckpointOptions& options) {
  guardOperators();
  try {
    return Checkpoint(std::move(source), options).load();
  } catch (const archive::LimitExceeded& error) {
    if (!options.untrusted) throw;
    throw Error("ERR_UNTRUSTED", error.what());
  }
}

}  // namespace lta::script
