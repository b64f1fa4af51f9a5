#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exported/json_text.h"
#include "runtime/error.h"

namespace lta::exported {

// The error for what a file has that isn't as its format says.
Error broken(const std::string& what);
// A name or text of a file as messages show it: without what isn't printable, and not too long.
std::string shown(std::string_view text);

// A value in a document, as long as that lives. What asks for another kind of value than it is throws ERR_MODEL_LOAD,
// with the name of the member that it was found under.
class Json {
 public:
  Json(const JsonNode* value, std::string_view name) : value_(value), name_(name) {}

  bool isNull() const;
  bool isBoolean() const;
  bool isInteger() const;
  bool isNumber() const;
  bool isString() const;
  bool isArray() const;
  bool isObject() const;

  bool boolean() const;
  int64_t integer() const;
  // JSON has no infinity and no NaN: the format writes them as strings.
  double number() const;
  std::string_view text() const;
  std::string string() const { return std::string(text()); }

  std::vector<Json> elements() const;
  std::vector<std::pair<std::string_view, Json>> members() const;
  std::vector<int64_t> integers() const;

  // A member of an object; `find` gives none where it is absent or null.
  Json at(const char* name) const;
  std::optional<Json> find(const char* name) const;
  // The only member of an object: how the format writes a value that may be one of several things.
  std::pair<std::string_view, Json> only() const;

  const std::string_view& name() const { return name_; }

 private:
  [[noreturn]] void mismatch(const char* expected) const;

  std::optional<Json> member(std::string_view name) const;

  const JsonNode* value_;
  std::string_view name_;
};

// A text in JSON, however deep.
class JsonDocument {
 public:
  // `what` names it in messages; it has to outlive the document. Throws ERR_MODEL_LOAD.
  JsonDocument(std::string_view text, const char* what);

  Json root() const;

 private:
  const char* what_;
  std::unique_ptr<const JsonNodes> nodes_;
};

}  // namespace lta::exported
