#include "script/debug_ranges.h"

#include <torch/csrc/jit/frontend/source_range.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "archive/limits.h"
#include "archive/pickle.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;
using archive::Pickle;
using Kind = Pickle::Kind;

// Memory limit for debug information; larger ones are ignored.
constexpr uint64_t kMaxDebugMemory = 256 * archive::kMiB;

class DebugRanges final : public jit::SourceRangeUnpickler {
 public:
  explicit DebugRanges(std::string bytes) : bytes_(std::move(bytes)) {}

  std::optional<jit::SourceRange> findSourceRangeThatGenerated(const jit::SourceRange& range) override {
    std::call_once(read_, [this] {
      try {
        readRanges();
      } catch (const std::exception&) {  // traces go without Python's lines
        ranges_.clear();
      }
      bytes_.clear();
    });
    auto found = std::upper_bound(ranges_.begin(), ranges_.end(), range.start(),
                                  [](size_t offset, const Range& each) { return offset < each.offset; });
    if (found == ranges_.begin()) return std::nullopt;
    return (found - 1)->range;
  }

 private:
  struct Range {
    size_t offset;  // in the archive's code, of the first character it applies to
    std::optional<jit::SourceRange> range;
  };

  void readRanges() {
    const Pickle pickle(bytes_, {kMaxDebugMemory, /*keepLists=*/true});
    if (pickle.root().kind != Kind::Tuple) return;
    const auto* rows = &pickle.tuple(pickle.root());
    const std::vector<Pickle::Value>* texts = nullptr;
    if (rows->size() == 3 && (*rows)[0].kind == Kind::String && (*rows)[1].kind == Kind::Tuple &&
        (*rows)[2].kind == Kind::Tuple && pickle.string((*rows)[0]) == jit::kFormatWithStringTable) {
      texts = &pickle.tuple((*rows)[1]);
      rows = &pickle.tuple((*rows)[2]);
    }
    std::map<int64_t, std::shared_ptr<jit::Source>> sources;  // by the index of their tuple
    for (const auto& row : *rows) {
      if (row.kind != Kind::Tuple) continue;
      const auto& parts = pickle.tuple(row);
      // Rows are (offset, range) or (offset, range, tag), in some old files (offset, tag, range).
      const size_t at = parts.size() > 2 && parts[1].kind != Kind::Tuple ? 2 : 1;
      if (parts.size() <= at || parts[0].kind != Kind::Int || parts[at].kind != Kind::Tuple) continue;
      ranges_.push_back(
          {static_cast<size_t>(parts[0].number), rangeOf(pickle, texts, pickle.tuple(parts[at]), sources)});
    }
    std::stable_sort(ranges_.begin(), ranges_.end(),
                     [](const Range& a, const Range& b) { return a.offset < b.offset; });
  }

  static std::optional<jit::SourceRange> rangeOf(const Pickle& pickle, const std::vector<Pickle::Value>* texts,
                                                 const std::vector<Pickle::Value>& parts,
                                                 std::map<int64_t, std::shared_ptr<jit::Source>>& sources) {
    if (parts.size() != 3 || parts[0].kind != Kind::Tuple || parts[1].kind != Kind::Int || parts[2].kind != Kind::Int) {
      return std::nullopt;
    }
    auto& source = sources[parts[0].number];
    if (!source) source = sourceOf(pickle, texts, pickle.tuple(parts[0]));
    if (!source) return std::nullopt;
    const auto start = parts[1].number;
    const auto end = parts[2].number;
    // An empty source has nothing to show.
    if (start < 0 || end < start || source->size() == 0 || static_cast<size_t>(start) >= source->size() ||
        static_cast<size_t>(end) > source->size()) {
      return std::nullopt;
    }
    return jit::SourceRange(source, static_cast<size_t>(start), static_cast<size_t>(end));
  }

  static std::shared_ptr<jit::Source> sourceOf(const Pickle& pickle, const std::vector<Pickle::Value>* texts,
                                               const std::vector<Pickle::Value>& parts) {
    if (parts.size() != 3 || parts[2].kind != Kind::Int || parts[2].number < 0) return nullptr;
    const auto textOf = [&](const Pickle::Value& value) -> std::optional<std::string_view> {
      if (value.kind == Kind::String) return pickle.string(value);
      if (!texts || value.kind != Kind::Int || value.number < 0) return std::nullopt;
      const auto index = static_cast<size_t>(value.number);
      if (index >= texts->size() || (*texts)[index].kind != Kind::String) return std::nullopt;
      return pickle.string((*texts)[index]);
    };
    std::string text;
    if (parts[0].kind == Kind::List) {
      for (const auto& line : pickle.list(parts[0])) {
        const auto piece = textOf(line);
        if (!piece || text.size() + piece->size() > kMaxDebugMemory) return nullptr;
        text += *piece;
      }
    } else if (const auto whole = textOf(parts[0])) {
      text = *whole;
    } else {
      return nullptr;
    }
    std::optional<std::string> file;
    if (const auto name = textOf(parts[1])) file = std::string(*name);
    return std::make_shared<jit::Source>(std::string_view(text), std::move(file), static_cast<size_t>(parts[2].number));
  }

  std::once_flag read_;
  std::string bytes_;
  std::vector<Range> ranges_;
};

}  // namespace

std::shared_ptr<jit::SourceRangeUnpickler> debugRanges(std::string bytes) {
  return std::make_shared<DebugRanges>(std::move(bytes));
}

}  // namespace lta::script
