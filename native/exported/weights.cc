#include "exported/weights.h"

#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <optional>
#include <utility>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "exported/json.h"
#include "exported/schema.h"
#include "runtime/cancellation.h"

namespace lta::exported {
namespace {

// What a file says of a tensor.
struct Meta {
  at::ScalarType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset;
  bool requiresGrad;
};

int64_t fixed(const Json& json) {
  const auto [kind, value] = json.only();
  if (kind != "as_int") throw broken("a stored tensor has a size that isn't fixed");
  const auto number = value.integer();
  if (number < 0) throw broken("a stored tensor has a negative size, stride or offset");
  return number;
}

Meta readMeta(const Json& json, const std::string& name) {
  if (layout(json.at("layout")) != c10::Layout::Strided) {
    throw Error("ERR_UNSUPPORTED_FILE", "the tensor " + shown(name) + " is sparse or of another layout than strided");
  }
  Meta meta{scalarType(json.at("dtype")), {}, {}, fixed(json.at("storage_offset")), json.at("requires_grad").boolean()};
  for (const auto& size : json.at("sizes").elements()) meta.sizes.push_back(fixed(size));
  for (const auto& stride : json.at("strides").elements()) meta.strides.push_back(fixed(stride));
  if (meta.sizes.size() != meta.strides.size() || meta.sizes.size() > archive::kMaxTensorDimensions) {
    throw broken("the tensor " + shown(name) + " has another number of sizes and strides, or too many");
  }
  return meta;
}

// How many bytes a tensor reaches into its storage; none where that is no number.
std::optional<uint64_t> reach(const Meta& meta) {
  uint64_t last = static_cast<uint64_t>(meta.offset);
  bool empty = false, overflows = false;
  uint64_t elements = 1;
  for (size_t d = 0; d < meta.sizes.size(); ++d) {
    const auto size = static_cast<uint64_t>(meta.sizes[d]);
    empty = empty || size == 0;
    uint64_t along = 0;
    overflows =
        overflows || __builtin_mul_overflow(size == 0 ? 0 : size - 1, static_cast<uint64_t>(meta.strides[d]), &along) ||
        __builtin_add_overflow(last, along, &last) || __builtin_mul_overflow(elements, size == 0 ? 1 : size, &elements);
  }
  uint64_t bytes = 0;
  overflows = overflows || last == UINT64_MAX ||
              __builtin_mul_overflow(empty ? 0 : last + 1, c10::elementSize(meta.dtype), &bytes) ||
              elements > static_cast<uint64_t>(INT64_MAX);
  return overflows ? std::nullopt : std::optional(bytes);
}

// The storages of one folder of records, each made once.
class Storages {
 public:
  Storages(const Package& package, std::string folder) : package_(package), folder_(std::move(folder)) {}

  at::Tensor tensor(const std::string& record, const Meta& meta, const std::string& name) {
    const auto needed = reach(meta);
    auto found = storages_.find(record);
    if (found == storages_.end()) found = storages_.emplace(record, package_.bytes(folder_ + record)).first;
    const auto& bytes = found->second;
    if (!needed || *needed > bytes.size) {
      throw broken("the tensor " + shown(name) + " reaches beyond its record " + shown(folder_ + record) + " of " +
                   std::to_string(bytes.size) + " bytes");
    }
    checkExpanded(meta, name);
    // Kernels count on truth being 1.
    if (meta.dtype == at::kBool) makeTruthOne(bytes);
    auto& whole = wholes_[record];
    const auto options = at::TensorOptions().dtype(meta.dtype);
    const auto count = static_cast<int64_t>(bytes.size / c10::elementSize(meta.dtype));
    if (count == 0 || *needed == 0) return at::empty(meta.sizes, options);
    if (!whole.defined()) whole = at::from_blob(bytes.data, {count}, [owner = bytes.owner](void*) {}, options);
    auto all = whole.scalar_type() == meta.dtype ? whole : viewOf(whole, bytes, count, options);
    // Not as a view: it would ask its base whether it requires gradients, and at::matmul picks its kernel by that.
    return all.as_strided(meta.sizes, meta.strides, meta.offset).detach();
  }

 private:
  // Tensors of several types in one storage share its memory.
  static at::Tensor viewOf(const at::Tensor& whole, const Bytes& bytes, int64_t count,
                           const at::TensorOptions& options) {
    return at::from_blob(bytes.data, {count}, [whole](void*) {}, options);
  }

  static void checkExpanded(const Meta& meta, const std::string& name) {
    uint64_t elements = 1;
    for (const int64_t size : meta.sizes) elements *= static_cast<uint64_t>(size);  // `reach` has looked
    const uint64_t bytesEach = c10::elementSize(meta.dtype);
    if (elements > archive::kMaxExpandedBytes / bytesEach && elements > *reach(meta) / bytesEach) {
      throw archive::LimitExceeded("the tensor " + shown(name) + " has more elements than its record");
    }
  }

  static void makeTruthOne(const Bytes& bytes) {
    for (uint64_t i = 0; i < bytes.size; ++i) {
      if (bytes.data[i] != 0 && bytes.data[i] != 1) bytes.data[i] = 1;
    }
  }

  const Package& package_;
  const std::string folder_;
  std::unordered_map<std::string, Bytes> storages_;
  std::unordered_map<std::string, at::Tensor> wholes_;
};

void readConfig(const Package& package, const std::string& folder, const std::string& config,
                std::vector<Weight>& into) {
  if (!package.has(folder + config)) {
    throw Error("ERR_UNSUPPORTED_FILE", "it lacks the record " + shown(folder + config) +
                                            ": PyTorch 2.8 and older pickle the weights of a program. Load it with "
                                            "torch.export.load and save it again with 2.9 or later");
  }
  const auto text = package.text(folder + config, archive::kMaxProgramBytes);
  const JsonDocument document(text, "description of the weights");
  Storages storages(package, folder);
  for (const auto& [key, payload] : document.root().at("config").members()) {
    if (auto* run = Cancellation::current()) run->check();
    const std::string name(key);
    const auto record = payload.at("path_name").string();
    if (payload.at("use_pickle").boolean()) {
      throw Error("ERR_UNSUPPORTED_FILE",
                  "the weight " + shown(name) +
                      " is pickled: a subclass of Tensor, or an object of a custom class, exists "
                      "in Python or its own library only");
    }
    const auto meta = readMeta(payload.at("tensor_meta"), name);
    auto tensor = storages.tensor(record, meta, name);
    if (meta.requiresGrad) {
      if (!at::isFloatingType(meta.dtype) && !at::isComplexType(meta.dtype)) {
        throw broken("the tensor " + shown(name) + " requires gradients but isn't floating point");
      }
      tensor.set_requires_grad(true);
    }
    into.push_back({name, std::move(tensor)});
  }
}

}  // namespace

std::vector<Weight> readWeights(const Package& package) {
  std::vector<Weight> weights;
  readConfig(package, "data/weights/", package.program() + "_weights_config.json", weights);
  readConfig(package, "data/constants/", package.program() + "_constants_config.json", weights);
  return weights;
}

}  // namespace lta::exported
