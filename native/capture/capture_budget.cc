#include "capture/capture_budget.h"

#include <sstream>

#include "runtime/error.h"

namespace lta {

void CaptureBudget::reserve(const Site& site, int64_t bytes) {
  const auto held = held_ += bytes;
  if (!most_ || held <= *most_) return;
  std::ostringstream message;
  message << "The capture would hold at least " << held << " bytes by " << describeSite(site) << " of shape ["
          << site.shape.batch << ", " << site.shape.heads << ", " << site.shape.queries << ", " << site.shape.keys
          << "], but maxBytes is " << *most_
          << ". Select less with layers, heads, queries, averageHeads or topK, or raise maxBytes";
  throw Error("ERR_CAPTURE_TOO_LARGE", message.str());
}

}  // namespace lta
