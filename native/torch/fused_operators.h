// The internal operators with fused attention, with their signatures in this libtorch release.
#pragma once

#include <ATen/ops/_masked_softmax_ops.h>
#include <ATen/ops/_native_multi_head_attention_ops.h>
#include <ATen/ops/_transformer_encoder_layer_fwd_ops.h>
