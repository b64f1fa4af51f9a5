// Shared libraries with operators of users.
#pragma once

#include <string>
#include <vector>

namespace lta {

// Opens a library, whose operators libtorch then knows, until the end of the process. Throws ERR_INVALID_ARGUMENT for
// one that can't be opened. What a library throws while it registers its operators ends the process: try it in another
// one first, behind those that were opened.
void loadOperatorLibrary(const std::string& path);

// Those that were opened, in order.
std::vector<std::string> operatorLibraries();

}  // namespace lta
