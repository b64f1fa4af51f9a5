#!/usr/bin/env python3
"""Write test/fixtures/hooks/: small TorchScript files, and what Python's own hooks see in the eager originals.

    python3 scripts/make_hook_fixtures.py [--out FOLDER]

Every case of manifest.json lists the hooks that were registered, in order, and the events: which hook fired with which
values. Some hooks replace what they see (`scale`: the first tensor of the inputs, of the output, or all input gradients,
times a number). Values lie in a `.safetensors` file beside each model. gradients.json has the gradients of a scalar by the
attention weights, rollout and relevance. Seeded, with torch 2.13.0.
"""

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from strip_debug import strip_debug

warnings.filterwarnings('ignore')
ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEADS, BATCH, LENGTH = 16, 2, 2, 5


class Attention(nn.Module):
    """Self-attention, by an eager softmax or by the fused kernel; fewer key heads where `key_heads` says so."""

    def __init__(self, fused: bool, key_heads: int = HEADS, causal: bool = False):
        super().__init__()
        self.fused, self.key_heads, self.causal = fused, key_heads, causal
        self.size = WIDTH // HEADS
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, self.size * key_heads)
        self.value = nn.Linear(WIDTH, self.size * key_heads)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.size(0), x.size(1)
        q = self.query(x).view(b, t, -1, self.size).transpose(1, 2)
        k = self.key(x).view(b, t, -1, self.size).transpose(1, 2)
        v = self.value(x).view(b, t, -1, self.size).transpose(1, 2)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=self.key_heads != 2)
        else:
            mixed = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.size), -1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, t, -1))


class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(WIDTH, 2 * WIDTH)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.activation(self.wide(x)))


class Block(nn.Module):
    def __init__(self, fused: bool, key_heads: int = HEADS, causal: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention(fused, key_heads, causal)
        self.feed = Feed()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.feed(self.norm2(x))


class Hand(nn.Module):
    """A classifier: blocks in a ModuleList, pooled."""

    def __init__(self, fused: bool, key_heads: int = HEADS, causal: bool = False):
        super().__init__()
        self.blocks = nn.ModuleList([Block(fused, key_heads, causal) for _ in range(2)])
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Encoder(nn.Module):
    def __init__(self, nested: bool):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(x, None, padding))


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = nn.Transformer(WIDTH, HEADS, 1, 1, 32, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.transformer(source, target)


class Thrice(nn.Module):
    """One module called three times in a forward, once inside another module."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.wrap = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(x)
        x = self.shared(self.wrap(x)) + x
        return self.shared(x * 0.5)


class Looped(nn.Module):
    """A loop and a branch around module calls, which only scripting keeps."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(WIDTH, WIDTH)
        self.rest = nn.Linear(WIDTH, WIDTH)
        self.never = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, times: int) -> Tensor:
        for i in range(times):
            x = torch.tanh(self.step(x)) if i % 2 == 0 else self.rest(x)
        if times > 100:
            x = self.never(x)
        return x


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = self.first
        self.third = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Split(nn.Module):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x * 2.0, x.sum(-1, keepdim=True)


class Both(nn.Module):
    def forward(self, pair: Tuple[Tensor, Tensor]) -> Tensor:
        return pair[0] + pair[1]


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Named(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x.tanh(), x.sigmoid())


class Dictionary(nn.Module):
    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        return {'double': x * 2.0, 'half': x * 0.5}


class Listing(nn.Module):
    def forward(self, x: Tensor, scale: float = 2.0, twice: bool = False):
        return [x * scale, x] if twice else [x, x * scale]


class Containers(nn.Module):
    """Tuples, a named tuple, dictionaries and lists pass between modules; arguments have defaults."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.split, self.both, self.named = Split(), Both(), Named()
        self.dictionary, self.listing = Dictionary(), Listing()

    def forward(self, x: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        x = self.both(self.split(self.inner(x)))
        pair = self.named(x)
        x = pair.left * pair.right
        values = self.listing(x, 3.0)
        return values[0] + values[1], self.dictionary(x)


class TracedContainers(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.split = nn.Linear(WIDTH, WIDTH), Split()

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        a, b = self.split(self.inner(x))
        return a.tanh() + b, b


class Forked(nn.Module):
    """Modules called on another thread; each is waited for ahead of the next, so that the order is certain."""

    def __init__(self):
        super().__init__()
        self.feed, self.last = Feed(), nn.Linear(WIDTH, WIDTH)

    def aside(self, x: Tensor) -> Tensor:
        return self.feed(x) * 0.5

    def forward(self, x: Tensor) -> Tensor:
        direct = torch.jit.wait(torch.jit.fork(self.feed, x))
        aside = torch.jit.wait(torch.jit.fork(self.aside, direct))
        return self.last(aside + x)


class Recurrent(nn.Module):
    """Their forwards have overloads, which TorchScript calls by other names."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTM(WIDTH, WIDTH, batch_first=True), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.cell = nn.LSTMCell(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        y, _ = self.gru(y)
        return self.cell(y[:, 0])[0]


class Unused(nn.Module):
    """Outputs that have no part in the loss."""

    def __init__(self):
        super().__init__()
        self.inner, self.split, self.other = nn.Linear(WIDTH, WIDTH), Split(), Split()

    def forward(self, x: Tensor) -> Tensor:
        a, _ = self.split(self.inner(x))
        b, c = self.other(a)
        return b * c.detach()


def compiled_pre(self, inputs: Tuple[Tensor]) -> Tuple[Tensor]:
    return (inputs[0] * 2.0,)


def compiled_post(self, inputs: Tuple[Tensor], output: Tensor) -> Tensor:
    return output + 1.0


class Hooked(nn.Module):
    """Hooks of Python's own, which TorchScript compiles: ours are registered later."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = Feed(), nn.Linear(WIDTH, WIDTH)
        for module in (self.inner, self.last):
            module.register_forward_pre_hook(compiled_pre)
            module.register_forward_hook(compiled_post)
            module.register_forward_hook(compiled_post)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))


@torch.jit.interface
class Step(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.tanh(self.inner(x)))


class Interfaced(nn.Module):
    """Modules behind an interface: which class is called shows at run time only."""

    one: Step
    other: Step

    def __init__(self):
        super().__init__()
        self.one, self.other = Feed(), Twice()

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x)) + self.one(x)


@torch.jit.script
class Boxes:
    def __init__(self, tensors: Tensor, sizes: List[Tuple[int, int]]):
        self.tensors = tensors
        self.sizes = sizes


class MakeBoxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Boxes:
        return Boxes(self.inner(x), [(2, 3)])


class Several(nn.Module):
    def forward(self, boxes: Boxes, factor: complex) -> Tuple[Dict[str, List[Boxes]], Tensor]:
        return {'boxes': [boxes, Boxes(boxes.tensors * 2, boxes.sizes)]}, boxes.tensors


class UseBoxes(nn.Module):
    def forward(self, boxes: Optional[Boxes], more: List[Boxes]) -> Tensor:
        total = boxes.tensors if boxes is not None else torch.zeros(1)
        for each in more:
            total = total + each.tensors
        return total


class Objects(nn.Module):
    """What has no form in JavaScript passes between modules: objects of a TorchScript class, a complex number."""

    def __init__(self):
        super().__init__()
        self.make, self.several, self.use, self.head = MakeBoxes(), Several(), UseBoxes(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.make(x)
        several, _ = self.several(made, complex(1.0, 2.0))
        return self.head(self.use(made, several['boxes']))

    @torch.jit.export
    def give(self, x: Tensor) -> Tuple[Boxes, Tensor]:
        return self.make(x), x

    @torch.jit.export
    def take(self, boxes: Boxes) -> Tensor:
        return self.head(boxes.tensors)


def prepare(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.8)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def leaves(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else []


class Store:
    """Tensors by value: what was seen twice is kept once."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[tuple, str] = {}

    def ref(self, value):
        if isinstance(value, Tensor):
            value = value.detach()
            if value.is_nested:
                value = value.to_padded_tensor(0.0)
            value = value.clone().contiguous()
            key = (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
            if key not in self.names:
                self.names[key] = f't{len(self.names)}'
                self.tensors[self.names[key]] = value
            return {'$tensor': self.names[key]}
        if isinstance(value, dict):
            return {key: self.ref(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.ref(item) for item in value]
        return value


def scaled_first(value, factor: float):
    """The first tensor of a value times a factor."""
    if isinstance(value, Tensor):
        return value * factor
    if isinstance(value, dict):
        first = next(iter(value))
        return {**value, first: scaled_first(value[first], factor)}
    changed = [scaled_first(value[0], factor), *value[1:]]
    return type(value)(*changed) if hasattr(value, '_fields') else type(value)(changed)


def replay(model: nn.Module, hooks: list[dict], inputs: tuple, grad: bool, store: Store) -> dict:
    """Run the eager model under Python's hooks and write down what they see."""
    events: list = []
    handles = []
    for index, hook in enumerate(hooks):
        module, scale = model.get_submodule(hook['path']), hook.get('scale')
        if hook['kind'] == 'pre':
            def on_input(_module, values, index=index, scale=scale):
                events.append([index, store.ref(values)])
                return scaled_first(values, scale) if scale is not None else None
            handles.append(module.register_forward_pre_hook(on_input))
        elif hook['kind'] == 'forward':
            def on_output(_module, values, output, index=index, scale=scale):
                events.append([index, store.ref(values), store.ref(output)])
                return scaled_first(output, scale) if scale is not None else None
            handles.append(module.register_forward_hook(on_output))
        else:
            def on_gradients(_module, grad_input, grad_output, index=index, scale=scale):
                events.append([index, store.ref(grad_input), store.ref(grad_output)])
                return tuple(None if g is None else g * scale for g in grad_input) if scale is not None else None
            handles.append(module.register_full_backward_hook(on_gradients))
    result = {}
    with torch.set_grad_enabled(grad):
        output = model(*inputs)
        result['output'] = store.ref(output)
        if grad:
            weights = [torch.randn(leaf.shape) for leaf in leaves(output)]
            result['lossWeights'] = [store.ref(weight) for weight in weights]
            model.zero_grad()
            sum((leaf * weight).sum() for leaf, weight in zip(leaves(output), weights)).backward()
            result['gradients'] = {n: store.ref(p.grad) for n, p in model.named_parameters() if p.grad is not None}
            result['inputGradients'] = [store.ref(x.grad) if isinstance(x, Tensor) and x.grad is not None else None
                                        for x in inputs]
    for handle in handles:
        handle.remove()
    return {'events': events, **result}


class Fixtures:
    def __init__(self, folder: Path):
        self.folder, self.cases, self.stores = folder, [], {}

    def save(self, file: str, model: nn.Module, inputs: tuple, how: str) -> None:
        script = torch.jit.script(model) if how == 'script' else torch.jit.trace(model, inputs, check_trace=False)
        torch.jit.save(script, str(self.folder / file))
        strip_debug(self.folder / file)

    def model(self, name: str, model: nn.Module, inputs: tuple, replaced: list[list[dict]], hows=('script', 'trace'),
              **more) -> None:
        """`replaced`: lists of hooks that change values, each a case of its own, beside those that only watch."""
        prepare(model)
        for how in hows:
            self.save(f'{name}_{how}.pt', model, inputs, how)
        paths = [path for path, module in model.named_modules() if not isinstance(module, nn.ModuleList)]
        watching = [{'kind': kind, 'path': path} for path in paths for kind in ('pre', 'forward')]
        backward = [{'kind': 'backward', 'path': path} for path in paths]
        cases = [('watch', watching, False, False), ('gradients', watching + backward, True, False),
                 ('input gradients', backward, True, True)]
        cases += [(f'replace {i}', hooks + watching + backward, True, True) for i, hooks in enumerate(replaced)]
        # Only a few under a fused path: what is hooked takes the normal one.
        cases += [(f'only {path}', [{'kind': 'pre', 'path': path}, {'kind': 'forward', 'path': path}], False, False)
                  for path in more.get('single', [])]
        store = self.stores.setdefault(name, Store())
        for title, hooks, grad, input_grad in cases:
            given = tuple(x.clone().requires_grad_(input_grad and x.is_floating_point()) if isinstance(x, Tensor) else x
                          for x in inputs)
            case = {'name': f'{name}: {title}', 'files': [f'{name}_{how}.pt' for how in hows], 'data': f'{name}.safetensors',
                    'inputs': store.ref(inputs), 'grad': grad, 'inputGrad': input_grad, 'hooks': hooks,
                    'padded': more.get('padded', [])}
            self.cases.append({**case, **replay(model, hooks, given, grad, store)})

    def write(self) -> None:
        for name, store in self.stores.items():
            save_file(store.tensors, str(self.folder / f'{name}.safetensors'))
        for name in self.stores:
            cases = [case for case in self.cases if case['data'] == f'{name}.safetensors']
            (self.folder / f'{name}.json').write_text(json.dumps(cases, separators=(',', ':')) + '\n')


def hook_cases(fixtures: Fixtures) -> None:
    x = torch.randn(BATCH, LENGTH, WIDTH)
    hand = [
        [{'kind': 'forward', 'path': 'blocks.0.attention', 'scale': 0.0}],
        [{'kind': 'pre', 'path': 'blocks.1.feed', 'scale': 2.0}, {'kind': 'forward', 'path': 'blocks.0', 'scale': -1.0},
         {'kind': 'backward', 'path': 'blocks.1.attention.value', 'scale': 3.0},
         {'kind': 'forward', 'path': 'blocks.0', 'scale': 0.5}, {'kind': 'backward', 'path': 'blocks.1', 'scale': 0.25}],
    ]
    root = [{'kind': 'pre', 'path': '', 'scale': 0.5}, {'kind': 'forward', 'path': '', 'scale': 2.0},
            {'kind': 'backward', 'path': '', 'scale': 2.0}]
    fixtures.model('hand_eager', Hand(False), (x,), hand[:1])
    fixtures.model('hand_sdpa', Hand(True), (x,), hand[1:])
    padding = torch.arange(LENGTH)[None] >= torch.tensor([LENGTH, 3])[:, None]
    single = ['', 'encoder', 'encoder.layers.0', 'encoder.layers.1.self_attn', 'encoder.layers.1.linear1', 'head']
    change = [[{'kind': 'forward', 'path': 'encoder.layers.0.linear2', 'scale': 0.5},
               {'kind': 'backward', 'path': 'encoder.layers.1', 'scale': 2.0}]]
    fixtures.model('encoder', Encoder(False), (x, padding), change, single=single)
    fixtures.model('encoder_nested', Encoder(True), (x, padding), [], hows=('script',), single=single, padded=[LENGTH, 3])
    fixtures.model('seq2seq', Seq2Seq(), (x, torch.randn(BATCH, 3, WIDTH)),
                   [[{'kind': 'forward', 'path': 'transformer.encoder', 'scale': 0.5},
                     {'kind': 'backward', 'path': 'transformer.decoder.layers.0', 'scale': 2.0}]],
                   hows=('script',), single=['transformer.decoder.layers.0.linear1', 'transformer.encoder.norm'])
    fixtures.model('thrice', Thrice(), (x,), [[{'kind': 'forward', 'path': 'shared', 'scale': 0.5},
                                                {'kind': 'backward', 'path': 'shared', 'scale': 2.0}], root])
    fixtures.model('looped', Looped(), (x, 4), [[{'kind': 'pre', 'path': 'rest', 'scale': 0.5}]], hows=('script',))
    fixtures.model('two_names', TwoNames(), (x,), [[{'kind': 'forward', 'path': 'second', 'scale': 0.5}]])
    fixtures.model('containers', Containers(), (x,),
                   [[{'kind': 'forward', 'path': path, 'scale': 0.5}] for path in ('split', 'named', 'dictionary', 'listing', '')]
                   + [[{'kind': 'pre', 'path': 'both', 'scale': 0.5}], [{'kind': 'backward', 'path': 'split', 'scale': 0.5}]],
                   hows=('script',))
    fixtures.model('traced_containers', TracedContainers(), (x,), [[{'kind': 'forward', 'path': 'split', 'scale': 0.5}]],
                   hows=('trace',))
    fixtures.model('forked', Forked(), (x,), [[{'kind': 'forward', 'path': 'feed.wide', 'scale': 0.5},
                                                {'kind': 'backward', 'path': 'feed', 'scale': 2.0}]], hows=('script',))
    fixtures.model('interfaced', Interfaced(), (x,), [[{'kind': 'forward', 'path': 'other.inner', 'scale': 0.5},
                                                        {'kind': 'pre', 'path': 'one', 'scale': 2.0}]], hows=('script',))
    fixtures.model('recurrent', Recurrent(), (x,), [[{'kind': 'pre', 'path': 'lstm', 'scale': 0.5},
                                                     {'kind': 'backward', 'path': 'cell', 'scale': 2.0}]])
    fixtures.model('hooked', Hooked(), (x,), [[{'kind': 'forward', 'path': 'inner', 'scale': 0.5},
                                               {'kind': 'pre', 'path': 'last', 'scale': 2.0}]], hows=('script',))
    # Script only: tracing makes an order of its own of outputs that are a tuple.
    fixtures.model('unused', Unused(), (x,), [[{'kind': 'backward', 'path': 'split', 'scale': 0.5}]], hows=('script',))


# --- gradients by attention, rollout, relevance ---


def eager_attention(q, k, v, mask=None, causal=False):
    """(weights, output) step by step; the weights are kept for their gradient."""
    if k.size(1) != q.size(1):
        repeat = q.size(1) // k.size(1)
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if causal:
        scores = scores.masked_fill(torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(1), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    weights = scores.softmax(-1)
    return weights, weights @ v


def heads_apart(x: Tensor) -> Tensor:
    return x.view(x.size(0), x.size(1), -1, WIDTH // HEADS).transpose(1, 2)


def heads_together(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.size(0), x.size(2), -1)


def eager_hand(model: Hand, x: Tensor):
    kept = []
    for block in model.blocks:
        a, h = block.attention, block.norm1(x)
        weights, mixed = eager_attention(*(heads_apart(p(h)) for p in (a.query, a.key, a.value)), causal=a.causal)
        kept.append(weights)
        x = x + a.out(heads_together(mixed))
        x = x + block.feed(block.norm2(x))
    return model.head(x.mean(1)), kept


def eager_encoder(model: Encoder, x: Tensor, padding: Tensor):
    kept = []
    for layer in model.encoder.layers:
        m = layer.self_attn
        q, k, v = map(heads_apart, F.linear(x, m.in_proj_weight, m.in_proj_bias).chunk(3, -1))
        weights, mixed = eager_attention(q, k, v, mask=padding[:, None, None, :])
        kept.append(weights)
        x = layer.norm1(x + m.out_proj(heads_together(mixed)))
        x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
    return model.head(x), kept


def rollout(weights: list[np.ndarray], fusion: str) -> np.ndarray:
    """Abnar & Zuidema 2020, equation 1: A' = ½ A + ½ I, rows normalised; R = A'_L · … · A'_1."""
    fuse = {'mean': np.mean, 'max': np.max, 'min': np.min}[fusion]
    result = None
    for layer in weights:
        a = 0.5 * fuse(layer, axis=1) + 0.5 * np.eye(layer.shape[-1])
        a = a / a.sum(-1, keepdims=True)
        result = a if result is None else a @ result
    return result


def relevance(weights: list[np.ndarray], gradients: list[np.ndarray]) -> np.ndarray:
    """Chefer et al. 2021, equations 5 and 6: Ā = E_h((∇A ⊙ A)⁺), R ← R + Ā · R from R = I."""
    result = np.broadcast_to(np.eye(weights[0].shape[-1]), (weights[0].shape[0],) + weights[0].shape[-2:]).copy()
    for a, g in zip(weights, gradients):
        result = result + np.maximum(a * g, 0).mean(1) @ result
    return result


def gradient_cases(folder: Path) -> None:
    x = torch.randn(BATCH, LENGTH, WIDTH)
    padding = torch.arange(LENGTH)[None] >= torch.tensor([LENGTH, 3])[:, None]
    store, cases = Store(), []
    for name, model, eager, inputs, hows in [
        ('grad_sdpa', Hand(True), eager_hand, (x,), ('script', 'trace')),
        ('grad_eager', Hand(False), eager_hand, (x,), ('script', 'trace')),
        ('grad_gqa', Hand(True, key_heads=1), eager_hand, (x,), ('script', 'trace')),
        ('grad_causal', Hand(True, causal=True), eager_hand, (x,), ('script', 'trace')),
        ('grad_encoder', Encoder(False), eager_encoder, (x, padding), ('script', 'trace')),
        ('grad_nested', Encoder(True), eager_encoder, (x, padding), ('script',)),
    ]:
        prepare(model)
        files = []
        for how in hows:
            script = torch.jit.script(model) if how == 'script' else torch.jit.trace(model, inputs, check_trace=False)
            for frozen in (False, True):
                file = f'{name}_{how}{"_frozen" if frozen else ""}.pt'
                torch.jit.save(torch.jit.freeze(script) if frozen else script, str(folder / file))
                strip_debug(folder / file)
                files.append(file)
        output, kept = eager(model, *inputs)
        with torch.no_grad():
            assert (output - model(*inputs))[~padding if output.dim() == 3 else ...].abs().max() < 1e-5, name
        # The scalar: one logit of the first element, at the first position where there are several.
        scalar = output[0, 0, 1] if output.dim() == 3 else output[0, 1]
        gradients = torch.autograd.grad(scalar, kept)
        a, g = [w.detach().double().numpy() for w in kept], [w.double().numpy() for w in gradients]
        cases.append({
            'name': name, 'files': files, 'inputs': store.ref(inputs), 'weights': store.ref(kept),
            'gradients': store.ref(list(gradients)),
            'rollout': {f: store.ref(torch.from_numpy(rollout(a, f)).float()) for f in ('mean', 'max', 'min')},
            'relevance': store.ref(torch.from_numpy(relevance(a, g)).float()),
        })
    save_file(store.tensors, str(folder / 'gradients.safetensors'))
    (folder / 'gradients.json').write_text(json.dumps(cases, separators=(',', ':')) + '\n')


def object_model(folder: Path) -> None:
    path = folder / 'objects_script.pt'
    torch.jit.script(prepare(Objects())).save(str(path))
    strip_debug(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'test' / 'fixtures' / 'hooks')
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    fixtures = Fixtures(folder)
    hook_cases(fixtures)
    fixtures.write()
    torch.manual_seed(1)
    gradient_cases(folder)
    torch.manual_seed(2)
    object_model(folder)


if __name__ == '__main__':
    main()
