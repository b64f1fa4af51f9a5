"""Python's side of bench/nn.mjs: nn.TransformerEncoder in evaluation mode, driven line by line over stdin.

Each line is a task, "plain" or "weights"; the answer is the milliseconds that one forward took. "weights" is Python's
own way to all weights: forward hooks, and attentions that are told to return them.
"""

import json
import sys
import time

import torch
from torch import nn

options = json.loads(sys.argv[1])
torch.set_num_threads(options["threads"])
torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(
    options["dModel"], options["nhead"], options["dimFeedforward"], batch_first=True, activation="gelu"
)
encoder = nn.TransformerEncoder(layer, options["layers"]).eval()
if options["state"]:
    from safetensors.torch import save_file

    save_file(encoder.state_dict(), options["state"])
src = torch.sin(torch.arange(options["batch"] * options["length"] * options["dModel"], dtype=torch.float32))
src = src.reshape(options["batch"], options["length"], options["dModel"])


def weights_of(model):
    seen, handles = [], []
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            plain = module.forward

            def forward(*args, plain=plain, **kwargs):
                return plain(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})

            module.forward = forward
            handles.append((module, module.register_forward_hook(lambda _, __, output: seen.append(output[1]))))
    model(src)
    for module, handle in handles:
        handle.remove()
        del module.forward
    return seen


with torch.no_grad():
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        encoder(src) if line.strip() == "plain" else weights_of(encoder)
        print((time.perf_counter() - begin) * 1000, flush=True)
