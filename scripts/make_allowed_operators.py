"""Writes native/runtime/allowed_operators.inc: the operators that untrusted programs may use.

Taken are the operators of TorchScript that PyTorch's public functions and tensor methods stand for, and those of
TorchScript's own lists, dictionaries, strings and numbers; not those that reach outside of the program, lay tensors over
memory by hand, or belong to one backend. `python scripts/make_allowed_operators.py` with the oldest PyTorch supported, so
that no release has an operator in it that nobody looked at; look through the difference.
"""

import pathlib

import torch

# What computes nothing, reaches outside, lets a program choose memory or see memory that nobody has written (empty), or
# goes on for as long as a number says.
REFUSED_PARTS = ["from_file", "tofile", "save", "load", "print", "warn", "manual_seed", "seed", "record_stream", "fork",
                 "wait", "awaitable", "resize", "as_strided", "set_data", "mkldnn", "cudnn", "miopen", "fbgemm", "xnnpack",
                 "quantize", "q_", "fake_quant", "choose_qparams", "nnapi", "vulkan", "cuda", "mps", "backward", "names",
                 "rename", "align", "refine", "sparse", "ccol", "crow", "to_padded_tensor", "nested", "unsafe", "retain",
                 "pin_memory", "is_pinned", "sym_", "dist", "storage", "data_ptr", "hspmm", "smm", "sspaddmm",
                 "coalesce", "csr", "csc", "bsr", "bsc", "allclose_", "__contains__", "grad_fn", "version", "rrelu_with",
                 "embedding_renorm", "quantized", "empty", "owner", "batch_norm_", "hash", "factorial", "promote_types_", "result_type_", "symeig", "lstm_cell_", "thnn", "polynomial"]
REFUSED = {"set_", "set", "resize_", "data", "requires_grad_", "apply_", "map_", "map2_", "swapaxes_", "gru_cell",
           "rnn_tanh_cell", "rnn_relu_cell", "put_", "put", "polygamma", "histogramdd", "native_channel_shuffle", "ormqr",
           "geqrf", "lu_unpack", "lu_solve", "confirmed_by_owner", "is_confirmed_by_owner", "get_gradients", 
           "is_distributed", "is_inference", "sum_to_size", "has_torch_function", "autocast_to_full_precision",
           "autocast_to_reduced_precision", "set_grad_enabled", "open",
           "isfile", "stringIndex", "input", "classes", "getenv", "to_here", "requires_grad", "retains_grad", "is_leaf",
           "output_nr", "id", "local_value", "Generator", "grad", "is_set_to", "nonzero_static", "segment_reduce",
           "slice_inverse", "int_repr", "qscheme", "col_indices", "row_indices", "indices", "linalg__powsum", "get_autocast_dtype"}
# Internal operators that exported and scripted models hold.
INTERNAL = ["_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_softmax", "_log_softmax",
            "_nested_tensor_from_mask", "_nested_tensor_from_mask_left_aligned", "_convolution", "_size_if_not_equal",
            "_set_item", "_shape_as_tensor", "_unwrap_optional", "__range_length", "__derive_index", "__getitem__",
            "__contains__", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__", "__not__", "__is__", "__isnot__",
            "__interpolate", "__upsample", "_pad_circular", "_pad_enum", "_unique2", "_weight_norm", "_cast_Float",
            "_assert_tensor_metadata", "_list_to_tensor", "_infer_size", "_no_grad_embedding_renorm_", "__isinstance__", "warn", "to_padded_tensor", "unsafe_chunk", "is_autocast_enabled",
            "is_autocast_cpu_enabled", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d",
            "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_bicubic2d", "upsample_bilinear2d",
            "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d",
            "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d",
            "replication_pad3d", "log_sigmoid", "cross_entropy_loss", "nll_loss_nd", "pairwise_distance", "pad_sequence",
            "IntImplicit", "FloatImplicit", "ComplexImplicit", "ScalarImplicit",
            "numpy_T", "matrix_H", "im2col", "col2im", "cdist"]


def public():
    names = set()
    modules = [torch, torch.Tensor, torch.nn.functional, torch.linalg, torch.fft, torch.special]
    for module in modules:
        prefix = {torch.linalg: "linalg_", torch.fft: "fft_", torch.special: "special_"}.get(module, "")
        for name in dir(module):
            names.update({name, prefix + name, prefix + prefix.split("_")[0] + "_" + name})
    return names


def main():
    schemas = torch._C._jit_get_all_schemas()
    operators = {schema.name[len("aten::"):] for schema in schemas if schema.name.startswith("aten::")}
    # TorchScript's own operators have no tensor in their schemas.
    plain = {schema.name[len("aten::"):] for schema in schemas if schema.name.startswith("aten::")
             and not any("Tensor" in str(a.type) for a in [*schema.arguments, *schema.returns])}
    allowed = set()
    known = public()
    for name in operators:
        if name in REFUSED or any(part in name for part in REFUSED_PARTS) or name.startswith("_"):
            continue
        base = name[:-1] if name.endswith("_") else name
        if name in known or base in known or name in plain:
            allowed.add(name)
    allowed |= {name for name in INTERNAL if name in operators}
    lines, line = [], ""
    for name in sorted(allowed):
        item = f'"{name}", '
        if len(line) + len(item) > 119:
            lines.append(line.rstrip())
            line = ""
        line += item
    lines.append(line.rstrip())
    path = pathlib.Path(__file__).parent.parent / "native/runtime/allowed_operators.inc"
    path.write_text("// Written by scripts/make_allowed_operators.py.\n" + "\n".join(lines) + "\n")
    print(len(allowed))


main()
