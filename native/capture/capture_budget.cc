#include "capture/capture_budget.h"

#include <sstream>

#include "runtime/error.h"

namespace lta {

void CaptureBudget::reserve(const Site& site, int64_t bytes) {
  const auto what = [&] {
    std::ostringstream text;
    text << describeSite(site) << " of shape [" << site.shape.batch << ", " << site.shape.heads << ", "
         << site.shape.queries << ", " << site.shape.keys << "]";
    return text.str();
  };
  reserve(bytes, what, "layers, heads, queries, averageHeads or topK");
}

void CaptureBudget::reserve(int64_t bytes, const std::function<std::string()>& what, const char* less) {
  const auto held = held_ += bytes;
  if (!most_ || held <= *most_) return;
  std::ostringstream message;
  message << "The capture would hold at least " << held << " bytes by " << what() << ", but maxBytes is " << *most_
          << ". Select less with " << less << ", or raise maxBytes";
  throw Error("ERR_CAPTURE_TOO_LARGE", message.str());
}

}  // namespace lta
