#include "script/fusion.h"

namespace lta::script {

bool hasFusion() { return false; }
void registerFusion() {}
bool setFusing(bool /*on*/) { return false; }

}  // namespace lta::script
