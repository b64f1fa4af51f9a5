#!/usr/bin/env python3
"""Write test/fixtures/inplace/: small models that write in place, and what the eager originals compute.

    python3 scripts/make_inplace_fixtures.py [--out FOLDER]

manifest.json lists the models with the forms they were exported in. expected.safetensors holds for each the inputs (as they
are before the call), the output, the weights as they were when they multiplied the values, in execution order, and the
buffers after the call. Seeded, with torch 2.13.0.
"""

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import List, Tuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from strip_debug import strip_debug

warnings.filterwarnings('ignore')
ROOT = Path(__file__).resolve().parent.parent
BATCH, HEADS, LENGTH, SIZE = 2, 2, 5, 4

recorded: List[Tensor] = []


def record(weights: Tensor) -> None:
    recorded.append(weights.detach().clone())


def seen(weights: Tensor) -> None:
    """Notes weights at the moment of their product; only where the model runs eagerly."""
    if not torch.jit.is_scripting():
        if not torch.jit.is_tracing():
            record(weights)


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if not torch.jit.is_scripting():
        if not torch.jit.is_tracing():
            record(torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), -1))
    return F.scaled_dot_product_attention(q, k, v)


def weights_of(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1)


class QueryAfter(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        q.mul_(2)
        return o + q


class KeyThroughView(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        k.view(-1, q.size(3)).select(0, 1).add_(3)
        return o + k


class OutVariant(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        torch.add(v, k, out=q)
        return o + q


class ForeachList(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        torch._foreach_mul_([q, k], 3.0)
        return o + q + k


class Metadata(nn.Module):
    """What changes a tensor's sizes, strides or storage."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own = q + 0
        other = k + 0
        o = sdpa(own, other, v)
        own.transpose_(1, 2)
        own.zero_()
        other.set_(v)
        other.mul_(1)
        return o + own.transpose(1, 2)


class MaskAfter(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = torch.ones(q.size(2), q.size(2)).tril().log()
        seen(torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(3)) + mask, -1))
        o = F.scaled_dot_product_attention(q, k, v, mask)
        mask.fill_(0)
        return o + mask.sum()


class Indexed(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        q[:, :, 1:3] = 7.0
        k.masked_fill_(k > 0, 0.5)
        k.scatter_(2, torch.zeros(q.size(0), q.size(1), 1, q.size(3), dtype=torch.long), 9.0)
        return o + q + k


class Cache(nn.Module):
    """Keys and values of later layers go into the same memory."""

    def __init__(self):
        super().__init__()
        self.register_buffer('keys', torch.zeros(BATCH, HEADS, 2 * LENGTH, SIZE))
        self.register_buffer('values', torch.zeros(BATCH, HEADS, 2 * LENGTH, SIZE))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        x = q
        for layer in range(3):
            place = torch.arange(q.size(2)) + layer
            self.keys.index_copy_(2, place, k + layer)
            self.values.index_copy_(2, place, v - layer)
            x = sdpa(x, self.keys, self.values)
        return x


class WeightsAfter(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = weights_of(q, k)
        seen(a)
        o = a @ v
        a.mul_(2)
        return o + a.sum()


class WeightsBeforeAndAfter(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = weights_of(q, k)
        a.mul_(0.5)
        a.masked_fill_(torch.ones(q.size(2), q.size(2)).triu(1) > 0, 0.0)
        seen(a)
        o = torch.matmul(a, v)
        F.dropout(a, 1.0, True, True)
        return o + a.sum()


class SoftmaxInto(nn.Module):
    """One buffer for the weights of two attentions."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = torch.empty(q.size(0), q.size(1), q.size(2), q.size(2))
        torch.softmax(q @ k.transpose(-2, -1), -1, out=a)
        seen(a)
        o = a @ v
        torch.softmax(k @ q.transpose(-2, -1), -1, out=a)
        seen(a)
        return o + a @ v


class ProductInto(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = torch.empty(q.size(0) * q.size(1), q.size(2), q.size(3))
        a = weights_of(q, k)
        seen(a)
        torch.bmm(a.flatten(0, 1), v.flatten(0, 1), out=o)
        b = weights_of(k, q)
        seen(b)
        o.baddbmm_(b.flatten(0, 1), v.flatten(0, 1))
        c = weights_of(k, k)
        seen(c)
        m = torch.empty(q.size(0), q.size(1), q.size(2), q.size(3))
        torch.matmul(c, v, out=m)
        a.zero_()
        b.zero_()
        c.zero_()
        return o.view(q.size(0), q.size(1), q.size(2), q.size(3)) + m + a.sum()


class CopiedInto(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = torch.empty(q.size(0), q.size(1), q.size(2), q.size(2))
        a.copy_(weights_of(q, k))
        seen(a)
        o = a @ v
        a.zero_()
        return o + a.sum()


class LateHeads(nn.Module):
    """The heads show only when the query is overwritten already."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = q.flatten(0, 1)
        seen(torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(3)), -1))
        o = F.scaled_dot_product_attention(flat, k.flatten(0, 1), v.flatten(0, 1))
        flat.zero_()
        k.zero_()
        a = torch.softmax(v.flatten(0, 1) @ v.flatten(0, 1).transpose(1, 2), -1)
        seen(a.view(q.size(0), q.size(1), q.size(2), q.size(2)))
        p = torch.bmm(a, v.flatten(0, 1))
        a.zero_()
        return o.view(q.size(0), q.size(1), q.size(2), q.size(3)) + p.view(q.size(0), q.size(1), q.size(2), q.size(3)) + a.sum()


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('count', torch.zeros(1))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.count.add_(1)
        a = weights_of(q, k)
        seen(a)
        o = a @ v
        a.mul_(self.count + 1)
        return o * self.count + a.sum()


class KeepsItsWeights(nn.Module):
    """Writes into what it kept of its last forward."""

    last: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer('last', torch.zeros(BATCH, HEADS, LENGTH, LENGTH))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.last.fill_(5.0)
        a = weights_of(q, k)
        seen(a)
        self.last = a
        return a @ v


class ReturnsItsWeights(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tuple[Tensor, Tensor]:
        a = weights_of(q, k)
        seen(a)
        return a @ v, a


class State(nn.Module):
    """A mask that is a buffer, a query that is a parameter; both change."""

    def __init__(self):
        super().__init__()
        self.register_buffer('bias', torch.randn(LENGTH, LENGTH))
        self.latents = nn.Parameter(torch.randn(BATCH, HEADS, LENGTH, SIZE))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen(torch.softmax(self.latents @ k.transpose(-2, -1) / math.sqrt(q.size(3)) + self.bias, -1))
        o = F.scaled_dot_product_attention(self.latents, k, v, self.bias)
        self.bias.add_(1)
        self.latents.detach().mul_(2)
        return o + self.bias.sum() + q


class Loop(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = torch.zeros_like(v)
        for i in range(3):
            o.add_(sdpa(q, k, v))
            q.mul_(1.5)
            k.neg_()
            a = weights_of(q, k)
            seen(a)
            o.add_(a @ v)
            a.zero_()
        return o


def task(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    own = q * 1
    o = sdpa(own, k, v)
    own.zero_()
    return o + own


class Forked(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        future = torch.jit.fork(task, q, k, v)
        o = torch.jit.wait(future)
        k.zero_()
        return o + k


class Einsum(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = torch.softmax(torch.einsum('bhqd,bhkd->bhqk', q, k), -1)
        seen(a)
        o = torch.einsum('bhqk,bhkd->bhqd', a, v)
        a.zero_()
        return o + a.sum()


class Attends(nn.Module):
    """Weights that the fused kernel of nn.MultiheadAttention gives out."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(HEADS * SIZE, HEADS, batch_first=True)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        x = q.transpose(1, 2).reshape(q.size(0), q.size(2), q.size(1) * q.size(3))
        o, a = self.attention(x, x, x, need_weights=True, average_attn_weights=False)
        if a is not None:
            seen(a)
            a.zero_()
        x.mul_(2)
        return o + x


class OutputAfter(nn.Module):
    """Writes into what the kernel returned."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        o = sdpa(q, k, v)
        o.mul_(2)
        o += q
        return sdpa(o, k, v).exp_()


MODELS = [
    QueryAfter, KeyThroughView, OutVariant, ForeachList, Metadata, MaskAfter, Indexed, Cache, WeightsAfter,
    WeightsBeforeAndAfter, SoftmaxInto, ProductInto, CopiedInto, LateHeads, Counter, KeepsItsWeights, ReturnsItsWeights,
    State, Loop, Forked, Einsum, Attends, OutputAfter,
]
# What tracing can't follow: assignments to attributes, and constants that it bakes in.
SCRIPT_ONLY = {KeepsItsWeights, Forked}
# TorchScript drops a list operator that writes where nothing asks for the list.
TRACE_ONLY = {ForeachList}
# What freezing refuses or folds: attributes that a method assigns are kept by preserving them, which these don't need.
NOT_FROZEN = {KeepsItsWeights}


def name_of(model) -> str:
    return ''.join('_' + c.lower() if c.isupper() else c for c in model.__name__).lstrip('_')


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=ROOT / 'test/fixtures/inplace')
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    tensors, manifest = {}, []
    for model_class in MODELS:
        name = name_of(model_class)
        torch.manual_seed(0)
        model = model_class().eval()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        inputs = [torch.randn(BATCH, HEADS, LENGTH, SIZE) for _ in range(3)]

        def fresh():
            model.load_state_dict(state)
            return [value.clone() for value in inputs]

        with torch.no_grad():
            forms = {}
            if model_class not in TRACE_ONLY:
                forms['script'] = torch.jit.script(model)
            if model_class not in SCRIPT_ONLY:
                forms['trace'] = torch.jit.trace(model, tuple(fresh()), check_trace=False)
            fresh()
            if model_class not in NOT_FROZEN | TRACE_ONLY:
                forms['frozen'] = torch.jit.freeze(torch.jit.script(model))
            for form, exported in forms.items():
                fresh()
                path = out / f'{name}_{form}.pt'
                exported.save(str(path))
                strip_debug(path)
            recorded.clear()
            given = fresh()
            output = model(*given)
        outputs = list(output) if isinstance(output, tuple) else [output]
        for i, value in enumerate(inputs):
            tensors[f'{name}.input.{i}'] = value.clone()
        for i, value in enumerate(given):
            tensors[f'{name}.input_after.{i}'] = value.clone()
        for i, value in enumerate(outputs):
            tensors[f'{name}.output.{i}'] = value.clone().contiguous()
        for i, value in enumerate(recorded):
            tensors[f'{name}.weights.{i}'] = value.clone().contiguous()
        after = model.state_dict()
        for key, value in after.items():
            tensors[f'{name}.state.{key}'] = value.clone().contiguous()
        manifest.append({
            'name': name, 'forms': list(forms), 'outputs': len(outputs), 'attentions': len(recorded),
            'state': list(after),
        })
    save_file(tensors, str(out / 'expected.safetensors'))
    (out / 'manifest.json').write_text(json.dumps(manifest, indent=1) + '\n')


if __name__ == '__main__':
    main()
