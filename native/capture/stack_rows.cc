#include "capture/stack_rows.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace lta {

at::Tensor stackRows(const std::vector<at::Tensor>& parts, double fill) {
  const c10::NoGradGuard noGrad;
  auto sizes = parts.front().sizes().vec();
  auto& rows = sizes[sizes.size() - 2];
  auto& keys = sizes.back();
  rows = keys = 0;
  for (const auto& part : parts) {
    rows += part.size(-2);
    keys = std::max(keys, part.size(-1));
  }
  // Written once, each element where it belongs: nothing is held beside the parts and the result.
  auto stacked = at::empty(sizes, parts.front().options().requires_grad(false));
  int64_t row = 0;
  for (const auto& part : parts) {
    const auto place = stacked.narrow(-2, row, part.size(-2));
    place.narrow(-1, 0, part.size(-1)).copy_(part);
    place.narrow(-1, part.size(-1), keys - part.size(-1)).fill_(fill);
    row += part.size(-2);
  }
  return stacked;
}

}  // namespace lta
