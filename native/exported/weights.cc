#include "exported/weights.h"

#include <utility>

#include "archive/limits.h"
#include "archive/pickle.h"
#include "exported/json.h"
#include "exported/schema.h"
#include "exported/storages.h"
#include "runtime/cancellation.h"

namespace lta::exported {
namespace {

int64_t fixed(const Json& json) {
  const auto [kind, value] = json.only();
  if (kind != "as_int") throw broken("a stored tensor has a size that isn't fixed");
  const auto number = value.integer();
  if (number < 0) throw broken("a stored tensor has a negative size, stride or offset");
  return number;
}

TensorMeta readMeta(const Json& json, const std::string& name) {
  if (layout(json.at("layout")) != c10::Layout::Strided) {
    throw Error("ERR_UNSUPPORTED_FILE", "the tensor " + shown(name) + " is sparse or of another layout than strided");
  }
  TensorMeta meta{
      scalarType(json.at("dtype")), {}, {}, fixed(json.at("storage_offset")), json.at("requires_grad").boolean()};
  for (const auto& size : json.at("sizes").elements()) meta.sizes.push_back(fixed(size));
  for (const auto& stride : json.at("strides").elements()) meta.strides.push_back(fixed(stride));
  if (meta.sizes.size() != meta.strides.size() || meta.sizes.size() > archive::kMaxTensorDimensions) {
    throw broken("the tensor " + shown(name) + " has another number of sizes and strides, or too many");
  }
  return meta;
}

Error existsInPythonOnly(const std::string& name) {
  return Error("ERR_UNSUPPORTED_FILE",
               "the weight " + shown(name) +
                   " is pickled: a subclass of Tensor, or an object of a custom class, exists in "
                   "Python or its own library only");
}

// Tensors that are records by themselves: PyTorch 2.9 and later.
void readConfig(const Package& package, const std::string& folder, const std::string& config,
                std::vector<Weight>& into) {
  const auto text = package.text(folder + config, archive::kMaxProgramBytes);
  const JsonDocument document(text, "description of the weights");
  Storages storages([&](const std::string& record) { return package.bytes(folder + record); });
  for (const auto& [key, payload] : document.root().at("config").members()) {
    if (auto* run = Cancellation::current()) run->check();
    const std::string name(key);
    const auto record = payload.at("path_name").string();
    if (payload.at("use_pickle").boolean()) throw existsInPythonOnly(name);
    into.push_back({name, storages.tensor(record, readMeta(payload.at("tensor_meta"), name), name), false});
  }
}

// A dictionary of tensors as torch.save writes it, in a record: before.
void readPickled(const Package& package, const std::string& record, bool untrusted, std::vector<Weight>& into) {
  using Kind = archive::Pickle::Kind;
  const Package::Inner inner(package, record);
  const auto text = inner.text("data.pkl", archive::kMaxPickleBytes);
  if (text.empty()) return;
  archive::Pickle::Limits limits{untrusted ? archive::kMaxUntrustedPickleMemory : archive::kMaxPickleMemory};
  limits.keepTensors = true;
  const archive::Pickle pickle(text, limits);
  if (pickle.root().kind != Kind::Dict) throw broken("its record " + shown(record) + " is no dictionary of tensors");
  Storages storages([&](const std::string& storage) { return inner.bytes("data/" + storage); });
  const auto& items = pickle.list(pickle.root());
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (auto* run = Cancellation::current()) run->check();
    if (items[i].kind != Kind::String) throw broken("its record " + shown(record) + " has a tensor without a name");
    const std::string name(pickle.string(items[i]));
    if (items[i + 1].kind != Kind::Tensor) throw existsInPythonOnly(name);
    const auto& tensor = pickle.tensor(items[i + 1]);
    const auto& storage = pickle.storages().at(tensor.storage);
    const TensorMeta meta{storage.dtype, tensor.sizes, tensor.strides, tensor.offset, tensor.requiresGrad};
    into.push_back({name, storages.tensor(storage.record, meta, name), false});
  }
}

// Weights, or constants, in whichever form they are there.
void readPart(const Package& package, const std::string& part, const char* flatRecord, bool untrusted,
              std::vector<Weight>& into) {
  const auto folder = "data/" + part + "/";
  const auto config = package.program() + "_" + part + "_config.json";
  if (package.isFlat()) return readPickled(package, flatRecord, untrusted, into);
  if (package.has(folder + config)) return readConfig(package, folder, config, into);
  readPickled(package, folder + package.program() + ".pt", untrusted, into);
}

}  // namespace

std::vector<Weight> readWeights(const Package& package, bool untrusted) {
  std::vector<Weight> weights;
  readPart(package, "weights", "serialized_state_dict.pt", untrusted, weights);
  for (auto& weight : weights) weight.isState = true;
  readPart(package, "constants", "serialized_constants.pt", untrusted, weights);
  return weights;
}

}  // namespace lta::exported
