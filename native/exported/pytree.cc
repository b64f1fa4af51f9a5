#include "exported/pytree.h"

#include <algorithm>

#include "archive/limits.h"

namespace lta::exported {
namespace {

constexpr int64_t kProtocol = 1;

std::string keyText(const Json& key) {
  if (key.isString()) return key.string();
  if (key.isInteger()) return std::to_string(key.integer());
  if (key.isBoolean()) return key.boolean() ? "true" : "false";
  throw broken("it has a dictionary with a key that is neither text nor a number");
}

// Names of the children, by the context that the class's own flattening wrote: dictionaries and most objects have a
// list of them, dataclasses one for those with a value and one for the others, default dictionaries one of their own.
std::vector<std::string> namesIn(const Json& context, size_t count, int depth = 0) {
  constexpr int kDeepest = 2;
  if (depth > kDeepest) return {};
  if (context.isObject()) {
    const auto inner = context.find("dict_context");
    return inner ? namesIn(*inner, count, depth + 1) : std::vector<std::string>();
  }
  if (!context.isArray()) return {};
  const auto keys = context.elements();
  if (!keys.empty() && keys.front().isArray()) return namesIn(keys.front(), count, depth + 1);
  if (keys.size() != count) return {};
  std::vector<std::string> names;
  for (const auto& key : keys) {
    if (key.isNull() || key.isArray() || key.isObject()) return {};
    names.push_back(keyText(key));
  }
  auto sorted = names;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    throw broken("it has a dictionary with two keys of one name");
  }
  return names;
}

Pytree::Kind kindOf(std::string_view type) {
  using Kind = Pytree::Kind;
  if (type == "builtins.tuple" || type == "builtins.list" || type == "collections.deque") return Kind::Sequence;
  if (type == "builtins.dict" || type == "collections.OrderedDict" || type == "collections.defaultdict") {
    return Kind::Mapping;
  }
  return type == "collections.namedtuple" ? Kind::NamedTuple : Kind::Object;
}

std::vector<std::string> fieldsOf(std::string_view tuple, const std::optional<Json>& namedTuples) {
  std::vector<std::string> fields;
  if (!namedTuples) return fields;
  const auto definition = namedTuples->find(std::string(tuple).c_str());
  if (!definition) return fields;
  for (const auto& field : definition->at("field_names").elements()) fields.push_back(field.string());
  return fields;
}

// The fields of a dataclass that had no value: its context lists them behind those that had one.
std::vector<std::string> absentIn(const Json& context, const std::vector<std::string>& names) {
  if (!context.isArray()) return {};
  const auto lists = context.elements();
  if (lists.size() != 2 || !lists[0].isArray() || !lists[1].isArray()) return {};
  std::vector<std::string> absent;
  for (const auto& field : lists[1].elements()) {
    if (!field.isString()) return {};
    absent.push_back(field.string());
    if (std::find(names.begin(), names.end(), absent.back()) != names.end()) return {};
  }
  return absent;
}

// A class may write its context as it likes: what is no JSON names nothing.
void readNames(std::string_view context, Pytree& tree) {
  try {
    const JsonDocument document(context, "description of a container");
    tree.names = namesIn(document.root(), tree.children.size());
    if (tree.kind == Pytree::Kind::Object) tree.absent = absentIn(document.root(), tree.names);
  } catch (const Error&) {
    if (tree.kind == Pytree::Kind::Mapping) throw;
    tree.names.clear();
  }
}

Pytree read(const Json& spec, const std::optional<Json>& namedTuples, uint64_t depth) {
  if (depth > archive::kMaxPytreeDepth) throw broken("its inputs or outputs are nested too deep");
  Pytree tree;
  const auto type = spec.find("type");
  if (!type) return tree;
  tree.type = type->string();
  tree.kind = kindOf(tree.type);
  tree.leafCount = 0;
  for (const auto& child : spec.at("children_spec").elements()) {
    tree.children.push_back(read(child, namedTuples, depth + 1));
    tree.leafCount += tree.children.back().leafCount;
  }
  const auto written = spec.find("context");
  if (tree.kind == Pytree::Kind::Sequence || !written) return tree;
  if (tree.kind == Pytree::Kind::NamedTuple) {
    tree.names = fieldsOf(written->text(), namedTuples);
  } else {
    readNames(written->text(), tree);
  }
  if (tree.names.size() != tree.children.size()) {
    if (tree.kind == Pytree::Kind::Mapping) throw broken("it has a dictionary with another number of keys and values");
    tree.names.clear();
    tree.absent.clear();
  }
  return tree;
}

}  // namespace

Pytree readPytree(std::string_view text, const std::optional<Json>& namedTuples) {
  const JsonDocument document(text, "description of inputs or outputs");
  const auto parts = document.root().elements();
  if (parts.size() != 2 || parts[0].integer() != kProtocol) {
    throw Error("ERR_UNSUPPORTED_FILE", "its inputs or outputs are described in a way that isn't known");
  }
  return read(parts[1], namedTuples, 0);
}

const Pytree* Pytree::child(const PathStep& step, size_t& before) const {
  size_t at = children.size();
  if (const auto* name = std::get_if<std::string>(&step)) {
    at = static_cast<size_t>(std::find(names.begin(), names.end(), *name) - names.begin());
  } else {
    const auto position = std::get<int64_t>(step);
    if (kind == Kind::Mapping) {
      at = static_cast<size_t>(std::find(names.begin(), names.end(), std::to_string(position)) - names.begin());
    } else if (position >= 0) {
      at = static_cast<size_t>(position);
    }
  }
  if (at >= children.size()) return nullptr;
  for (size_t i = 0; i < at; ++i) before += children[i].leafCount;
  return &children[at];
}

std::optional<size_t> Pytree::leafAt(const std::vector<PathStep>& path, size_t from) const {
  const auto* tree = this;
  size_t before = 0;
  for (size_t i = from; i < path.size(); ++i) {
    tree = tree->child(path[i], before);
    if (!tree) return std::nullopt;
  }
  return tree->kind == Kind::Leaf ? std::optional(before) : std::nullopt;
}

}  // namespace lta::exported
