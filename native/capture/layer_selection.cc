#include "capture/layer_selection.h"

#include <algorithm>

namespace lta {

bool isBelow(const std::string& name, const std::string& ancestor) {
  if (name == ancestor) return true;
  return !ancestor.empty() && name.size() > ancestor.size() && name.compare(0, ancestor.size(), ancestor) == 0 &&
         name[ancestor.size()] == '.';
}

LayerSelection::LayerSelection(const std::vector<LayerSelector>& layers)
    : layers_(layers), matched_(layers.size(), false) {
  for (const auto& layer : layers_) {
    if (layer.position && *layer.position < 0) reachFromEnd_ = std::max(reachFromEnd_, -*layer.position);
  }
}

bool LayerSelection::selects(const Site& site) {
  if (layers_.empty()) return true;
  bool selected = false;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto& layer = layers_[i];
    const bool match = layer.position ? *layer.position == site.index
                                      : std::any_of(layer.names.begin(), layer.names.end(),
                                                    [&](const std::string& name) { return isBelow(site.name, name); });
    if (match) matched_[i] = selected = true;
  }
  return selected;
}

std::vector<int64_t> LayerSelection::selectedFromEnd(int64_t total) {
  std::vector<int64_t> selected;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto& position = layers_[i].position;
    if (!position || *position >= 0 || total + *position < 0) continue;
    matched_[i] = true;
    selected.push_back(total + *position);
  }
  return selected;
}

std::vector<std::string> LayerSelection::unmatched() const {
  std::vector<std::string> labels;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!matched_[i]) labels.push_back(layers_[i].label);
  }
  return labels;
}

}  // namespace lta
