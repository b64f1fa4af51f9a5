#pragma once

#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

#include <string_view>

#include <ATen/core/operator_name.h>

#include "exported/json.h"

// The enumerations of the format, which are its own: their numbers aren't libtorch's. Each throws ERR_MODEL_LOAD, or
// ERR_UNSUPPORTED_FILE for a value of a later version.
namespace lta::exported {

at::ScalarType scalarType(const Json& json);
c10::Layout layout(const Json& json);
c10::MemoryFormat memoryFormat(const Json& json);
c10::Device device(const Json& json);

// What the targets of operators begin with.
constexpr std::string_view kOperators = "torch.ops.";
// The operator that a target names: "torch.ops.aten.add.Tensor" is aten::add.Tensor. Throws ERR_MODEL_LOAD.
c10::OperatorName operatorName(std::string_view target);

}  // namespace lta::exported
