// Argument checks in front of operators that crash or hang. Applies to every program in the process.
#pragma once

namespace lta::script {

// Some operators of libtorch end the process or never return for certain arguments: integer division by zero or of the
// smallest integer by -1, attention with no heads, counting an empty string. These become ordinary errors. To be called
// before the first program is compiled; later calls are no-ops.
void guardOperators();

}  // namespace lta::script
