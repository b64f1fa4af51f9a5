#include "exported/json_text.h"

#include <charconv>
#include <limits>

namespace lta::exported {
namespace {

constexpr size_t kMostNodes = std::numeric_limits<uint32_t>::max();

bool isDigit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the UTF-8 sequence that a text begins with; 0 where it is none (overlong forms and surrogates are none).
size_t sequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80; };
  const auto first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    return continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

void appendUtf8(std::string& to, uint32_t code) {
  const auto add = [&](uint32_t byte) { to += static_cast<char>(byte); };
  if (code < 0x80) return add(code);
  if (code < 0x800) {
    add(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      add(0xE0 | code >> 12);
    } else {
      add(0xF0 | code >> 18);
      add(0x80 | (code >> 12 & 0x3F));
    }
    add(0x80 | (code >> 6 & 0x3F));
  }
  add(0x80 | (code & 0x3F));
}

}  // namespace

class JsonParser {
 public:
  JsonParser(std::string_view text, JsonNodes& into) : text_(text), nodes_(into.nodes_), strings_(into.strings_) {
    strings_.reserve(text.size());
  }

  void parse() {
    do {
      value();
      while (closed()) {
      }
    } while (!open_.empty());
    if (peek() != kEnd) fail("expected its end");
  }

 private:
  using Kind = JsonNode::Kind;
  static constexpr int kEnd = -1;

  [[noreturn]] void fail(const char* what) const { throw JsonSyntax(what, at_); }

  // The next character that is no white space.
  int peek() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
    return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : kEnd;
  }

  bool take(char expected) {
    if (peek() != expected) return false;
    ++at_;
    return true;
  }

  JsonNode& add(Kind kind) {
    if (nodes_.size() == kMostNodes) fail("too many values");
    nodes_.emplace_back().kind = kind;
    return nodes_.back();
  }

  // A value; of arrays and objects that aren't empty the beginning, up to their first value.
  void value() {
    while (true) {
      const int next = peek();
      if (next == '{' || next == '[') {
        ++at_;
        open_.push_back(nodes_.size());
        add(next == '{' ? Kind::Object : Kind::Array);
        if (peek() == (next == '{' ? '}' : ']')) return;
        if (next == '{') key();
        continue;
      }
      if (next == '"') return string();
      // What Python writes of numbers that JSON doesn't have, as PyTorch 2.6 left it.
      if (literal("NaN")) return void(add(Kind::Number).number = std::numeric_limits<double>::quiet_NaN());
      if (literal("Infinity")) return void(add(Kind::Number).number = std::numeric_limits<double>::infinity());
      if (literal("-Infinity")) return void(add(Kind::Number).number = -std::numeric_limits<double>::infinity());
      if (next == '-' || (next != kEnd && isDigit(static_cast<char>(next)))) return number();
      if (literal("null")) return void(add(Kind::Null));
      if (literal("true")) return void(add(Kind::Boolean).boolean = true);
      if (literal("false")) return void(add(Kind::Boolean));
      fail("expected a value");
    }
  }

  // Behind a value: ends the array or object that it is in, or goes to the next value there and returns false.
  bool closed() {
    if (open_.empty()) return false;
    auto& container = nodes_[open_.back()];
    const bool object = container.kind == Kind::Object;
    if (take(object ? '}' : ']')) {
      container.span = static_cast<uint32_t>(nodes_.size() - open_.back());
      open_.pop_back();
      return true;
    }
    if (!take(',')) fail(object ? "expected ',' or '}'" : "expected ',' or ']'");
    if (object) key();
    return false;
  }

  void key() {
    if (peek() != '"') fail("expected a key");
    string();
    if (!take(':')) fail("expected ':'");
  }

  bool literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void number() {
    const size_t from = at_;
    const auto digits = [&] {
      const size_t before = at_;
      while (at_ < text_.size() && isDigit(text_[at_])) ++at_;
      if (at_ == before) fail("expected a digit");
    };
    if (text_[at_] == '-') ++at_;
    const size_t whole = at_;
    digits();
    if (text_[whole] == '0' && at_ - whole > 1) fail("expected a number without leading zeros");
    bool integer = true;
    if (at_ < text_.size() && text_[at_] == '.') {
      integer = false;
      ++at_;
      digits();
    }
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      integer = false;
      ++at_;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
      digits();
    }
    auto& node = add(Kind::Number);
    const char* const first = text_.data() + from;
    const char* const last = text_.data() + at_;
    if (integer && std::from_chars(first, last, node.integer).ec == std::errc()) node.kind = Kind::Integer;
    if (std::from_chars(first, last, node.number).ec != std::errc()) fail("expected a number that a double can hold");
  }

  void string() {
    ++at_;
    const size_t from = strings_.size();
    while (true) {
      if (at_ == text_.size()) fail("expected the end of a string");
      const char c = text_[at_];
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < ' ') fail("expected no control characters in a string");
      if (c == '\\') {
        escape();
        continue;
      }
      const size_t length = sequenceLength(text_.substr(at_));
      if (length == 0) fail("expected UTF-8");
      strings_.append(text_.substr(at_, length));
      at_ += length;
    }
    ++at_;
    add(Kind::String).text = std::string_view(strings_).substr(from);
  }

  void escape() {
    ++at_;
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    if (const auto found = kNames.find(c); c != '\0' && found != std::string_view::npos) {
      strings_ += kMeant[found];
      ++at_;
      return;
    }
    if (c != 'u') fail("expected an escape");
    uint32_t code = unit();
    if (code >= 0xDC00 && code <= 0xDFFF) fail("expected a whole surrogate pair");
    if (code >= 0xD800 && code <= 0xDBFF) {
      if (text_.substr(at_, 2) != "\\u") fail("expected a whole surrogate pair");
      ++at_;
      const uint32_t low = unit();
      if (low < 0xDC00 || low > 0xDFFF) fail("expected a whole surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    appendUtf8(strings_, code);
  }

  // The four digits behind a "u".
  uint32_t unit() {
    ++at_;
    uint32_t code = 0;
    const auto digits = text_.substr(at_, 4);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() < 4 || error != std::errc() || end != digits.data() + 4) fail("expected four hexadecimal digits");
    at_ += 4;
    return code;
  }

  const std::string_view text_;
  std::vector<JsonNode>& nodes_;
  std::string& strings_;
  size_t at_ = 0;
  std::vector<size_t> open_;  // the arrays and objects around the current position
};

JsonNodes::JsonNodes(std::string_view text) { JsonParser(text, *this).parse(); }

}  // namespace lta::exported
