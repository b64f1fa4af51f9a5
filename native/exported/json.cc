#include "exported/json.h"

#include <limits>

namespace lta::exported {
namespace {

using Kind = JsonNode::Kind;

const char* nameOf(Kind kind) {
  switch (kind) {
    case Kind::Null:
      return "null";
    case Kind::Boolean:
      return "a boolean";
    case Kind::Integer:
      return "an integer";
    case Kind::Number:
      return "a number";
    case Kind::String:
      return "a string";
    case Kind::Array:
      return "an array";
    case Kind::Object:
      return "an object";
  }
  return "nothing";
}

const JsonNode* nextOf(const JsonNode* node) { return node + node->span; }

}  // namespace

Error broken(const std::string& what) { return Error("ERR_MODEL_LOAD", what); }

std::string shown(std::string_view text) {
  constexpr size_t kMost = 100;
  std::string result = "'";
  for (const char c : text.substr(0, kMost)) result += c >= ' ' && c < 127 ? c : '?';
  return result + (text.size() > kMost ? "…'" : "'");
}

void Json::mismatch(const char* expected) const {
  throw broken(std::string("expected ") + expected + " for " + shown(name_) + " but it is " + nameOf(value_->kind));
}

bool Json::isNull() const { return value_->kind == Kind::Null; }
bool Json::isBoolean() const { return value_->kind == Kind::Boolean; }
bool Json::isInteger() const { return value_->kind == Kind::Integer; }
bool Json::isNumber() const { return isInteger() || value_->kind == Kind::Number; }
bool Json::isString() const { return value_->kind == Kind::String; }
bool Json::isArray() const { return value_->kind == Kind::Array; }
bool Json::isObject() const { return value_->kind == Kind::Object; }

bool Json::boolean() const {
  if (!isBoolean()) mismatch("a boolean");
  return value_->boolean;
}

int64_t Json::integer() const {
  if (!isInteger()) mismatch("an integer of 64 bits");
  return value_->integer;
}

double Json::number() const {
  if (isNumber()) return value_->number;
  if (isString()) {
    if (text() == "Infinity") return std::numeric_limits<double>::infinity();
    if (text() == "-Infinity") return -std::numeric_limits<double>::infinity();
    if (text() == "NaN") return std::numeric_limits<double>::quiet_NaN();
  }
  mismatch("a number");
}

std::string_view Json::text() const {
  if (!isString()) mismatch("a string");
  return value_->text;
}

std::vector<Json> Json::elements() const {
  if (!isArray()) mismatch("an array");
  std::vector<Json> elements;
  for (const auto* node = value_->begin(); node != value_->end(); node = nextOf(node))
    elements.emplace_back(node, name_);
  return elements;
}

std::vector<std::pair<std::string_view, Json>> Json::members() const {
  if (!isObject()) mismatch("an object");
  std::vector<std::pair<std::string_view, Json>> members;
  for (const auto* key = value_->begin(); key != value_->end(); key = nextOf(nextOf(key))) {
    members.emplace_back(key->text, Json(nextOf(key), key->text));
  }
  return members;
}

std::vector<int64_t> Json::integers() const {
  std::vector<int64_t> integers;
  for (const auto& element : elements()) integers.push_back(element.integer());
  return integers;
}

std::optional<Json> Json::member(std::string_view name) const {
  if (!isObject()) mismatch("an object");
  for (const auto* key = value_->begin(); key != value_->end(); key = nextOf(nextOf(key))) {
    if (key->text == name) return Json(nextOf(key), key->text);
  }
  return std::nullopt;
}

Json Json::at(const char* name) const {
  const auto found = member(name);
  if (!found) throw broken("expected a member '" + std::string(name) + "' in " + shown(name_) + " but it is missing");
  return *found;
}

std::optional<Json> Json::find(const char* name) const {
  const auto found = member(name);
  return found && !found->isNull() ? found : std::nullopt;
}

std::pair<std::string_view, Json> Json::only() const {
  auto all = members();
  if (all.size() != 1) mismatch("an object with one member");
  return all.front();
}

JsonDocument::JsonDocument(std::string_view text, const char* what) : what_(what) {
  try {
    nodes_ = std::make_unique<JsonNodes>(text);
  } catch (const JsonSyntax& syntax) {
    throw broken("its " + std::string(what) + " is no JSON: " + syntax.what() + " at byte " +
                 std::to_string(syntax.position()));
  }
}

Json JsonDocument::root() const { return {nodes_->root(), what_}; }

}  // namespace lta::exported
