"""Makes test/fixtures/nn: what PyTorch's torch.nn gives, for the native modules to be compared with.

Usage: python3 scripts/make_nn_fixtures.py [folder]

Cases that differ in their masks only are stacked in one tensor, in the order of the lists in the metadata.
"""

import contextlib
import itertools
import json
import math
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from strip_debug import strip_debug
from torch import nn

warnings.simplefilter("ignore")
torch.set_num_threads(1)
ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "test" / "fixtures" / "nn"
FLAGS = ("batch_first", "norm_first", "gelu", "bias")


@contextlib.contextmanager
def recording():
    """Weights of every attention, per head, in the order they are computed; on the path that computes them."""
    seen = []
    plain = nn.MultiheadAttention.forward

    def forward(self, *args, **kwargs):
        kwargs.update(need_weights=True, average_attn_weights=False)
        output, weights = plain(self, *args, **kwargs)
        seen.append(weights)
        return output, weights

    nn.MultiheadAttention.forward = forward
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield seen
    finally:
        nn.MultiheadAttention.forward = plain
        torch.backends.mha.set_fastpath_enabled(True)


def has_shifts(*masks):
    """Whether a float mask does more than hide keys: the fast path of PyTorch 2.13 makes NaN of those."""
    return any(m is not None and m.is_floating_point() and bool(((m != 0) & ~m.isinf()).any()) for m in masks)


@torch.no_grad()
def reference(module, inputs, masks):
    """Output as the module gives it, and the weights of its attentions."""
    tensors = [m for m in masks.values() if isinstance(m, torch.Tensor)]
    torch.backends.mha.set_fastpath_enabled(not has_shifts(*tensors))
    output = module(*inputs, **masks)
    torch.backends.mha.set_fastpath_enabled(True)
    with recording() as seen:
        module(*inputs, **masks)
    return output[0] if isinstance(output, tuple) else output, seen


def fill(module, generator):
    """Values that no initialisation gives, so that no parameter can be left out unnoticed."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.rand(parameter.shape, generator=generator) - 0.5
            parameter.copy_(values + 1 if "norm" in name and name.endswith("weight") else values)
    return module.eval()


def attention_masks(generator, batch, heads, queries, keys):
    """Masks by kind. The first key is never hidden, so that no row is without any."""

    def hide(*shape):
        hidden = torch.rand(*shape, generator=generator) < 0.4
        hidden[..., 0] = False
        return hidden

    return {
        "none": None,
        "bool": hide(queries, keys),
        "float": torch.randn(queries, keys, generator=generator),
        "bool_per_head": hide(batch * heads, queries, keys),
        "float_per_head": torch.randn(batch * heads, queries, keys, generator=generator),
    }


def causal_masks(size):
    hidden = torch.ones(size, size, dtype=torch.bool).triu(1)
    return {"causal_bool": hidden, "causal_float": torch.zeros(size, size).masked_fill(hidden, -math.inf)}


def padding_masks(generator, batch, keys, gaps=False):
    hidden = torch.zeros(batch, keys, dtype=torch.bool)
    hidden[0, keys - 1] = True
    masks = {
        "none": None,
        "bool": hidden,
        "float": torch.zeros(batch, keys).masked_fill(hidden, -math.inf),
        "shifting": torch.randn(batch, keys, generator=generator),
    }
    if gaps:
        holes = torch.zeros(batch, keys, dtype=torch.bool)
        holes[0, 1] = True
        masks["gaps"] = holes
    return masks


def named(prefix, masks):
    return {f"{prefix}.{kind}": mask for kind, mask in masks.items() if mask is not None}


def layer_options(batch_first, norm_first, gelu, bias):
    return dict(
        dim_feedforward=6,
        dropout=0.3,
        activation="gelu" if gelu else "relu",
        layer_norm_eps=1e-4,
        batch_first=batch_first,
        norm_first=norm_first,
        bias=bias,
    )


def arranged(tensor, batch_first):
    return tensor if batch_first else tensor.transpose(0, 1)


def flag_combinations():
    return itertools.product((False, True), repeat=len(FLAGS))


def label(flags):
    return "_".join(name if on else f"no_{name}" for name, on in zip(FLAGS, flags))


def write(name, tensors, metadata):
    path = ROOT / f"{name}.safetensors"
    save_file(
        {key: value.contiguous().clone() for key, value in tensors.items()},
        path,
        {key: json.dumps(value) for key, value in metadata.items()},
    )
    size = path.stat().st_size
    assert size < 200_000, f"{path} has {size} bytes"
    print(path.name, size)


def encoders():
    size, heads, batch, length = 8, 2, 2, 4
    generator = torch.Generator().manual_seed(1)
    source = fill(nn.TransformerEncoder(nn.TransformerEncoderLayer(size, heads, **layer_options(True, False, False, True)), 2, nn.LayerNorm(size)), generator)
    state = source.state_dict()
    src = torch.randn(batch, length, size, generator=generator)
    masks = attention_masks(generator, batch, heads, length, length) | causal_masks(length)
    paddings = padding_masks(generator, batch, length, gaps=True)
    shared = {"src": src, **{f"state.{k}": v for k, v in state.items()}, **named("mask", masks), **named("padding", paddings)}
    write("encoder_inputs", shared, {"masks": list(masks), "paddings": list(paddings)})
    for batch_first, norm_first in itertools.product((False, True), repeat=2):
        stacked = {}
        for flags in flag_combinations():
            if flags[:2] != (batch_first, norm_first):
                continue
            layer = nn.TransformerEncoderLayer(size, heads, **layer_options(*flags))
            norm = nn.LayerNorm(size, bias=flags[3])
            module = nn.TransformerEncoder(layer, 2, norm).eval()
            module.load_state_dict({k: state[k] for k in module.state_dict()})
            outputs, weights = [], []
            for mask, padding in itertools.product(masks.values(), paddings.values()):
                given = dict(mask=mask, src_key_padding_mask=padding)
                output, seen = reference(module, [arranged(src, batch_first)], given)
                outputs.append(arranged(output, batch_first))
                weights.append(torch.stack(seen))
            stacked[f"{label(flags)}.output"] = torch.stack(outputs)
            stacked[f"{label(flags)}.weights"] = torch.stack(weights)
        write(f"encoder_{label((batch_first, norm_first))}", stacked, {})


def decoders():
    size, heads, batch, length, memory_length = 4, 2, 2, 3, 4
    generator = torch.Generator().manual_seed(2)
    source = fill(nn.TransformerDecoder(nn.TransformerDecoderLayer(size, heads, **layer_options(True, False, False, True)), 1, nn.LayerNorm(size)), generator)
    state = source.state_dict()
    tgt = torch.randn(batch, length, size, generator=generator)
    memory = torch.randn(batch, memory_length, size, generator=generator)
    masks = attention_masks(generator, batch, heads, length, length) | causal_masks(length)
    masks = {kind: masks[kind] for kind in ("none", "bool", "float_per_head", "causal_bool", "causal_float")}
    memory_masks = attention_masks(generator, batch, heads, length, memory_length)
    memory_masks = {kind: memory_masks[kind] for kind in ("none", "bool_per_head", "float")}
    paddings = padding_masks(generator, batch, length)
    memory_paddings = padding_masks(generator, batch, memory_length)
    pairs = [("none", "none"), ("bool", "float"), ("shifting", "bool")]
    shared = {"tgt": tgt, "memory": memory, **{f"state.{k}": v for k, v in state.items()}}
    shared |= named("mask", masks) | named("memory_mask", memory_masks)
    shared |= named("padding", paddings) | named("memory_padding", memory_paddings)
    write("decoder_inputs", shared, {"masks": list(masks), "memory_masks": list(memory_masks), "paddings": pairs})
    for batch_first in (False, True):
        stacked = {}
        for flags in flag_combinations():
            if flags[0] != batch_first:
                continue
            layer = nn.TransformerDecoderLayer(size, heads, **layer_options(*flags))
            module = nn.TransformerDecoder(layer, 1, nn.LayerNorm(size, bias=flags[3])).eval()
            module.load_state_dict({k: state[k] for k in module.state_dict()})
            outputs, selves, crosses = [], [], []
            for mask, memory_mask, (padding, memory_padding) in itertools.product(masks.values(), memory_masks.values(), pairs):
                given = dict(
                    tgt_mask=mask,
                    memory_mask=memory_mask,
                    tgt_key_padding_mask=paddings[padding],
                    memory_key_padding_mask=memory_paddings[memory_padding],
                )
                inputs = [arranged(tgt, batch_first), arranged(memory, batch_first)]
                output, seen = reference(module, inputs, given)
                outputs.append(arranged(output, batch_first))
                selves.append(seen[0])
                crosses.append(seen[1])
            for what, values in (("output", outputs), ("self", selves), ("cross", crosses)):
                stacked[f"{label(flags)}.{what}"] = torch.stack(values)
        write(f"decoder_{label((batch_first,))}", stacked, {})


def attentions():
    size, heads, batch, length, keys = 4, 2, 2, 3, 4
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(batch, length, size, generator=generator)
    masks = attention_masks(generator, batch, heads, length, keys)
    paddings = padding_masks(generator, batch, keys)
    self_masks = attention_masks(generator, batch, heads, length, length) | causal_masks(length)
    self_paddings = padding_masks(generator, batch, length)
    shared = {"query": query, **named("mask", masks), **named("padding", paddings)}
    shared |= named("self_mask", self_masks) | named("self_padding", self_paddings)
    lists = {"masks": list(masks), "paddings": list(paddings), "self_masks": list(self_masks), "self_paddings": list(self_paddings)}
    stacked = {}
    for other_sizes in (False, True):
        kdim, vdim = (5, 6) if other_sizes else (size, size)
        key = torch.randn(batch, keys, kdim, generator=generator)
        value = torch.randn(batch, keys, vdim, generator=generator)
        source = fill(nn.MultiheadAttention(size, heads, add_bias_kv=True, kdim=kdim, vdim=vdim), generator)
        state = source.state_dict()
        kind = "other_sizes" if other_sizes else "same_sizes"
        shared |= {f"{kind}.key": key, f"{kind}.value": value}
        shared |= {f"{kind}.state.{k}": v for k, v in state.items()}
        for flags in itertools.product((False, True), repeat=4):
            bias, batch_first, bias_kv, zero = flags
            module = nn.MultiheadAttention(
                size, heads, bias=bias, batch_first=batch_first, add_bias_kv=bias_kv, add_zero_attn=zero, kdim=kdim, vdim=vdim
            ).eval()
            module.load_state_dict({k: state[k] for k in module.state_dict()})
            where = f"{kind}.{''.join(str(int(flag)) for flag in flags)}"

            def run(inputs, these_masks, these_paddings, what):
                outputs, weights = [], []
                for mask, padding in itertools.product(these_masks.values(), these_paddings.values()):
                    given = dict(attn_mask=mask, key_padding_mask=padding)
                    output, seen = reference(module, inputs, given)
                    outputs.append(arranged(output, batch_first))
                    weights.append(seen[0])
                stacked[f"{where}.{what}.output"] = torch.stack(outputs)
                stacked[f"{where}.{what}.weights"] = torch.stack(weights)

            run([arranged(t, batch_first) for t in (query, key, value)], masks, paddings, "cross")
            if not other_sizes:
                x = arranged(query, batch_first)
                run([x, x, x], self_masks, self_paddings, "self")
    write("attention_inputs", shared, lists)
    for kind in ("same_sizes", "other_sizes"):
        for what in ("cross", "self"):
            chosen = {k: v for k, v in stacked.items() if k.startswith(kind) and f".{what}." in k}
            if chosen:
                write(f"attention_{kind}_{what}", chosen, {})


@torch.no_grad()
def more():
    """What needs a module of its own: drawn values, dropout, inputs without a batch, whole transformers."""
    tensors = {}
    torch.manual_seed(7)
    made = {
        "encoder_layer": nn.TransformerEncoderLayer(4, 2, 6),
        "decoder_layer": nn.TransformerDecoderLayer(4, 2, 6),
        "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3, vdim=5),
        "transformer": nn.Transformer(4, 2, 1, 1, 6),
        "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2),
    }
    for kind, module in made.items():
        tensors |= {f"drawn.{kind}.{k}": v for k, v in module.state_dict().items()}

    generator = torch.Generator().manual_seed(8)
    src, tgt = torch.randn(2, 5, 8, generator=generator), torch.randn(2, 4, 8, generator=generator)
    options = dict(dim_feedforward=16, dropout=0.4, batch_first=True)
    transformer = fill(nn.Transformer(8, 2, 2, 2, **options), generator)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    tensors |= {"src": src, "tgt": tgt, "padding": padding, "causal": causal}
    tensors |= {f"transformer.{k}": v for k, v in transformer.state_dict().items()}
    given = dict(tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    output, seen = reference(transformer, [src, tgt], given)
    tensors["transformer_output"] = output
    tensors |= {f"transformer_weights.{i}": w for i, w in enumerate(seen)}
    output, seen = reference(transformer, [src[0], tgt[0]], dict(tgt_mask=causal))
    tensors["unbatched_output"] = output
    tensors |= {f"unbatched_weights.{i}": w for i, w in enumerate(seen)}
    transformer.train()
    torch.manual_seed(11)
    tensors["training_output"] = transformer(src, tgt, **given)
    tensors["training_output_next"] = transformer(src, tgt, **given)
    write("more", tensors, {})


def gradients():
    """Gradients through the weights that an attention returns, and through its output, and of a scalar by the weights."""
    generator = torch.Generator().manual_seed(21)
    tensors = {}

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    def keep(case, module, others):
        tensors.update({f"{case}.gradient.{name}": p.grad for name, p in module.named_parameters() if p.grad is not None})
        tensors.update({f"{case}.gradient_of.{name}": t.grad for name, t in others.items()})

    hidden = torch.rand(3, 4, generator=generator) < 0.4
    hidden[:, 0] = False
    cases = {
        "self": (dict(), {}),
        "causal": (dict(), dict(attn_mask=nn.Transformer.generate_square_subsequent_mask(3), is_causal=True)),
        "shifting": (dict(), dict(attn_mask=random(3, 3))),
        "cross": (
            dict(kdim=5, vdim=6, add_bias_kv=True, add_zero_attn=True),
            dict(attn_mask=hidden, key_padding_mask=torch.tensor([[False] * 4, [False] * 3 + [True]])),
        ),
    }
    for kind, (options, masks) in cases.items():
        source = fill(nn.MultiheadAttention(4, 2, batch_first=True, **options), generator)
        tensors |= {f"{kind}.state.{k}": v.detach().clone() for k, v in source.state_dict().items()}
        query = random(2, 3, 4)
        inputs = [query] if not options else [query, random(2, 4, 5), random(2, 4, 6)]
        tensors |= {f"{kind}.input.{i}": t for i, t in enumerate(inputs)}
        tensors |= {f"{kind}.{name}": t.clone() for name, t in masks.items() if isinstance(t, torch.Tensor)}
        keys = 6 if options else 3
        by_weights, by_mean, by_output = random(2, 2, 3, keys), random(2, 3, keys), random(2, 3, 4)
        tensors |= {f"{kind}.by_weights": by_weights, f"{kind}.by_mean": by_mean, f"{kind}.by_output": by_output}
        for average in (False, True):
            source.zero_grad()
            leaves = [t.clone().requires_grad_() for t in inputs]
            q, k, v = leaves * 3 if len(leaves) == 1 else leaves
            given = {n: t.clone() if isinstance(t, torch.Tensor) else t for n, t in masks.items()}
            others = {f"input.{i}": t for i, t in enumerate(leaves)}
            if kind == "shifting":
                others["attn_mask"] = given["attn_mask"].requires_grad_()
            output, weights = source(q, k, v, need_weights=True, average_attn_weights=average, **given)
            scalar = (weights * (by_mean if average else by_weights)).sum() + (output * by_output).sum()
            if not average:
                # What is returned is a view of what is multiplied with the values.
                of_weights = torch.autograd.grad(scalar, weights._base, retain_graph=True)[0]
                tensors[f"{kind}.gradient_of_weights"] = of_weights.view_as(weights)
                tensors[f"{kind}.weights"] = weights.detach()
            scalar.backward()
            keep(f"{kind}.{'mean' if average else 'heads'}", source, others)

    layer = fill(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), generator)
    tensors |= {f"layer.state.{k}": v.detach().clone() for k, v in layer.state_dict().items()}
    src = random(2, 3, 4)
    by_weights = random(2, 2, 3, 3)
    tensors |= {"layer.input.0": src.clone(), "layer.by_weights": by_weights}
    with recording() as seen:
        leaf = src.clone().requires_grad_()
        layer(leaf)
        (seen[0] * by_weights).sum().backward()
    keep("layer", layer, {"input.0": leaf})
    write("gradients", tensors, {"kinds": list(cases)})


@torch.no_grad()
def causal_flags():
    """What a flag that says "causal" does, with its mask and without one."""
    generator = torch.Generator().manual_seed(22)
    length, size = 4, 4
    x, memory = (torch.randn(2, length, size, generator=generator) for _ in range(2))
    causal = nn.Transformer.generate_square_subsequent_mask(length)
    options = dict(dim_feedforward=6, dropout=0.0, batch_first=True)
    encoder_layer = nn.TransformerEncoderLayer(size, 2, **options)
    decoder_layer = nn.TransformerDecoderLayer(size, 2, **options)
    modules = {
        "attention": (nn.MultiheadAttention(size, 2, batch_first=True), [x, x, x], [("attn_mask", "is_causal")]),
        "encoder_layer": (encoder_layer, [x], [("src_mask", "is_causal")]),
        "encoder": (nn.TransformerEncoder(encoder_layer, 2), [x], [("mask", "is_causal")]),
        "decoder_layer": (decoder_layer, [x, memory], [("tgt_mask", "tgt_is_causal"), ("memory_mask", "memory_is_causal")]),
        "decoder": (
            nn.TransformerDecoder(decoder_layer, 2),
            [x, memory],
            [("tgt_mask", "tgt_is_causal"), ("memory_mask", "memory_is_causal")],
        ),
        "transformer": (
            nn.Transformer(size, 2, 1, 1, **options),
            [x, memory],
            [(f"{which}_mask", f"{which}_is_causal") for which in ("src", "tgt", "memory")],
        ),
    }
    for bias_kv, zero in ((True, False), (False, True), (True, True)):
        module = nn.MultiheadAttention(size, 2, batch_first=True, add_bias_kv=bias_kv, add_zero_attn=zero)
        modules[f"attention_{'bias_kv' if bias_kv else ''}{'zero' if zero else ''}"] = (module, [x, x, x], [("attn_mask", "is_causal")])
    tensors, cases = {"x": x, "memory": memory, "causal": causal}, []
    for kind, (module, inputs, names) in modules.items():
        fill(module, generator)
        tensors |= {f"{kind}.state.{k}": v for k, v in module.state_dict().items()}
        for (mask, flag), training, grad in itertools.product(names, (False, True), (False, True)):
            module.train(training)
            with torch.set_grad_enabled(grad):
                given = module(*inputs, **{mask: causal, flag: True})
                tensors[f"{kind}.{flag}.{int(training)}{int(grad)}"] = (given[0] if isinstance(given, tuple) else given).detach()
                try:
                    module(*inputs, **{flag: True})
                    without = "ignored"
                except RuntimeError as error:
                    assert "Need attn_mask" in str(error)
                    without = "refused"
            cases.append([kind, mask, flag, training, grad, without])
    write("causal_flags", tensors, {"cases": cases})


def formula(name_index, shape):
    """Values for a parameter that both sides can compute: spread evenly, as large as drawn ones would be."""
    count = math.prod(shape)
    spread = (torch.arange(count, dtype=torch.int64) * 7919 + 104729 * (name_index + 1)) % 65521
    values = spread.to(torch.float64) / 65521 - 0.5
    scale = 2 * math.sqrt(3 / (shape[0] + shape[1])) if len(shape) == 2 else 0.1
    return (values * scale).to(torch.float32).reshape(shape)


@torch.no_grad()
def default_model():
    """The first TransformerModel that users make: d_model 2048, 8 heads, 512 hidden, 12 layers."""
    d_input, d_output, length, batch = 16, 4, 6, 2
    model = nn.ModuleDict(
        {
            "input_projection": nn.Linear(d_input, 2048),
            "transformer_encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(2048, 8, 512, 0.1), 12),
            "output_projection": nn.Linear(2048, d_output),
        }
    ).eval()
    for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
        is_scale = "norm" in name and name.endswith("weight")
        parameter.copy_(formula(index, parameter.shape) + (1 if is_scale else 0))
    src = formula(999, (length * batch, d_input)).reshape(length, batch, d_input) * 5
    tensors = {"src": src}
    for what, mask in (("plain", None), ("causal", nn.Transformer.generate_square_subsequent_mask(length))):
        encoded = model["transformer_encoder"](model["input_projection"](src), mask=mask)
        tensors[f"{what}.output"] = model["output_projection"](encoded)
        with recording() as seen:
            model["transformer_encoder"](model["input_projection"](src), mask=mask)
        tensors[f"{what}.weights"] = torch.stack(seen)
    write("default_model", tensors, {"dInput": d_input, "dOutput": d_output})


@torch.no_grad()
def checkpoints():
    """One encoder layer's parameters in every kind of file, alone and inside something larger."""
    generator = torch.Generator().manual_seed(5)
    layer = fill(nn.TransformerEncoderLayer(4, 2, 6), generator)
    state = layer.state_dict()
    write("state", dict(state), {})
    torch.save(state, ROOT / "state.pth")
    inside = {f"model.transformer.encoder.layers.0.{k}": v for k, v in state.items()} | {"model.head.weight": torch.ones(2, 4)}
    # Transposed and shared storages, and what training scripts keep beside the parameters.
    key = "model.transformer.encoder.layers.0.linear1.weight"
    inside[key] = inside[key].t().contiguous().t()
    optimizer = torch.optim.AdamW(layer.parameters()).state_dict()
    torch.save({"epoch": 3, "lr": 1e-3, "optimizer": optimizer, "path": Path("x"), "state_dict": inside}, ROOT / "training.pth")
    torch.save(layer.to(torch.float64).state_dict(), ROOT / "float64.pth")
    layer.to(torch.float32)
    torch.jit.script(nn.Sequential(layer)).save(str(ROOT / "script.pt"))
    strip_debug(ROOT / "script.pt")


class Shared(nn.Module):
    """One module under two names, with a buffer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.norm.register_buffer("scale", torch.ones(2))
        self.alias = self.norm

    def forward(self, x):
        return self.alias(self.norm(x))


@torch.no_grad()
def checkpoint_layouts():
    """The parameters of checkpoints() once more: in other dictionaries, in the format before PyTorch 1.6, of odd types."""
    generator = torch.Generator().manual_seed(5)
    state = fill(nn.TransformerEncoderLayer(4, 2, 6), generator).state_dict()
    other = {name: value + 1 for name, value in state.items()}
    save = lambda value, name, **how: torch.save(value, ROOT / f"{name}.pth", **how)
    save({"epoch": 3, "lr": torch.tensor(0.1), "state_dict": state, "ema": other}, "beside_tensor")
    save({"model": {"state_dict": state}, "step": torch.tensor(5)}, "nested_twice")
    save({"ema": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "unusual_key")
    save({"teacher": state, "student": other}, "several")

    legacy = dict(_use_new_zipfile_serialization=False)
    save(state, "legacy", **legacy)
    save({name: value.half() for name, value in state.items()}, "legacy_half", **legacy)
    # Transposed and shared storages, types that are skipped, parameters, and a dictionary inside another.
    inside = {f"encoder.{name}": nn.Parameter(value) for name, value in state.items()}
    inside["encoder.linear1.weight"] = nn.Parameter(state["linear1.weight"].t().contiguous().t())
    norms = torch.stack([state[f"norm{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")])
    inside |= {f"encoder.norm{i}.{kind}": norms[2 * i + j - 2] for i in (1, 2) for j, kind in enumerate(("weight", "bias"))}
    odd = {"other.c": torch.zeros(3, dtype=torch.complex128), "other.u": torch.zeros(5, dtype=torch.uint16)}
    save({"odd": torch.ones(1), "model": odd | inside}, "legacy_inside", **legacy)

    module = Shared()
    script = torch.jit.script(module)
    script.save(str(ROOT / "shared_script.pt"))
    strip_debug(ROOT / "shared_script.pt")
    save(script.state_dict(), "shared_script")
    save_file({name: value.clone() for name, value in script.state_dict().items()}, ROOT / "shared_script.safetensors")

    norm = {"norm.weight": torch.ones(4), "norm.bias": torch.zeros(4)}
    types = {"complex64": torch.complex64, "float8_e4m3fn": torch.float8_e4m3fn, "uint16": torch.uint16}
    outside = {f"other.{name}": torch.zeros(3).to(dtype) for name, dtype in types.items()}
    sparse = {"other.sparse": torch.eye(3).to_sparse()}
    save(norm | outside | sparse, "foreign")
    save(norm | {"norm.bias": torch.zeros(4, dtype=torch.complex64)}, "foreign_bias")
    del outside["other.complex64"]
    save_file(outside | norm, ROOT / "foreign.safetensors")
    save_file(norm | {"norm.bias": torch.zeros(4).to(torch.float8_e4m3fn)}, ROOT / "foreign_bias.safetensors")


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    encoders()
    decoders()
    attentions()
    more()
    gradients()
    causal_flags()
    checkpoints()
    checkpoint_layouts()
    default_model()
