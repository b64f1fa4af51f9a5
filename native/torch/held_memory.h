// Shared ownership of a storage's memory.
#pragma once

#include <c10/core/Storage.h>

#include <memory>

namespace lta {

// Keeps the current memory of a storage alive as long as the result lives, even if the storage is resized or
// reallocated meanwhile (`resize_`); a reference to the storage wouldn't.
std::shared_ptr<void> holdMemory(const c10::Storage& storage);

}  // namespace lta
