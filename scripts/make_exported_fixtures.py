#!/usr/bin/env python3
"""Write test/fixtures/exported/: programs of torch.export, what Python computes with them, and their attentions.

    python3 scripts/make_exported_fixtures.py [--out FOLDER] [--only WORD]

Every case of exported.json is a program with `runs`: inputs by position and by name, and the output of Python's
`torch.export.load(file).module()` for them (`{"$tensor": name}` is a tensor of <case>.safetensors), with what its buffers hold afterwards
where it changes some, and what TorchScript of the same model gives (`script`) where there is a trace of it. `gradients` are those of the sum of all squares by the
parameters. `attentions` are those of an eager run of the model that was exported, for the first run. Hugging Face models have
random weights. Seeded, with torch 2.13.0 and transformers 5.23.
"""

import argparse
import dataclasses
import json
import os
import warnings
from collections import namedtuple
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._higher_order_ops import effects, map as mapping, scan, while_loop
from torch._higher_order_ops.hints_wrap import hints_wrapper
from torch.export import Dim
from torch.nn import functional as F

import product_models
from reference import as_heads, record
from strip_debug import strip_debug, strip_program

warnings.filterwarnings('ignore')
os.environ['TOKENIZERS_PARALLELISM'] = 'false'
ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEADS, BATCH, LENGTH, VOCABULARY = 16, 2, 2, 5, 24

Pair = namedtuple('Pair', ['left', 'right'])


@dataclasses.dataclass
class Result:
    hidden: Tensor
    extra: list
    absent: Any = None


torch.utils._pytree._register_namedtuple(Pair, serialized_type_name='fixtures.Pair')
torch.export.register_dataclass(Result, serialized_type_name='fixtures.Result')


class Structures(nn.Module):
    """Takes and gives dictionaries, tuples, named tuples and dataclasses, None and numbers among them."""

    def forward(self, table, pair, *, scale: float, flag: bool, nothing=None):
        total = table['a'] * scale + table['b'][0]
        if flag:
            total = total - pair[1]
        return {'sum': total, 'pair': Pair(total + 1, pair[0]), 'result': Result(total * 2, [total, (scale, None)]), 'none': nothing}


class Symbols(nn.Module):
    """Gives sizes back, computes with them, and takes sizes that are terms of others."""

    def forward(self, x, doubled):
        length = x.shape[1]
        merged = torch.cat([x, doubled[:, ::2]], 1)
        return merged.mean(1), length, length * 2 + x.shape[0], length // 2, merged.reshape(merged.shape[0], -1)


class Branches(nn.Module):
    """A condition, and a loop with a condition."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        chosen = torch.cond(x.sum() > 0, lambda y: self.linear(y).relu(), lambda y: y * 2, (x,))

        def halve(step, value):
            return step + 1, value / 2

        steps, small = torch._higher_order_ops.while_loop(
            lambda step, value: value.abs().max() > 0.5, halve, (torch.tensor(0), chosen)
        )
        return chosen, steps, small


class ProjectedAttention(nn.Module):
    """Attention whose queries, keys and values one layer makes."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3 * HEADS, -1)).transpose(1, 2).chunk(3, 1)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class NamedBranches(nn.Module):
    """Branches with attention by a layer for all, by weights of the module's own, and by one layer each."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([ProjectedAttention(), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), Attending()])

    def forward(self, x):
        def attended(y):
            y = y + self.blocks[0](y)
            y = y + self.blocks[1](y, y, y, need_weights=False)[0]
            return self.blocks[2](y)

        return torch.cond(x.sum() > 0, attended, lambda y: y * 2, (x,))


class Attending(nn.Module):
    """A layer whose attention is its own."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, mask=None):
        query, key, value = (each(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


class Loops(nn.Module):
    """Loops over rows and until something holds, with sizes and numbers among what they take, and one of no round whose result is written to."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(2 * WIDTH, WIDTH)
        self.attending = Attending()

    def forward(self, x, rounds):
        length = x.shape[1]

        def step(state, row):
            state = {'hidden': self.cell(torch.cat([state['hidden'], row], -1)).tanh(), 'sum': state['sum'] + row}
            return state, {'twice': state['hidden'] * 2, 'row': row - 1}

        rows = x.transpose(0, 1).contiguous()
        state, made = scan(step, {'hidden': torch.zeros_like(rows[0]), 'sum': rows[0]}, rows, dim=0)
        mapped = mapping(lambda row, y: {'plus': row + y.sum() * length, 'mean': row.mean()}, rows, x)
        seen = while_loop(lambda i, y: (i < rounds).all(), lambda i, y: (i + 1, y + self.attending(y)), (torch.zeros((), dtype=torch.int64), x))
        never = while_loop(lambda y: y.sum() > 1e9, lambda y: (y * 2,), (x,))[0]
        never.add_(1)
        return state, made, mapped, seen, never, x


class Combined(nn.Module):
    """Every row combined with all before it, and what each round of a loop gave."""

    def forward(self, x, y):
        both = torch.ops.higher_order.associative_scan(lambda a, b, c, d: (a * c, b * c + d), (x, y), ())
        rounds = torch.ops.higher_order.while_loop_stack_output(lambda i, z: i < 3, lambda i, z: (i + 1, z * 1.5), (torch.tensor(0), x), ())
        return both, rounds


class Sized(nn.Module):
    """A condition whose branches take a tensor and a size."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda y, n: y * n, lambda y, n: y + n, (x, x.shape[0]))


class Regions(nn.Module):
    """One region of layers of their own, which the exporter writes once."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Attending() for _ in range(4))

    @torch.compiler.nested_compile_region
    def block(self, layer, x):
        return layer(x) + x

    def forward(self, x):
        for layer in self.layers:
            x = self.block(layer, x)
        return x


class Vmapped(nn.Module):
    """A mask that is a function of positions."""

    def __init__(self):
        super().__init__()
        self.attending = Attending()

    def forward(self, x):
        near = torch.vmap(torch.vmap(lambda i, j: (j <= i) & (i - j < 3), in_dims=(None, 0)), in_dims=(0, None))
        return self.attending(x, near(torch.arange(x.shape[1]), torch.arange(x.shape[1])))


class OtherAutocast(nn.Module):
    """Autocast to a type that Python doesn't cast to on CPUs, and to one that it does; says something on the way."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16)

    def forward(self, x):
        with torch.autocast('cpu', dtype=torch.float32):
            y = self.linear(x)
        torch._higher_order_ops.print('sum {}', y.sum())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return y, torch.mm(y.float(), y.float().t())


class SharedMask(nn.Module):
    """Layers that take one mask of booleans, one of them in another type."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Attending() for _ in range(3))

    def forward(self, x, kept):
        mask = kept[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        x = x + self.layers[0](x, mask)
        x = x + self.layers[1](x, mask)
        half = x.to(torch.bfloat16)[:, None]
        half = F.scaled_dot_product_attention(half, half, half, attn_mask=mask)[:, 0]
        kept.logical_not_().logical_not_()
        return x + self.layers[2](x + half, mask)


class Hints(nn.Module):
    """A block with hints to compilers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return hints_wrapper(lambda y: self.linear(y).relu() + x, (x,), {}, hints={'block': True}) * 2


class Counter(nn.Module):
    """Writes into buffers and into an input."""

    def __init__(self):
        super().__init__()
        self.register_buffer('calls', torch.zeros((), dtype=torch.int64))
        self.register_buffer('mean', torch.zeros(WIDTH))
        self.register_buffer('scale', torch.full((WIDTH,), 2.0), persistent=False)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        self.calls += 1
        self.mean.mul_(0.5).add_(x.mean(0), alpha=0.5)
        x.mul_(self.scale)
        return self.norm(x) + self.mean


class HandWritten(nn.Module):
    """Attention out of products and a softmax, with numbers where tensors are wanted, and a list of indices with None."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        heads = [each(x).view(x.size(0), x.size(1), HEADS, -1).transpose(1, 2) for each in (self.query, self.key, self.value)]
        scores = heads[0] @ heads[1].transpose(-2, -1) / 2.5
        weights = torch.softmax(torch.where(scores > 1e4, 0, scores), -1)
        mixed = (weights @ heads[2]).transpose(1, 2).flatten(2)
        return mixed[:, torch.tensor([0, -1])] * torch.tensor(0.5) + torch.maximum(mixed.amax(1, keepdim=True), torch.tensor(0.1))


class WithCast(nn.Module):
    """A program in one type that casts to it, and makes tensors of it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        mask = torch.zeros(x.size(1), x.size(1), dtype=torch.float32).masked_fill(torch.ones(x.size(1), x.size(1)).triu(1) > 0, -1e4)
        return self.attention(x.to(torch.float32), x, x, attn_mask=mask, need_weights=False)[0]


class WithCache(nn.Module):
    """A decoder that takes and gives its cache as the library's own class."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids, cache):
        output = self.model(ids, past_key_values=cache, use_cache=True)
        return {'logits': output.logits, 'cache': output.past_key_values}


class WithTuples(nn.Module):
    """The same with pairs of keys and values."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids, past):
        from transformers import DynamicCache

        output = self.model(ids, past_key_values=DynamicCache(past), use_cache=True)
        return output.logits, tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)


torch.library.define('lta_test::scaled', '(Tensor x, float by) -> Tensor')


@torch.library.impl('lta_test::scaled', 'CompositeImplicitAutograd')
def scaled(x, by):
    """What test/native/operators.cc has in C++."""
    return x * by + 1


torch.library.define('lta_test::accumulate', '(Tensor(a!) sum, Tensor(b!)[] rest, Tensor x) -> Tensor')
torch.library.define('lta_test::invert', '(Tensor(a!) x) -> ()')


@torch.library.impl('lta_test::accumulate', 'CPU')
def accumulate(sum, rest, x):
    sum.add_(x[: sum.shape[0]])
    for each in rest:
        each.mul_(2)
    return x.mean(0)


@torch.library.register_fake('lta_test::accumulate')
def _(sum, rest, x):
    return x.new_empty(x.shape[1:])


@torch.library.impl('lta_test::invert', 'CPU')
def invert(x):
    x.neg_()


@torch.library.register_fake('lta_test::invert')
def _(x):
    pass


class Writing(nn.Module):
    """Operators of a library that write to slices, other views and wholes of tensors, and to an input."""

    def __init__(self):
        super().__init__()
        self.register_buffer('count', torch.arange(float(WIDTH)))

    def forward(self, x, total):
        table = x * 2
        other = x.sin()
        mean = torch.ops.lta_test.accumulate(table[1:3], [other.t()[::2], table[3:]], x)
        torch.ops.lta_test.invert(total)
        torch.ops.lta_test.invert(self.count)
        return {'mean': mean, 'table': table, 'other': other + self.count, 'total': total + 1}


class WideProduct(nn.Module):
    """Products of integers in a wider type."""

    def forward(self, x, y, image, kernel):
        out_dtype = torch.ops.higher_order.out_dtype
        maps = out_dtype(torch.ops.aten.convolution.default, torch.int32, image, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        return out_dtype(torch.ops.aten.mm.default, torch.int32, x, y), maps


class Effects(nn.Module):
    """Operators that decompositions keep in order, by a token: checks of linear algebra, `print`, and what is said to have effects."""

    CALLED_SO = ('aten::sin', 'aten::topk', 'aten::_foreach_add.Scalar')  # they give a tensor, two, and a list

    def forward(self, x):
        eye = torch.eye(x.shape[-1])
        square = x @ x.transpose(-1, -2) + eye
        torch._higher_order_ops.print('{}', 3)
        values, indices = square.sin().topk(2)
        a, b = torch._foreach_add([values, square], 0.5)
        return {'inverse': torch.linalg.inv(square), 'solution': torch.linalg.solve(b, x), 'a': a, 'indices': indices}


@dataclasses.dataclass
class Scored:
    """An output of which a part may be left out."""

    scores: Tensor
    loss: Tensor | None = None
    hidden: Tensor | None = None


torch.export.register_dataclass(Scored, serialized_type_name='fixtures.Scored')


class Scoring(nn.Module):
    def forward(self, given):
        return Scored(scores=given.scores * 2, hidden=given.scores + 1)


class Custom(nn.Module):
    """Uses an operator of a library of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return torch.ops.lta_test.scaled(self.linear(x), 0.5)


class Constants(nn.Module):
    """Makes what depends on no input in every way: by writes in place, before and behind their readers, and of weights that are written to."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.register_buffer('table', torch.randn(4, WIDTH))
        self.register_buffer('calls', torch.zeros(1))
        self.register_buffer('step', torch.ones(1))

    def forward(self, x):
        mask = torch.zeros(WIDTH, WIDTH)
        mask.masked_fill_(torch.ones(WIDTH, WIDTH).triu(1).bool(), -1)
        mask[0, 2:5] = 3.0
        x = x @ (self.weight.t() * mask)
        growing = self.weight[0].clone()
        early = x + growing
        growing += 1
        growing.narrow(0, 2, 3).mul_(4)
        late = x * growing
        taking = torch.arange(WIDTH, dtype=torch.float32)
        taking += x.mean(0)
        through = F.dropout(self.table, 0.5, False)
        before = through.sum(0)
        through += self.step
        left, right = torch.stack([self.step, self.step * 2]).chunk(2)
        shown = torch.zeros(3)
        shown.sub_(2)
        self.calls.add_(1)
        scaled = self.calls * 2 + left[0] - right[0]
        return early, late, taking, before, through.sum(0), scaled, self.weight.mean(), shown


class ThreeKinds(nn.Module):
    """Self-attention of a module, cross-attention written out, and a causal one by the fused operator."""

    def __init__(self):
        super().__init__()
        self.own = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.query, self.memory = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.causal = nn.Linear(WIDTH, 3 * WIDTH)

    def heads(self, x):
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def forward(self, x, memory):
        x = x + self.own(x, x, x, need_weights=False)[0]
        key, value = map(self.heads, self.memory(memory).chunk(2, -1))
        scores = self.heads(self.query(x)) @ key.transpose(-2, -1) / 8**0.5
        x = x + (F.dropout(scores.softmax(-1), 0.1, self.training) @ value).transpose(1, 2).flatten(2)
        query, key, value = map(self.heads, self.causal(x).chunk(3, -1))
        return x + F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)


def described(value: Any, name: str, tensors: dict) -> Any:
    """A value as JSON, in the form that JavaScript has it."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().clone().contiguous()
        return {'$tensor': name}
    if dataclasses.is_dataclass(value) and not isinstance(value, dict):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif type(value).__name__ == 'DynamicCache':
        value = {'key_cache': [layer.keys for layer in value.layers], 'value_cache': [layer.values for layer in value.layers]}
    if isinstance(value, dict):
        return {str(key): described(item, f'{name}.{key}', tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(item, f'{name}.{i}', tensors) for i, item in enumerate(value)]
    assert value is None or isinstance(value, (bool, int, float, str)), type(value)
    return value


def copied(value: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, value)


class Fixtures:
    def __init__(self, folder: Path, only: str):
        self.folder, self.only, self.cases = folder, only, []

    def case(self, name, model, runs, *, dynamic=None, strict=False, decompose=False, attentions=False, no_grad=False, gradients=False,
             trace=False, tolerance=1e-5):
        """`runs`: (args, kwargs) each; the first is what the model is exported with. `trace` writes TorchScript of it beside the program."""
        if self.only not in name:
            return
        torch.manual_seed(0)
        model = model.eval()
        args, kwargs = runs[0]
        weights = []
        if attentions:
            weights = record(model, lambda: model(*copied(args), **copied(kwargs)))[0]
            weights = [each for each in weights if not each.name.endswith('.mlp.gate')]  # which picks experts
        with torch.set_grad_enabled(not no_grad):
            program = torch.export.export(model, copied(args), copied(kwargs), dynamic_shapes=dynamic, strict=strict)
        if decompose:
            program = program.run_decompositions()
        if trace:
            script = self.folder / f'{name}.pt'
            with torch.no_grad():
                torch.jit.save(torch.jit.trace(model, copied(args)), script)
            strip_debug(script)
        path = self.folder / f'{name}.pt2'
        torch.export.save(program, path)
        tensors, made = {}, []
        for i, (args, kwargs) in enumerate(runs):
            loaded = torch.export.load(path)
            given = {
                'inputs': [described(each, f'run{i}.in.{k}', tensors) for k, each in enumerate(args)],
                'kwargs': {key: described(each, f'run{i}.in.{key}', tensors) for key, each in kwargs.items()},
            }
            args, kwargs = copied(args), copied(kwargs)
            module = loaded.module()
            with torch.no_grad():
                output = module(*args, **kwargs)
            run = {**given, 'output': described(output, f'run{i}.out', tensors)}
            if trace:
                with torch.no_grad():
                    run['script'] = described(torch.jit.load(script)(*copied(args)), f'run{i}.script', tensors)
            changed = {key: buffer for key, buffer in module.state_dict().items() if key in dict(module.named_buffers())}
            if changed:
                run['buffers'] = described(changed, f'run{i}.buffers', tensors)
            if gradients and i == 0:
                module = torch.export.load(path).module()
                leaves = torch.utils._pytree.tree_leaves(module(*copied(program.example_inputs[0]), **copied(program.example_inputs[1])))
                sum(leaf.pow(2).sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad).backward()
                grads = {key: parameter.grad for key, parameter in module.named_parameters() if parameter.grad is not None}
                run['gradients'] = described(grads, f'run{i}.gradients', tensors)
            made.append(run)
        strip_program(path)
        expected = []
        for index, each in enumerate(weights):
            tensors[f'attention.{index}'] = as_heads(each.weights, BATCH)
            expected.append({'name': each.name, 'weights': f'attention.{index}'})
        save_file(tensors, str(self.folder / f'{name}.safetensors'))
        for file in (path, self.folder / f'{name}.safetensors'):
            file.chmod(0o644)
            assert file.stat().st_size < 200_000, (file, file.stat().st_size)
        self.cases.append({'name': name, 'runs': made, 'attentions': expected, 'tolerance': tolerance})
        print(f'{name}: {len(program.graph.nodes)} nodes, {len(expected)} attentions, {path.stat().st_size} bytes')

    def write(self):
        path = self.folder / 'exported.json'
        cases = json.loads(path.read_text()) if self.only and path.exists() else []
        cases = [case for case in cases if case['name'] not in {made['name'] for made in self.cases}] + self.cases
        path.write_text(json.dumps(sorted(cases, key=lambda case: case['name']), indent=1) + '\n')


def tokens(*shape):
    return torch.randint(1, VOCABULARY, shape)


def modules(fixtures: Fixtures) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True), 2)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    padding[1, 3:] = True
    runs = [((x,), {}), ((torch.randn(BATCH, LENGTH, WIDTH),), {})]
    fixtures.case('encoder', encoder, runs, attentions=True)
    fixtures.case('encoder_strict', encoder, runs, strict=True, attentions=True)
    fixtures.case('encoder_fused', encoder, runs, strict=True, no_grad=True, attentions=True)
    fixtures.case('encoder_decomposed', encoder, runs, decompose=True, attentions=True)
    fixtures.case('encoder_padded', encoder, [((x,), {'src_key_padding_mask': padding})], attentions=True)
    gated = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True, norm_first=True, activation='gelu'), 1,
                                  enable_nested_tensor=False)
    fixtures.case('encoder_fused_padded', gated, [((x,), {'src_key_padding_mask': padding})], strict=True, no_grad=True, attentions=True)
    length = Dim('length', min=2, max=32)
    dynamic = [((x,), {}), ((torch.randn(BATCH, 9, WIDTH),), {}), ((torch.randn(BATCH, 2, WIDTH),), {})]
    fixtures.case('encoder_dynamic', encoder, dynamic, dynamic=({1: length},), attentions=True)
    half = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True), 1).to(torch.bfloat16)
    fixtures.case('encoder_bfloat16', half, [((x.to(torch.bfloat16),), {})], attentions=True, tolerance=1e-2)
    transformer = nn.Transformer(WIDTH, HEADS, 1, 1, 32, batch_first=True)
    target = torch.randn(BATCH, 3, WIDTH)
    fixtures.case('transformer', transformer, [((x, target), {})], attentions=True, gradients=True)
    fixtures.case('transformer_fused', transformer, [((x, target), {})], strict=True, no_grad=True, attentions=True)
    fixtures.case('hand_written', HandWritten(), [((x,), {})], attentions=True, gradients=True)
    fixtures.case('with_cast', WithCast(), [((x,), {})], attentions=True)
    runs = [((torch.randn(BATCH, n, WIDTH), torch.randn(BATCH, m, WIDTH)), {}) for n, m in ((LENGTH, 7), (2, 3), (11, 4))]
    dynamic = ({1: length}, {1: Dim('memory', min=2, max=32)})
    kinds = ThreeKinds()
    fixtures.case('three_kinds', kinds, runs, dynamic=dynamic, attentions=True, gradients=True, trace=True)
    fixtures.case('three_kinds_decomposed', kinds, runs, dynamic=dynamic, decompose=True, attentions=True)


def structures(fixtures: Fixtures) -> None:
    a, b, c = torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3)
    call = (({'a': a, 'b': [b]}, (b, c)), {'scale': 1.5, 'flag': True, 'nothing': None})
    fixtures.case('structures', Structures(), [call])
    length = Dim('length', min=2, max=16)
    runs = [((torch.randn(2, n, 3), torch.randn(2, 2 * n, 3)), {}) for n in (4, 7, 16)]
    fixtures.case('symbols', Symbols(), runs, dynamic=({1: length}, {1: 2 * length}))
    fixtures.case('branches', Branches(), [((torch.randn(3, WIDTH).abs(),), {}), ((-torch.randn(3, WIDTH).abs(),), {})])
    length = Dim('length', min=2, max=16)
    runs = [((torch.randn(2, n, WIDTH), torch.tensor(rounds)), {}) for n, rounds in ((5, 2), (3, 0), (2, 1))]
    fixtures.case('loops', Loops(), runs, dynamic=({1: length}, None))
    runs = [((torch.randn(n, 3), torch.randn(n, 3)), {}) for n in (6, 7, 2)]
    fixtures.case('combined', Combined(), runs, dynamic=({0: length}, {0: length}))
    runs = [((torch.randn(n, 3) + add,), {}) for n, add in ((3, 2), (5, -2))]
    fixtures.case('sized', Sized(), runs, dynamic=({0: length},), strict=True)
    for strict in (False, True):
        named = ((torch.randn(BATCH, LENGTH, WIDTH).abs(),), {})
        fixtures.case('named_branches' + '_strict' * strict, NamedBranches(), [named], strict=strict)
    fixtures.case('regions', Regions(), [((torch.randn(2, 5, WIDTH),), {})], strict=True, attentions=True)
    fixtures.case('vmapped', Vmapped(), [((torch.randn(2, 5, WIDTH),), {})], decompose=True, attentions=True)
    refused = Fixtures(fixtures.folder, fixtures.only)
    refused.case('vmapped_as_is', Vmapped(), [((torch.randn(2, 5, WIDTH),), {})])
    fixtures.case('other_autocast', OtherAutocast(), [((torch.randn(3, WIDTH, dtype=torch.bfloat16),), {})], strict=True)
    kept = torch.tensor([[True] * 5, [True, True, False, True, False]])
    fixtures.case('shared_mask', SharedMask(), [((torch.randn(2, 5, WIDTH), kept), {})], attentions=True)
    fixtures.case('hints', Hints(), [((torch.randn(3, WIDTH),), {})], strict=True)
    custom = Fixtures(fixtures.folder, fixtures.only)  # beside the others, which need no library
    custom.case('custom_operator', Custom(), [((torch.randn(2, WIDTH),), {})])
    runs = [((torch.randn(n, WIDTH), torch.randn(3)), {}) for n in (5, 8)]
    length = {0: Dim('length', min=5, max=32)}
    custom.case('functionalized', Writing(), runs, dynamic=(length, None), decompose=True)
    shapes = ((3, 4), (4, 2), (1, 2, 4, 4), (2, 2, 3, 3))
    numbers = tuple(torch.randint(-100, 100, shape, dtype=torch.int8) for shape in shapes)
    fixtures.case('wide_product', WideProduct(), [(numbers, {})])
    fixtures.case('scored', Scoring(), [((Scored(scores=torch.randn(2, 3)),), {})])
    fixtures.case('constants', Constants(), [((torch.randn(4, WIDTH),), {})])
    handles = [effects._register_effectful_op(name, effects._EffectType.ORDERED) for name in Effects.CALLED_SO]
    fixtures.case('effects', Effects(), [((torch.randn(2, 4, 4),), {}) for _ in range(2)], decompose=True)
    for handle in handles:
        handle.destroy()
    fixtures.case('counter', Counter(), [((torch.randn(4, WIDTH),), {})])
    fixtures.case('counter_decomposed', Counter(), [((torch.randn(4, WIDTH),), {})], decompose=True)


def products(fixtures: Fixtures) -> None:
    """Layers that decompositions take apart, and what resembles them."""
    rows = [((torch.randn(product_models.ROWS, product_models.DEPTH),), {}) for _ in range(2)]
    samples = [((torch.randn(n, 3, product_models.DEPTH),), {}) for n in (2, 5, 1)]
    dynamic = ({0: Dim('samples', min=1, max=8)},)
    fixtures.case('product_factors', product_models.Factors(), rows)
    fixtures.case('product_biases', product_models.Biases(), rows)
    fixtures.case('product_untransposed', product_models.Untransposed(), samples, dynamic=dynamic)
    fixtures.case('product_written', product_models.Written(), rows)
    fixtures.case('product_read_decomposed', product_models.Read(), samples, dynamic=dynamic, decompose=True)
    fixtures.case('product_norms_decomposed', product_models.Norms(), samples[:1], decompose=True)


def hugging_face(fixtures: Fixtures) -> None:
    import transformers as t
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()
    sizes = {'vocab_size': VOCABULARY, 'max_position_embeddings': 16, 'pad_token_id': 0}
    for attention in ('sdpa', 'eager'):
        config = t.BertConfig(**sizes, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=32,
                              attn_implementation=attention)
        mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
        mask[1, 3:] = 0
        fixtures.case(f'bert_{attention}', t.BertModel(config), [((tokens(BATCH, LENGTH),), {'attention_mask': mask})], attentions=True,
                      gradients=True)
    batch, length = Dim('batch', min=1, max=8), Dim('length', min=2, max=16)
    runs = [((tokens(b, n),), {}) for b, n in ((2, 5), (1, 16), (3, 2))]
    fixtures.case('bert_dynamic', t.BertModel(config), runs, dynamic={'input_ids': {0: batch, 1: length}}, attentions=True)

    config = t.GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=WIDTH, n_layer=2, n_head=HEADS, attn_implementation='sdpa',
                          bos_token_id=1, eos_token_id=2)
    gpt2 = t.GPT2LMHeadModel(config)

    def grown(steps):
        cache, ids = t.DynamicCache(config=config), tokens(BATCH, 3)
        with torch.no_grad():
            gpt2.eval()(ids, past_key_values=cache, use_cache=True)
            for _ in range(steps):
                gpt2(tokens(BATCH, 1), past_key_values=cache, use_cache=True)
        return cache

    past = {2: Dim('past', min=2, max=12)}
    runs = [((tokens(BATCH, 1),), {'cache': grown(steps)}) for steps in (0, 1, 4)]
    fixtures.case('gpt2_cache', WithCache(gpt2), runs, dynamic={'ids': None, 'cache': [[past] * 2] * 2}, attentions=True)
    pairs = lambda cache: tuple((layer.keys, layer.values) for layer in cache.layers)
    runs = [((tokens(BATCH, 1), pairs(grown(steps))), {}) for steps in (0, 3)]
    fixtures.case('gpt2_tuples', WithTuples(gpt2), runs, dynamic={'ids': None, 'past': ((past,) * 2,) * 2}, attentions=True)

    config = t.T5Config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=HEADS, pad_token_id=0,
                        decoder_start_token_id=0)
    kwargs = {'input_ids': tokens(BATCH, LENGTH), 'decoder_input_ids': tokens(BATCH, 3), 'use_cache': False}
    fixtures.case('t5', t.T5Model(config), [((), kwargs)], attentions=True)
    config = t.ViTConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=HEADS, intermediate_size=32, image_size=8, patch_size=4,
                         attn_implementation='sdpa')
    fixtures.case('vit', t.ViTModel(config), [((torch.randn(BATCH, 3, 8, 8),), {})], attentions=True)
    config = t.LlamaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=HEADS,
                           num_key_value_heads=1, max_position_embeddings=16, attn_implementation='sdpa')
    fixtures.case('llama', t.LlamaForCausalLM(config), [((tokens(BATCH, LENGTH),), {'use_cache': False})], attentions=True)

    # What it calls for its experts is an operator that transformers registers in Python.
    config = t.MixtralConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1, num_attention_heads=HEADS,
                             num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=16,
                             attn_implementation='sdpa', experts_implementation='grouped_mm')
    runs = [((tokens(b, n),), {'use_cache': False}) for b, n in ((BATCH, LENGTH), (1, 1), (3, 2))]
    fixtures.case('mixtral', t.MixtralForCausalLM(config), runs, dynamic={'input_ids': {0: Dim.AUTO, 1: Dim.AUTO}, 'use_cache': None},
                  attentions=True, gradients=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=ROOT / 'test/fixtures/exported')
    parser.add_argument('--only', default='')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    fixtures = Fixtures(options.out, options.only)
    for part in (modules, structures, products, hugging_face):
        part(fixtures)
    fixtures.write()


if __name__ == '__main__':
    main()
