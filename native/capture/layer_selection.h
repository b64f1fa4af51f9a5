// The option `layers`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "capture/options.h"

namespace lta {

// Whether a module is another one, or lies below it.
bool isBelow(const std::string& name, const std::string& ancestor);

// Which attentions of a forward the option `layers` selects. To be used under one lock.
class LayerSelection {
 public:
  explicit LayerSelection(const std::vector<LayerSelector>& layers);

  // Whether an attention is selected by its name or its position from the beginning. Told of each, in execution order.
  bool selects(const Site& site);

  // How far positions from the end reach back: so many of the last attentions may be selected by them.
  int64_t reachFromEnd() const { return reachFromEnd_; }
  // The positions that those select once the forward has computed `total` attentions. To be called once.
  std::vector<int64_t> selectedFromEnd(int64_t total);

  // The labels of the selectors that matched no attention.
  std::vector<std::string> unmatched() const;

 private:
  const std::vector<LayerSelector>& layers_;
  std::vector<bool> matched_;  // by selector
  int64_t reachFromEnd_ = 0;
};

}  // namespace lta
