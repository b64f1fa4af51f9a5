// Where the heads stand in a call of scaled_dot_product_attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "weights/weights.h"

namespace lta {

// Gives query and key all the leading dimensions of the call's output, where theirs alone don't tell its shape.
void broadcastToOutput(SdpaArguments& call, const at::Tensor& output);

// Moves the heads, which stand at dimension `from` of queries and keys, behind the other dimensions of the batch.
void moveHeads(SdpaArguments& call, int64_t from);

// Makes one dimension of heads of the last `dims` dimensions of the batch (heads in groups), in a call and in a tensor
// [..., Q, K] or [..., Q, E] of it.
void joinHeads(SdpaArguments& call, int64_t dims);
at::Tensor joinHeads(const at::Tensor& tensor, int64_t dims);

}  // namespace lta
