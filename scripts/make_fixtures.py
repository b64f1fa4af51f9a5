#!/usr/bin/env python3
"""Write test/fixtures/models/: small TorchScript files and what PyTorch itself says about them.

    python3 scripts/make_fixtures.py [--out FOLDER] [--only REGEX]

Beside every model lies a `.safetensors` file with its inputs, outputs and attentions, and manifest.json lists them all
(see test/fixtures/models/README.md). Everything is seeded. Every expected operator is what a profile of the TorchScript
run showed, and every expected output is checked against that run before it is written.
"""

import argparse
import json
import re
import shutil
import warnings
import zipfile
import zlib
from pathlib import Path

import torch
from torch import nn

import fixture_models as models
from reference import (as_heads, copy_value, flatten, max_difference, observed_operators, record, save_case)
from strip_debug import strip_debug

warnings.filterwarnings('ignore')
ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEADS = models.WIDTH, models.HEADS
HALVES = (torch.float16, torch.bfloat16)


def seeded(seed: int) -> None:
    torch.manual_seed(seed)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape).to(dtype)


def padding(lengths: list[int], longest: int) -> torch.Tensor:
    """True where padded, as src_key_padding_mask."""
    return torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]


def causal(length: int, boolean: bool = False) -> torch.Tensor:
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return hidden if boolean else torch.zeros(length, length).masked_fill(hidden, float('-inf'))


def prepare(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Eval mode, and weights large enough for attention that is far from uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.8)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval().to(dtype)


class Fixtures:
    def __init__(self, folder: Path, only: str | None):
        self.folder, self.only = folder, only
        self.entries: list[dict] = []

    def model(self, file: str, model: nn.Module, how: str, example: tuple = (), frozen: bool = False,
              optimized: bool = False, script=None):
        """Save one TorchScript file and return what `case` needs of it."""
        if self.only and not re.search(self.only, file):
            return None
        if script is None:
            if how == 'script':
                script = torch.jit.script(model)
            else:
                script = torch.jit.trace(model, copy_value(example), check_trace=False)
        if frozen:
            script = torch.jit.freeze(script)
        if optimized:
            script = torch.jit.optimize_for_inference(script)
        path = self.folder / f'{file}.pt'
        torch.jit.save(script, str(path))
        strip_debug(path)
        return {'file': path.name, 'model': model, 'how': how, 'frozen': frozen or optimized}

    def case(self, saved, name: str, inputs: tuple, *, method: str = 'forward', attention: str | None = None,
             batch: int | None = None, layout: str | None = None, tolerance: float | None = None,
             output_tolerance: float | None = None, native_weights: bool = False, nested: torch.Tensor | None = None,
             names: list[str] | None = None, notes: str = '', stretch: bool = False, unordered: bool = False,
             calls: int = 1, nan: bool = False, applied=None):
        """Record one entry.

        attention: a pattern for the names of the modules whose softmaxes are attentions (default: all recorded ones).
        applied: what the model does to the softmax's result before it multiplies the values.
        nested: a padding mask; the nested tensor path leaves zeros in the rows of padded queries.
        """
        if saved is None:
            return
        path = self.folder / saved['file']
        tensors: dict[str, torch.Tensor] = {}
        # Traced inputs are given positionally; None and plain numbers stay in the JSON.
        described = flatten(list(inputs), 'input', tensors)
        eager = saved['model']
        loaded = torch.jit.load(str(path)).eval() if not saved['frozen'] else torch.jit.load(str(path))
        records, eager_output = record(eager, lambda: getattr(eager, method)(*copy_value(inputs)), native_weights)
        wanted = [r.kind != 'softmax' or attention is None or re.search(attention, r.name) is not None for r in records]

        outputs = []
        with torch.no_grad():
            for _ in range(calls):
                outputs.append(getattr(loaded, method)(*copy_value(inputs)))
            fresh = torch.jit.load(str(path))
        seen = observed_operators(lambda: getattr(fresh, method)(*copy_value(inputs)))
        assert len(seen) == len(records), f'{name}: {len(records)} recorded in eager mode, but the file runs {seen}'

        half = any(t.dtype in HALVES for t in tensors.values())
        tolerance = tolerance or (1e-2 if half else 1e-5)
        output_tolerance = output_tolerance or (5e-2 if half else 1e-4)
        described_output = flatten(outputs[0], 'output', tensors)
        visible = eager_output
        rows = outputs[0]
        if nested is not None:
            visible = eager_output.masked_fill(nested[..., None], 0.0)
            rows = outputs[0].masked_fill(nested[..., None], 0.0)
        difference = max_difference(visible, rows)
        assert difference <= output_tolerance, f'{name}: the eager model and the file differ by {difference}'
        for call, output in enumerate(outputs[1:], 1):
            flatten(output, f'call{call}', tensors)

        modules_left = {module for module, _ in loaded.named_modules()}
        attentions, weights = [], []
        kept = [(r, operator) for r, operator, want in zip(records, seen, wanted) if want]
        for index, (recorded, operator) in enumerate(kept):
            whole = as_heads(recorded.weights, batch, layout)
            if applied is not None:
                whole = applied(whole)
            if nested is not None:
                whole = whole.masked_fill(nested[:, None, :, None], 0.0)
            assert nan or not whole.isnan().any(), f'{name}: attention {index} has NaN'
            # A fused layer's weights lead to the module that owns them, where freezing left it there.
            owned = operator in ('transformer_encoder_layer', 'native_multi_head_attention') and recorded.name in modules_left
            attention_name = names[index] if names else recorded.name if owned or not saved['frozen'] else ''
            entry = {'name': attention_name, 'operator': operator, 'shape': list(whole.shape)}
            attentions.append(entry)
            weights.append(whole)
        save_case(self.folder, name, tensors, attentions, weights)
        entry = {
            'name': name, 'file': saved['file'], 'data': f'{name}.safetensors', 'how': saved['how'],
            'frozen': saved['frozen'], 'method': method, 'inputs': described, 'output': described_output,
            'attentions': attentions, 'tolerance': tolerance, 'outputTolerance': output_tolerance, 'notes': notes,
        }
        if stretch:
            entry['stretch'] = True
        if unordered:
            entry['unordered'] = True
        if calls > 1:
            entry['calls'] = calls
        if nan:
            entry['nan'] = True
        self.entries.append(entry)

    def failing(self, saved, name: str, inputs: tuple, message: str, method: str = 'forward', notes: str = ''):
        if saved is None:
            return
        loaded = torch.jit.load(str(self.folder / saved['file']))
        try:
            getattr(loaded, method)(*copy_value(inputs))
        except Exception as error:
            assert message in str(error), f'{name}: {error}'
        else:
            raise AssertionError(f'{name} did not fail')
        tensors: dict[str, torch.Tensor] = {}
        described = flatten(list(inputs), 'input', tensors)
        save_case(self.folder, name, tensors, [], [])
        self.entries.append({
            'name': name, 'file': saved['file'], 'data': f'{name}.safetensors', 'how': saved['how'], 'frozen': saved['frozen'],
            'method': method, 'inputs': described, 'throws': message, 'attentions': [], 'tolerance': 1e-5, 'notes': notes,
        })


def encoders(f: Fixtures) -> None:
    lengths, t = [7, 4, 5], 7
    pad = padding(lengths, t)
    variants = [
        ('relu', {}), ('gelu', {'activation': 'gelu'}), ('norm_first', {'norm_first': True, 'activation': 'gelu'}),
        ('nested', {'nested': True}), ('nested_gelu', {'nested': True, 'activation': 'gelu'}),
        ('seq_first', {'batch_first': False}), ('odd_heads', {'heads': 3, 'width': 12}),
    ]
    for index, (variant, options) in enumerate(variants):
        seeded(100 + index)
        width = options.get('width', WIDTH)
        model = prepare(models.Encoder(**options))
        src = random(3, t, width)
        first = options.get('batch_first', True)
        src = src if first else src.transpose(0, 1).contiguous()
        saved = f.model(f'encoder_{variant}', model, 'script')
        f.case(saved, f'encoder_{variant}', (src,))
        f.case(saved, f'encoder_{variant}__padded', (src, None, pad), nested=pad if options.get('nested') else None,
               notes='padding mask through the nested tensor path' if options.get('nested') else 'padding mask')
        if variant in ('relu', 'nested', 'seq_first'):
            f.case(saved, f'encoder_{variant}__causal', (src, causal(t), None, True), notes='causal float mask')
        if variant == 'relu':
            f.case(saved, 'encoder_relu__causal_bool_padded', (src, causal(t, True), pad), notes='boolean causal mask and padding')
            one = random(1, 9, width)
            f.case(saved, 'encoder_relu__one', (one,), notes='batch 1, another length')
            unbatched = random(5, width)
            f.case(saved, 'encoder_relu__unbatched', (unbatched,), notes='[T, D] input: B is 1')
            gap = torch.tensor([[False] * 7, [True, False, False, True, False, False, True], [False] * 6 + [True]])
            f.case(saved, 'encoder_relu__gaps', (src, None, gap), notes='padding mask that is not left-aligned')
            hidden = padding([7, 0, 3], t)
            f.case(saved, 'encoder_relu__fully_masked', (src, None, hidden), native_weights=True, nan=True,
                   notes="every key of sequence 1 is hidden: the fused kernel's weights and output are NaN there")
        if variant == 'nested':
            square = random(4, 4, width)
            f.case(saved, 'encoder_nested__square', (square, None, padding([4, 2, 1, 3], 4)), nested=padding([4, 2, 1, 3], 4),
                   notes='batch = length = 4')
            gap = torch.tensor([[False] * 7, [True, False, False, True, False, False, True], [False] * 6 + [True]])
            f.case(saved, 'encoder_nested__gaps', (src, None, gap), notes='not left-aligned: falls back to a plain mask')

        if variant in ('relu', 'norm_first', 'seq_first'):
            plain, padded = models.PlainEncoder(model).eval(), models.PaddedEncoder(model).eval()
            f.case(f.model(f'encoder_{variant}_traced', plain, 'trace', (src,)), f'encoder_{variant}_traced', (src,))
            f.case(f.model(f'encoder_{variant}_padded_traced', padded, 'trace', (src, pad)), f'encoder_{variant}_padded_traced',
                   (src, pad))
        if variant in ('relu', 'nested'):
            f.case(f.model(f'encoder_{variant}_frozen', model, 'script', frozen=True), f'encoder_{variant}_frozen', (src,))
            saved = f.model(f'encoder_{variant}_optimized', model, 'script', frozen=True, optimized=True)
            f.case(saved, f'encoder_{variant}_optimized', (src,), tolerance=1e-4, output_tolerance=1e-3)
            f.case(f.model(f'encoder_{variant}_traced_frozen', models.PlainEncoder(model).eval(), 'trace', (src,), frozen=True),
                   f'encoder_{variant}_traced_frozen', (src,))
        if variant == 'relu':
            with torch.no_grad():
                plain = models.PlainEncoder(model).eval()
                script = torch.jit.trace(plain, (src,), check_trace=False)
            f.case(f.model('encoder_relu_traced_no_grad', plain, 'trace', script=script), 'encoder_relu_traced_no_grad', (src,),
                   notes='traced under no_grad')

    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        seeded(150)
        kind = str(dtype).removeprefix('torch.')
        model = prepare(models.Encoder(), dtype)
        src = random(2, 6, WIDTH, dtype=dtype)
        f.case(f.model(f'encoder_{kind}', model, 'script'), f'encoder_{kind}', (src,), native_weights=dtype in HALVES)
        plain = models.PlainEncoder(model).eval()
        f.case(f.model(f'encoder_{kind}_traced', plain, 'trace', (src,)), f'encoder_{kind}_traced', (src,))


def decoders(f: Fixtures) -> None:
    seeded(200)
    model = prepare(models.Decoder())
    tgt, memory = random(3, 5, WIDTH), random(3, 8, WIDTH)
    saved = f.model('decoder', model, 'script')
    f.case(saved, 'decoder', (tgt, memory))
    f.case(saved, 'decoder__causal_float', (tgt, memory, causal(5)))
    f.case(saved, 'decoder__causal_bool', (tgt, memory, causal(5, True)))
    memory_padding, tgt_padding = padding([8, 3, 6], 8), padding([5, 2, 4], 5)
    f.case(saved, 'decoder__padded', (tgt, memory, causal(5, True), None, tgt_padding, memory_padding))
    f.case(saved, 'decoder__memory_mask', (tgt, memory, None, random(5, 8) * 2), notes='float memory mask')
    f.case(f.model('decoder_frozen', model, 'script', frozen=True), 'decoder_frozen', (tgt, memory, causal(5)))
    seeded(201)
    model = prepare(models.Decoder(norm_first=True, activation='gelu', batch_first=False))
    tgt, memory = tgt.transpose(0, 1).contiguous(), memory.transpose(0, 1).contiguous()
    saved = f.model('decoder_seq_first', model, 'script')
    f.case(saved, 'decoder_seq_first', (tgt, memory, causal(5)))

    seeded(210)
    model = prepare(models.Seq2Seq())
    src, tgt = random(2, 6, WIDTH), random(2, 4, WIDTH)
    src_padding, tgt_padding = padding([6, 4], 6), padding([4, 3], 4)
    saved = f.model('transformer', model, 'script')
    f.case(saved, 'transformer', (src, tgt))
    f.case(saved, 'transformer__causal_float', (src, tgt, causal(4)))
    f.case(saved, 'transformer__causal_bool', (src, tgt, causal(4, True)))
    f.case(saved, 'transformer__src_mask', (src, tgt, causal(4), None, None, None, causal(6)))
    zeros = torch.zeros(2, 4, WIDTH)
    f.case(saved, 'transformer__tgt_zero', (src, zeros, causal(4, True)), notes='uniform target')
    if saved:
        # The encoder's own attention goes through nested tensors; cross-attention keeps its padding mask.
        mixed = padding_case(f, saved, model, src, tgt, src_padding, tgt_padding)
        f.entries.append(mixed)
    traced = models.TracedSeq2Seq(model).eval()
    arguments = (src, tgt, causal(4, True), src_padding)
    f.case(f.model('transformer_traced', traced, 'trace', arguments), 'transformer_traced', arguments)
    f.case(f.model('transformer_traced_frozen', traced, 'trace', arguments, frozen=True), 'transformer_traced_frozen', arguments)
    seeded(211)
    model = prepare(models.Seq2Seq(batch_first=False))
    arguments = (src.transpose(0, 1).contiguous(), tgt.transpose(0, 1).contiguous(), causal(4), src_padding, tgt_padding, src_padding)
    f.case(f.model('transformer_seq_first', model, 'script'), 'transformer_seq_first', arguments)


def padding_case(f: Fixtures, saved, model, src, tgt, src_padding, tgt_padding) -> dict:
    name = 'transformer__padded'
    arguments = (src, tgt, causal(4, True), src_padding, tgt_padding, src_padding)
    f.case(saved, name, arguments)
    from safetensors import safe_open
    path = f.folder / f'{name}.safetensors'
    with safe_open(str(path), 'pt') as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    entry = f.entries.pop()
    entry['notes'] = 'nested tensors in the encoder: rows of its padded queries are zeros'
    weights = [tensors.pop(f'attention.{i}') for i in range(len(entry['attentions']))]
    for attention, tensor in zip(entry['attentions'], weights):
        if '.encoder.' in attention['name']:
            tensor.masked_fill_(src_padding[:, None, :, None], 0.0)
    save_case(f.folder, name, tensors, entry['attentions'], weights)
    return entry


def multihead(f: Fixtures) -> None:
    q, kv = random(2, 4, WIDTH), random(2, 7, WIDTH)
    x = random(2, 5, WIDTH)
    pad = padding([5, 3], 5)
    seeded(300)
    model = prepare(models.WithWeights())
    saved = f.model('mha_weights', model, 'script')
    f.case(saved, 'mha_weights', (q, kv, kv))
    f.case(saved, 'mha_weights__padded', (q, kv, kv, padding([7, 2], 7)))
    f.case(f.model('mha_weights_traced', model, 'trace', (q, kv, kv)), 'mha_weights_traced', (q, kv, kv))
    f.case(f.model('mha_weights_frozen', model, 'script', frozen=True), 'mha_weights_frozen', (q, kv, kv))
    seeded(301)
    model = prepare(models.WithWeights(average=False, batch_first=False))
    f.case(f.model('mha_weights_heads', model, 'script'), 'mha_weights_heads',
           (q.transpose(0, 1).contiguous(), kv.transpose(0, 1).contiguous(), kv.transpose(0, 1).contiguous()))
    for need in (True, False):
        seeded(302)
        model = prepare(models.SelfWithWeights() if need else models.SelfWithoutWeights())
        kind = 'weights' if need else 'no_weights'
        saved = f.model(f'mha_self_{kind}', model, 'script')
        f.case(saved, f'mha_self_{kind}', (x,))
        f.case(saved, f'mha_self_{kind}__padded', (x, pad))
        f.case(saved, f'mha_self_{kind}__causal', (x, None, causal(5, True)))
        f.case(saved, f'mha_self_{kind}__unbatched', (x[0].clone(),), notes='[T, D] input: B is 1')
        f.case(f.model(f'mha_self_{kind}_traced', model, 'trace', (x,)), f'mha_self_{kind}_traced', (x,))
    seeded(303)
    model = prepare(models.WithoutWeights())
    saved = f.model('mha_no_weights', model, 'script')
    f.case(saved, 'mha_no_weights', (q, kv, kv))
    f.case(saved, 'mha_no_weights__mask_3d', (q, kv, kv, random(2 * HEADS, 4, 7)), notes='float mask [B·H, Q, K]')
    seeded(304)
    model = prepare(models.WithoutWeights(add_bias_kv=True, add_zero_attn=True))
    f.case(f.model('mha_bias_kv', model, 'script'), 'mha_bias_kv', (q, kv, kv), notes='two more keys: bias_k and zeros')
    seeded(305)
    model = prepare(models.WithoutWeights(kdim=10, vdim=12))
    f.case(f.model('mha_kdim', model, 'script'), 'mha_kdim', (q, random(2, 7, 10), random(2, 7, 12)))


def by_hand(f: Fixtures) -> None:
    x = random(2, 6, WIDTH)
    hidden = padding([6, 4], 6)
    kinds = [
        ('matmul', models.MatmulAttention, {}), ('bmm', models.BmmAttention, {}), ('baddbmm', models.BaddbmmAttention, {}),
        ('einsum', models.EinsumAttention, {}), ('single_head', models.SingleHeadAttention, {}),
        ('sdpa', models.SdpaAttention, {}),
    ]
    for index, (kind, attention, _) in enumerate(kinds):
        seeded(400 + index)
        model = prepare(models.Stack(attention))
        for how in ('script', 'trace'):
            frozen = f.model(f'hand_{kind}_{how}_frozen', model, how, (x,), frozen=True)
            f.case(frozen, f'hand_{kind}_{how}_frozen', (x,), attention='attention', batch=2)
            saved = f.model(f'hand_{kind}_{how}', model, how, (x,))
            f.case(saved, f'hand_{kind}_{how}', (x,), attention='attention', batch=2)
        # Traced models that took sizes from the input follow another batch and length.
            if kind in ('matmul', 'bmm', 'sdpa'):
                square = random(5, 5, WIDTH)
                f.case(saved, f'hand_{kind}_{how}__square', (square,), attention='attention', batch=5,
                       notes='another shape than the traced one; batch = length')
                single = random(1, 3, WIDTH)
                f.case(saved, f'hand_{kind}_{how}__one', (single,), attention='attention', batch=1, notes='batch 1')
        if kind in ('matmul', 'sdpa'):
            saved = f.model(f'hand_{kind}_optimized', model, 'trace', (x,), frozen=True, optimized=True)
            f.case(saved, f'hand_{kind}_optimized', (x,), attention='attention', batch=2, tolerance=1e-4, output_tolerance=1e-3)
            for dtype in (torch.float64, torch.float16, torch.bfloat16):
                seeded(420 + index)
                typed = prepare(models.Stack(attention), dtype)
                kind_name = str(dtype).removeprefix('torch.')
                y = random(2, 6, WIDTH, dtype=dtype)
                f.case(f.model(f'hand_{kind}_{kind_name}', typed, 'script'), f'hand_{kind}_{kind_name}', (y,), attention='attention')
    seeded(440)
    model = prepare(models.MaskedStack(models.LongWayAttention))
    note = 'the weights that multiply the values, head mask applied, as Hugging Face returns them'
    halve_second = lambda weights: weights * torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)
    for how in ('script', 'trace'):
        f.case(f.model(f'hand_long_way_{how}', model, how, (x, hidden)), f'hand_long_way_{how}', (x, hidden), batch=2, notes=note,
               applied=halve_second)
    for dtype in HALVES:
        seeded(441)
        kind = str(dtype).removeprefix('torch.')
        typed = prepare(models.MaskedStack(models.LongWayAttention), dtype)
        y = random(2, 6, WIDTH, dtype=dtype)
        for how in ('script', 'trace'):
            f.case(f.model(f'hand_long_way_{kind}_{how}', typed, how, (y, hidden)), f'hand_long_way_{kind}_{how}', (y, hidden),
                   batch=2, notes='float32 softmax in a half model, cast back', applied=halve_second)
    seeded(442)
    model = prepare(models.MaskedStack(models.MaskedAfterAttention))
    f.case(f.model('hand_masked_after', model, 'script'), 'hand_masked_after', (x, hidden), notes=note,
           applied=lambda weights: weights.masked_fill(hidden[:, None, None, :], 0.0))
    seeded(443)
    model = prepare(models.Mixed(models.FlatSdpaAttention()))
    f.case(f.model('sdpa_flat', model, 'script'), 'sdpa_flat', (x,), batch=2, notes='scaled_dot_product_attention on [B·H, Q, E]')
    for index, (kind, attention, layout) in enumerate([
        ('keys_before_heads', models.KeysBeforeHeadsAttention, 'bqkh'), ('second_operand', models.SecondOperandAttention, None),
    ]):
        seeded(450 + index)
        model = prepare(models.Mixed(attention()))
        f.case(f.model(f'hand_{kind}', model, 'script'), f'hand_{kind}', (x,), layout=layout, stretch=True)


def sdpa(f: Fixtures) -> None:
    seeded(500)
    saved = f.model('sdpa', models.SdpaNet().eval(), 'script')
    b, h, q_len, k_len, e = 2, 4, 5, 7, 8
    q, k, v = random(b, h, q_len, e) * 1.5, random(b, h, k_len, e) * 1.5, random(b, h, k_len, e)
    square = (random(b, h, 6, e), random(b, h, 6, e), random(b, h, 6, e))
    allowed = torch.rand(b, 1, q_len, k_len) > 0.3
    allowed[..., 0] = True
    blind = allowed.clone()
    blind[0, :, 2] = False
    cases = {
        'plain': (q, k, v), 'causal': (*square, None, True), 'causal_wide': (q, k, v, None, True),
        'causal_tall': (random(b, h, 7, e), random(b, h, 4, e), random(b, h, 4, e), None, True),
        'bool_mask': (q, k, v, allowed), 'float_mask': (q, k, v, random(b, h, q_len, k_len)),
        'mask_2d': (q, k, v, random(q_len, k_len)), 'mask_keys': (q, k, v, allowed[:, :, :1]),
        'mask_heads': (q, k, v, random(1, h, q_len, k_len)), 'mask_infinite': (q, k, v, torch.zeros(b, 1, q_len, k_len).masked_fill(~allowed, float('-inf'))),
        'scale': (q, k, v, None, False, 0.7), 'scale_mask': (q, k, v, allowed, False, 1.0),
        'fully_masked': (q, k, v, blind),
        'fully_masked_float': (q, k, v, torch.zeros(b, 1, q_len, k_len).masked_fill(~blind, float('-inf'))),
        'gqa': (q, random(b, 2, k_len, e), random(b, 2, k_len, e), None, False, None, True),
        'gqa_mask': (q, random(b, 1, k_len, e), random(b, 1, k_len, e), allowed, False, None, True),
        'gqa_causal': (square[0], random(b, 2, 6, e), random(b, 2, 6, e), None, True, None, True),
        'three_dims': (q[:, 0].clone(), k[:, 0].clone(), v[:, 0].clone()),
        'three_dims_mask': (q[:, 0].clone(), k[:, 0].clone(), v[:, 0].clone(), allowed[:, 0]),
        'two_dims': (q[0, 0].clone(), k[0, 0].clone(), v[0, 0].clone()),
        'one_query': (q[:, :, :1].clone(), k, v), 'one_key': (q, k[:, :, :1].clone(), v[:, :, :1].clone()),
        'values_wider': (q, k, random(b, h, k_len, 12)),
        'long': (random(1, 2, 70, e), random(1, 2, 130, e), random(1, 2, 130, e)),
        'broadcast': (q, k[:1].clone(), v[:1].clone()),
        'strided': (random(b, q_len, h, e).transpose(1, 2), random(b, k_len, h, e).transpose(1, 2), random(b, k_len, h, e).transpose(1, 2)),
    }
    notes = {
        'three_dims': '[N, Q, E]: N is the batch, one head', 'two_dims': '[Q, E]: batch 1, one head',
        'fully_masked': 'row 2 of sequence 0 sees nothing: zeros', 'fully_masked_float': 'the same with -inf: zeros',
        'causal_wide': 'Q < K: aligned at the top left', 'causal_tall': 'Q > K',
    }
    for name, arguments in cases.items():
        f.case(saved, f'sdpa__{name}', arguments, notes=notes.get(name, ''))
    five = tuple(random(2, 3, h, n, e) for n in (q_len, k_len, k_len))
    f.case(saved, 'sdpa__five_dims', five, stretch=True, notes='[A, B, H, Q, E]: the leading dimensions are one batch')
    f.case(saved, 'sdpa__empty_batch', (q[:0].clone(), k[:0].clone(), v[:0].clone()), stretch=True)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        kind = str(dtype).removeprefix('torch.')
        f.case(saved, f'sdpa__{kind}', (q.to(dtype), k.to(dtype), v.to(dtype), allowed))
        f.case(saved, f'sdpa__{kind}_float_mask', (q.to(dtype), k.to(dtype), v.to(dtype), random(q_len, k_len, dtype=dtype)))
        f.case(saved, f'sdpa__{kind}_causal', (*(s.to(dtype) for s in square), None, True))
    root = models.RootSdpa().eval()
    for how in ('script', 'trace'):
        f.case(f.model(f'sdpa_root_{how}', root, how, (q, k, v)), f'sdpa_root_{how}', (q, k, v), names=[''])


def structures(f: Fixtures) -> None:
    x = random(2, 5, WIDTH)
    for kind, attention in (('sdpa', models.SdpaAttention), ('matmul', models.MatmulAttention)):
        seeded(600)
        model = prepare(models.CalledThrice(attention()))
        for how in ('script', 'trace'):
            f.case(f.model(f'called_thrice_{kind}_{how}', model, how, (x,)), f'called_thrice_{kind}_{how}', (x,),
                   notes='one module called three times')
    seeded(601)
    model = prepare(models.TwoOfAClass())
    for how in ('script', 'trace'):
        f.case(f.model(f'two_of_a_class_{how}', model, how, (x,)), f'two_of_a_class_{how}', (x,), notes='second, first, second')
    seeded(602)
    model = prepare(models.TwoNames())
    for how in ('script', 'trace'):
        saved = f.model(f'two_names_{how}', model, how, (x,))
        f.case(saved, f'two_names_{how}', (x,), names=['encoder_attention', 'decoder_attention' if how == 'script' else 'encoder_attention'],
               notes='one Python module under two names, called through the first, then the second; the trace keeps the first')
    seeded(603)
    model = prepare(models.Containers())
    for how in ('script', 'trace'):
        f.case(f.model(f'containers_{how}', model, how, (x,)), f'containers_{how}', (x,))
    seeded(604)
    model = prepare(models.Forked())
    f.case(f.model('forked', model, 'script'), 'forked', (x,), unordered=True, notes='two attentions in forked tasks')
    seeded(605)
    for kind, attention in (('sdpa', models.SdpaAttention), ('matmul', models.MatmulAttention)):
        model = prepare(models.Looped(attention()))
        saved = f.model(f'looped_{kind}', model, 'script')
        f.case(saved, f'looped_{kind}__4', (x, 4))
        f.case(saved, f'looped_{kind}__0', (x, 0), notes='no attention ran')
    seeded(606)
    model = prepare(models.Halting())
    saved = f.model('halting', model, 'script')
    f.case(saved, 'halting__long', (x,))
    f.case(saved, 'halting__short', (x[:, :3] * 0.5,))
    seeded(607)
    model = prepare(models.Nothing())
    for how in ('script', 'trace'):
        f.case(f.model(f'no_attention_{how}', model, how, (x,)), f'no_attention_{how}', (x,), attention='nowhere',
               notes="a classifier's softmax")
    seeded(608)
    model = prepare(models.TopKRouter())
    for how in ('script', 'trace'):
        f.case(f.model(f'router_{how}', model, how, (x,)), f'router_{how}', (x,), attention='attention',
               notes="a router's softmax beside an attention")
    for index, (kind, make) in enumerate([('box_expectation', models.BoxExpectation), ('box_convolution', models.BoxConvolution)]):
        seeded(610 + index)
        model = prepare(make())
        for how in ('script', 'trace'):
            f.case(f.model(f'{kind}_{how}', model, how, (x,)), f'{kind}_{how}', (x,), attention='nowhere')
    for index, (kind, make) in enumerate([('dense_router', models.DenseRouter), ('soft_embedding', models.SoftEmbedding)]):
        seeded(615 + index)
        model = prepare(make())
        f.case(f.model(kind, model, 'script'), kind, (x,), attention='nowhere', stretch=True,
               notes='a softmax in a product that is no attention')
    seeded(620)
    model = prepare(models.Nested())
    arguments = ((x, 2), [random(2, 5, WIDTH), random(2, 5, WIDTH)], {'shift': random(2, 5, WIDTH)}, None, True, 'hidden', 0.5, [3, 4])
    saved = f.model('nested', model, 'script')
    f.case(saved, 'nested', arguments, notes='the named tuple of the output is an array here, as a tuple')
    arguments = (*arguments[:3], random(5, WIDTH), False, 'other', 1.5, [7])
    f.case(saved, 'nested__optional', arguments, notes='the optional given, the optional output None')
    seeded(621)
    model = prepare(models.Methods())
    saved = f.model('methods', model, 'script')
    f.case(saved, 'methods', (x,))
    tokens = torch.randint(0, 10, (2, 4))
    f.case(saved, 'methods__encode', (tokens,), method='encode')
    f.case(saved, 'methods__encode_scale', (tokens, 0.5), method='encode')
    f.case(saved, 'methods__add', (2, 40), method='add')
    f.failing(saved, 'methods__refuse', (x,), 'this model refuses tensors with dimensions', 'refuse')
    f.failing(saved, 'methods__fail_late', (x,), 'a batch of 1000 was expected', 'fail_late', 'fails after the attention ran')
    f.failing(saved, 'methods__out_of_range', (x,), 'index out of range', 'out_of_range')
    f.failing(saved, 'methods__wrong_shape', (random(2, 5, 3),), 'mat1 and mat2 shapes cannot be multiplied')
    seeded(622)
    model = prepare(models.Stateful())
    saved = f.model('stateful', model, 'script')
    if saved:
        fresh = prepare(models.Stateful())
        fresh.load_state_dict(torch.jit.load(str(f.folder / saved['file'])).state_dict())
        saved['model'] = fresh
    f.case(saved, 'stateful', (x,), calls=3, notes='a counter in the module: outputs call1 and call2 are of the next calls')
    seeded(623)
    caching = prepare(models.Caching())
    saved = f.model('caching', caching, 'script')
    f.case(saved, 'caching', (x,), calls=3, names=[''], notes='keys accumulate in an attribute')
    seeded(624)
    model = prepare(models.FreeFunction())
    for how in ('script', 'trace'):
        f.case(f.model(f'free_function_{how}', model, how, (x,)), f'free_function_{how}', (x,))
    seeded(625)
    model = prepare(models.ThroughInterface())
    f.case(f.model('interface', model, 'script'), 'interface', (x,), names=['attention'])
    model = prepare(models.InterfaceTwice())
    f.case(f.model('interface_twice', model, 'script'), 'interface_twice', (x,), names=['attention', 'attention'])
    model = prepare(models.Positions())
    f.case(f.model('positions', model, 'script'), 'positions', (x,), names=['attention'])
    seeded(626)
    inner = prepare(models.MatmulAttention())
    eager = models.Mixed(inner).eval()
    script = torch.jit.script(models.Mixed(torch.jit.trace(inner, (x,), check_trace=False)).eval())
    f.case(f.model('traced_in_scripted', eager, 'script', script=script), 'traced_in_scripted', (x,))
    script = torch.jit.trace(models.Mixed(torch.jit.script(inner)).eval(), (x,), check_trace=False)
    f.case(f.model('scripted_in_traced', eager, 'trace', script=script), 'scripted_in_traced', (x,))


def broken(f: Fixtures) -> None:
    whole = (f.folder / 'sdpa_root_script.pt').read_bytes()
    (f.folder / 'broken_truncated.pt').write_bytes(whole[: len(whole) // 2])
    (f.folder / 'broken_tail.pt').write_bytes(whole[:-30])
    (f.folder / 'broken_empty.pt').write_bytes(b'')
    noise, seed = b'', 12345
    while len(noise) < 4096:
        seed = zlib.crc32(seed.to_bytes(4, 'little'))
        noise += seed.to_bytes(4, 'little')
    (f.folder / 'broken_random.pt').write_bytes(noise)
    with zipfile.ZipFile(f.folder / 'broken_zip.pt', 'w') as archive:
        archive.writestr(zipfile.ZipInfo('hello.txt', (1980, 1, 1, 0, 0, 0)), 'a zip file, but no checkpoint\n')
    torch.save({'weight': torch.arange(4.0)}, str(f.folder / 'broken_state_dict.pt'))
    # A code file that is no code: the archive is whole, the program in it is not.
    source = zipfile.ZipFile(f.folder / 'sdpa_root_script.pt')
    with zipfile.ZipFile(f.folder / 'broken_code.pt', 'w', zipfile.ZIP_STORED) as archive:
        for info in source.infolist():
            data = source.read(info.filename)
            if info.filename.endswith('.py'):
                data = b'class class class ((\n'
            archive.writestr(zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0)), data)


BROKEN = ['broken_truncated.pt', 'broken_tail.pt', 'broken_empty.pt', 'broken_random.pt', 'broken_zip.pt', 'broken_state_dict.pt',
          'broken_code.pt']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'test' / 'fixtures' / 'models')
    parser.add_argument('--only', help='only the models whose file name matches; the manifest is not written')
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    f = Fixtures(options.out, options.only)
    for part in (encoders, decoders, multihead, by_hand, sdpa, structures):
        seeded(zlib.crc32(part.__name__.encode()) % 100000)
        part(f)
        print(f'{part.__name__}: {len(f.entries)} so far', flush=True)
    if options.only:
        print(json.dumps(f.entries, indent=2))
        return
    broken(f)
    current = {entry[key] for entry in f.entries for key in ('file', 'data')} | set(BROKEN)
    for path in options.out.iterdir():
        if path.suffix in ('.pt', '.safetensors') and path.name not in current:
            path.unlink()
    manifest = {'torch': torch.__version__.split('+')[0], 'broken': BROKEN, 'fixtures': f.entries}
    lines = ',\n    '.join(json.dumps(entry, ensure_ascii=False) for entry in f.entries)
    head = json.dumps({'torch': manifest['torch'], 'broken': BROKEN}, indent=2)[:-2]
    (options.out / 'manifest.json').write_text(f'{head},\n  "fixtures": [\n    {lines}\n  ]\n}}\n')
    total = sum(p.stat().st_size for p in options.out.iterdir())
    largest = max(options.out.iterdir(), key=lambda p: p.stat().st_size)
    print(f'{len(f.entries)} fixtures, {total / 1e6:.1f} MB, largest {largest.name} with {largest.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
    main()
