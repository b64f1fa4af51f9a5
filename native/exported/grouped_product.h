// The product of a mixture of experts, which transformers registers in Python.
#pragma once

#include <string_view>

namespace lta::exported {

// Programs of torch.export have its name alone.
inline constexpr std::string_view kGroupedProduct = "transformers::grouped_mm_fallback";

// Registers it, once a process.
void registerGroupedProduct();

}  // namespace lta::exported
