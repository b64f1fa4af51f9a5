#pragma once

#include <c10/core/Storage.h>

#include <memory>

namespace lta {

// Keeps the memory that a storage has now, for as long as the result lives, also where the storage gets other memory
// meanwhile (a model may call `resize_`). Keeping the storage itself would not do that.
std::shared_ptr<void> holdMemory(const c10::Storage& storage);

}  // namespace lta
