// What a capture says where attention that was asked for isn't there.
#pragma once

#include <string>
#include <vector>

#include "capture/attention.h"
#include "capture/unseen.h"

namespace lta {

// Of a forward without any attention: what looks like it.
std::string describeNoAttention(const std::vector<Unseen>& unseen);

// Of a selected layer that computed none: which did.
std::string describeMissingLayer(const std::string& layer, const std::vector<Site>& sites);

}  // namespace lta
