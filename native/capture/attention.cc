#include "capture/attention.h"

#include <sstream>

namespace lta {

std::string describeSite(const Site& site) {
  std::ostringstream text;
  text << "attention " << site.index;
  if (!site.name.empty()) text << " ('" << site.name << "')";
  return text.str();
}

}  // namespace lta
