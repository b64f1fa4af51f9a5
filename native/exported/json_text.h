#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace lta::exported {

// One value of a JSON text (RFC 8259, and the three numbers that Python writes beyond it). The values of a text lie one
// behind the other, each in front of those that it contains: the elements of an array, or the keys and values of an
// object by turns.
struct JsonNode {
  enum class Kind : uint8_t { Null, Boolean, Integer, Number, String, Array, Object };

  Kind kind = Kind::Null;
  bool boolean = false;
  uint32_t span = 1;  // nodes that this value takes, itself included
  int64_t integer = 0;
  double number = 0;  // of integers, too
  std::string_view text;

  const JsonNode* begin() const { return this + 1; }
  const JsonNode* end() const { return this + span; }
};

// What a text holds. Parsing keeps no state on the stack, so nesting is limited by memory only.
class JsonNodes {
 public:
  // Throws JsonSyntax.
  explicit JsonNodes(std::string_view text);
  JsonNodes(const JsonNodes&) = delete;
  JsonNodes& operator=(const JsonNodes&) = delete;

  const JsonNode* root() const { return nodes_.data(); }

 private:
  friend class JsonParser;
  std::vector<JsonNode> nodes_;
  std::string strings_;  // of all strings, without escapes; never longer than the text, so it never moves
};

class JsonSyntax : public std::exception {
 public:
  JsonSyntax(const char* what, size_t position) : what_(what), position_(position) {}
  const char* what() const noexcept override { return what_; }
  // Bytes from the beginning of the text.
  size_t position() const { return position_; }

 private:
  const char* what_;
  size_t position_;
};

}  // namespace lta::exported
