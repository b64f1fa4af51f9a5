#include "exported/module_stack.h"

#include <algorithm>

namespace lta::exported {
namespace {

// What an exporter puts where a node has no module, and the wrapper that it exports a model in.
constexpr std::string_view kNoModule = "_empty_nn_module_stack";
constexpr std::string_view kWrapper = "_export_root";

std::string_view withoutWrapper(std::string_view name) {
  if (!name.starts_with(kWrapper)) return name;
  const auto rest = name.substr(kWrapper.size());
  if (rest.empty()) return rest;
  return rest.front() == '.' ? rest.substr(1) : name;
}

}  // namespace

// "key,path,type;key,path,type": which call of a module it is stands in the key alone ("…layers.0.dropout@1").
ModuleStackPtr ModuleStacks::read(std::string_view text) {
  auto& stack = stacks_[std::string(text)];
  if (stack) return stack;
  auto made = std::make_shared<ModuleStack>();
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(';', at), text.size());
    const auto entry = text.substr(at, end - at);
    at = end + 1;
    const auto first = entry.find(',');
    const auto last = entry.rfind(',');
    if (first == std::string_view::npos || first == last || entry.starts_with(kNoModule)) continue;
    const auto type = entry.substr(last + 1);
    const auto call = entry.substr(0, first).rfind('@');
    ModuleFrame frame;
    frame.name = withoutWrapper(entry.substr(first + 1, last - first - 1));
    frame.type = type.substr(type.rfind('.') + 1);
    frame.identity = frame.name;
    if (call != std::string_view::npos) frame.identity += entry.substr(call, first - call);
    add(frame);
    made->push_back(std::move(frame));
  }
  return stack = std::move(made);
}

bool ModuleStacks::mayBeAlike(const std::string& first, const std::string& second) const {
  const auto one = types_.find(first), other = types_.find(second);
  return one == types_.end() || other == types_.end() || one->second == other->second;
}

}  // namespace lta::exported
