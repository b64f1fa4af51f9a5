#include "script/fusion.h"

namespace lta::script {

bool hasFusion() { return false; }
bool fusionPays() { return false; }
void registerFusion() {}

FusionScope::FusionScope(bool /*on*/) : before_(false) {}
FusionScope::~FusionScope() = default;

}  // namespace lta::script
