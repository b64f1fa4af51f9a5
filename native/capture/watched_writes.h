#pragma once

#include <initializer_list>

#include "capture/capture.h"

namespace lta {

// Has a capture told of every write before it happens: each operator whose schema says that it writes to an argument,
// in place or as `out`, gets a kernel under the probe's key. `current` is the calling thread's capture; `except` names
// operators that tell of their writes otherwise. To be called once.
void watchWrites(std::initializer_list<const char*> except, Capture* (*current)());

// Operators may be registered at any time. To be called before a capture begins; costs nothing where there are none
// new.
void watchNewOperators();

}  // namespace lta
