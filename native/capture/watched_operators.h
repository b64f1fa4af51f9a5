// Boxed kernels for operators by the table of rules.
#pragma once

#include <initializer_list>

#include "capture/capture.h"

namespace lta {

// Has a capture told of operators by boxed kernels under the probe's key: those that the table of rules names (see
// flow/rules.h), ahead of every write those whose schema says that they write to an argument, and custom ones.
// `current` is the calling thread's capture; `fused` tells whether that thread is inside an operator whose attention is
// told otherwise; `except` names operators that have kernels of their own. To be called once.
void watchOperators(std::initializer_list<const char*> except, Capture* (*current)(), bool (*fused)());

// Operators may be registered at any time. To be called before a capture begins; costs nothing where there are none
// new.
void watchNewOperators();

}  // namespace lta
