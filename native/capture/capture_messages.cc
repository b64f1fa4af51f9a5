#include "capture/capture_messages.h"

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <sstream>

namespace lta {

std::string describeNoAttention(const std::vector<Unseen>& unseen) {
  std::ostringstream message;
  message << "This forward computed no attention whose weights can be told. ";
  if (unseen.empty()) {
    message
        << "Nothing in it looks like attention either. Check that the checkpoint has attention layers and that these "
           "inputs reach them";
    return message.str();
  }
  message << "What looks like it:";
  constexpr size_t kMost = 10;
  for (size_t i = 0; i < std::min(kMost, unseen.size()); ++i) {
    const auto& [name, operatorName, shape, reason] = unseen[i];
    message << (i ? "; " : " ") << operatorName << " " << at::IntArrayRef(shape);
    if (!name.empty()) message << " in '" << name << "'";
    message << ": " << reason;
  }
  if (unseen.size() > kMost) message << "; and " << unseen.size() - kMost << " more";
  message << ". captureTensor takes any of these values";
  return message.str();
}

std::string describeMissingLayer(const std::string& layer, const std::vector<Site>& sites) {
  const auto total = static_cast<int64_t>(sites.size());
  std::ostringstream message;
  message << "No attention was computed in layer " << layer << ". This forward computed " << total
          << ", at positions 0 to " << total - 1 << ":";
  for (int64_t site = 0; site < std::min<int64_t>(total, 20); ++site) {
    const auto& name = sites[static_cast<size_t>(site)].name;
    message << (site ? ", " : " ") << (name.empty() ? "(no name)" : "'" + name + "'");
  }
  if (total > 20) message << ", …";
  return message.str();
}

}  // namespace lta
