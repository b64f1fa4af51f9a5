#pragma once

namespace lta::script {

// A few of libtorch's operators end the process, or never return, for arguments that any program can give them: integer
// division by zero or of the smallest integer by -1, attention of no head, counting an empty string. From here on they
// are errors like any other. To be called before the first program; does nothing when it is called again.
void guardOperators();

}  // namespace lta::script
