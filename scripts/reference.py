"""Reference attentions, computed by PyTorch in Python, and the files that hold them. Used by make_fixtures and make_zoo."""

import contextlib
import inspect
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SOFTMAXES = {torch.softmax, Tensor.softmax, F.softmax, torch.nn.functional.softmax, torch.special.softmax}

# What a profile of the TorchScript run calls the operators, and what the contract calls them.
OPERATORS = {
    'aten::_transformer_encoder_layer_fwd': 'transformer_encoder_layer',
    'aten::_native_multi_head_attention': 'native_multi_head_attention',
    'aten::scaled_dot_product_attention': 'scaled_dot_product_attention',
    'aten::softmax': 'softmax',
}


@dataclass
class Recorded:
    name: str
    kind: str  # 'mha', 'sdpa' or 'softmax'
    weights: Tensor
    detail: dict = field(default_factory=dict)


def sdpa_weights(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Tensor:
    """softmax(QKᵀ·scale + mask) as the documentation defines it, in float32 or better; fully masked rows are zeros."""
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    q, k = query.to(wide), key.to(wide)
    if enable_gqa:
        k = k.repeat_interleave(q.size(-3) // k.size(-3), -3)
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.size(-1)) if scale is None else scale)
    if is_causal:
        allowed = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask.to(wide)
    hidden = (scores == -math.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(hidden, 0.0), -1).masked_fill(hidden, 0.0)


class Recorder(TorchFunctionMode):
    """Records, in execution order, every attention and every softmax of an eager model with the module that computed it.

    nn.MultiheadAttention is asked for its weights (need_weights=True, average_attn_weights=False) on PyTorch's slow path;
    `native_weights=True` leaves its own fused kernel on, which defines fully masked rows and returns the weights it used.
    """

    def __init__(self, model: nn.Module, native_weights: bool = False):
        super().__init__()
        self.model = model
        self.native_weights = native_weights
        self.records: list[Recorded] = []
        self.stack: list[str] = []
        self.quiet = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward and not self.quiet:
            return self.functional_attention(*args, **kwargs)
        result = func(*args, **kwargs)
        if self.quiet:
            return result
        name = self.stack[-1] if self.stack else ''
        if func is F.scaled_dot_product_attention:
            self.quiet += 1
            weights = sdpa_weights(*args, **kwargs)
            self.quiet -= 1
            self.records.append(Recorded(name, 'sdpa', weights.detach()))
        elif func in SOFTMAXES:
            self.records.append(Recorded(name, 'softmax', result.detach().clone()))
        return result

    def functional_attention(self, *args, **kwargs):
        """torch.nn.functional.multi_head_attention_forward called by a module of its own."""
        bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
        bound.apply_defaults()
        needed, averaged = bound.arguments['need_weights'], bound.arguments['average_attn_weights']
        bound.arguments.update(need_weights=True, average_attn_weights=False)
        output, weights = F.multi_head_attention_forward(*bound.args, **bound.kwargs)
        self.records.append(Recorded(self.stack[-1] if self.stack else '', 'mha', weights.detach().clone()))
        return output, (weights.mean(-3) if averaged else weights) if needed else None

    def leave(self, _module, _input, _output) -> None:
        self.stack.pop()

    @contextlib.contextmanager
    def watching(self):
        names = {}
        for name, module in self.model.named_modules():
            names[id(module)] = name
        handles = []
        for module in self.model.modules():
            name = names[id(module)]
            handles.append(module.register_forward_pre_hook(lambda m, i, name=name: self.stack.append(name)))
            handles.append(module.register_forward_hook(self.leave, always_call=True))
        plain_forward = nn.MultiheadAttention.forward
        recorder = self

        def forward(mha, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                    average_attn_weights=True, is_causal=False):
            recorder.quiet += 1
            # The causal hint lets the kernel skip the mask; with weights asked for, the mask itself is what counts.
            output, weights = plain_forward(
                mha, query, key, value, key_padding_mask=key_padding_mask, need_weights=True, attn_mask=attn_mask,
                average_attn_weights=False, is_causal=False,
            )
            recorder.quiet -= 1
            full = weights.unsqueeze(0) if weights.dim() == 3 else weights
            recorder.records.append(Recorded(names[id(mha)], 'mha', full.detach().clone()))
            if not need_weights:
                return output, None
            return output, weights.mean(-3) if average_attn_weights else weights

        layers = [m for m in self.model.modules() if isinstance(m, nn.TransformerEncoderLayer)]
        encoders = [m for m in self.model.modules() if isinstance(m, nn.TransformerEncoder)]
        fast = torch.backends.mha.get_fastpath_enabled()
        saved = [(layer, layer.activation_relu_or_gelu) for layer in layers]
        nested = [(encoder, getattr(encoder, 'use_nested_tensor', None)) for encoder in encoders]
        nn.MultiheadAttention.forward = forward
        try:
            if not self.native_weights:
                torch.backends.mha.set_fastpath_enabled(False)
            for layer in layers:
                layer.activation_relu_or_gelu = 0  # not fused
            for encoder in encoders:
                encoder.use_nested_tensor = False
            if self.native_weights:  # a TorchFunctionMode would close the fused kernel
                yield self
            else:
                with self:
                    yield self
        finally:
            nn.MultiheadAttention.forward = plain_forward
            torch.backends.mha.set_fastpath_enabled(fast)
            for layer, activation in saved:
                layer.activation_relu_or_gelu = activation
            for encoder, use in nested:
                encoder.use_nested_tensor = use
            for handle in handles:
                handle.remove()


def record(model: nn.Module, call: Callable[[], Any], native_weights: bool = False) -> tuple[list[Recorded], Any]:
    """Run `call`, which runs `model`; return what was recorded and what `call` returned."""
    recorder = Recorder(model, native_weights)
    with torch.no_grad(), recorder.watching():
        output = call()
    return recorder.records, output


def observed_operators(call: Callable[[], Any]) -> list[str]:
    """The attention operators and softmaxes of a TorchScript run, in execution order, by the contract's names."""
    with torch.no_grad():
        with torch.autograd.profiler.profile(use_kineto=False) as profile:
            call()
    seen = []
    for event in profile.function_events:
        if event.name not in OPERATORS:
            continue
        parent = event.cpu_parent
        while parent is not None and parent.name not in OPERATORS:
            parent = parent.cpu_parent
        if parent is None:
            seen.append((event.time_range.start, OPERATORS[event.name]))
    return [name for _, name in sorted(seen, key=lambda item: item[0])]


def flatten(value: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """The structure of `value` as JSON with {"$tensor": name} for tensors, which go into `tensors`."""
    if isinstance(value, Tensor):
        count = sum(1 for key in tensors if key == prefix or key.startswith(prefix + '.'))
        name = f'{prefix}.{count}'
        tensors[name] = value.detach().clone().contiguous()
        return {'$tensor': name}
    if isinstance(value, dict):
        return {key: flatten(item, prefix, tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [flatten(item, prefix, tensors) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError('not finite')
    return value


def max_difference(a: Any, b: Any) -> float:
    """The largest absolute difference of two values of one structure; NaN equals NaN."""
    if isinstance(a, Tensor):
        if a.shape != b.shape:
            return math.inf
        if a.numel() == 0:
            return 0.0
        x, y = a.detach().to(torch.float64), b.detach().to(torch.float64)
        difference = torch.where((x == y) | (x.isnan() & y.isnan()), 0.0, (x - y).abs())
        return math.inf if difference.isnan().any() else difference.max().item()
    if isinstance(a, dict):
        return max([max_difference(a[key], b[key]) for key in a], default=0.0)
    if isinstance(a, (list, tuple)):
        return max([max_difference(x, y) for x, y in zip(a, b, strict=True)], default=0.0)
    return 0.0 if a == b else math.inf


def copy_value(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copy_value(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return type(value)(*map(copy_value, value)) if hasattr(value, '_fields') else tuple(map(copy_value, value))
    if isinstance(value, list):
        return [copy_value(item) for item in value]
    return value


def as_heads(weights: Tensor, batch: int | None, layout: str | None = None) -> Tensor:
    """[B, H, Q, K] in float32 from [B, H, Q, K], [B·H, Q, K] (with `batch`), [Q, K]; `layout` names other orders, as 'bqkh'."""
    if layout:
        weights = torch.einsum(f'{layout}->bhqk', weights)
    if weights.dim() == 2:
        weights = weights[None, None]
    if weights.dim() == 3:
        weights = weights.reshape(batch if batch else weights.size(0), -1, *weights.shape[1:])
    if weights.dim() != 4:
        weights = weights.reshape(-1, *weights.shape[-3:])
    return weights.to(torch.float32).contiguous()


def save_case(folder: Path, name: str, tensors: dict[str, Tensor], attentions: list[dict], weights: list[Tensor]) -> None:
    """`<name>.safetensors`: inputs, outputs and attentions; the attentions' names and operators are JSON in the metadata."""
    everything = dict(tensors)
    for index, tensor in enumerate(weights):
        everything[f'attention.{index}'] = tensor
    if not everything:
        everything['empty'] = torch.zeros(0)
    path = folder / f'{name}.safetensors'
    save_file(everything, str(path), metadata={'attentions': json.dumps(attentions)})
    path.chmod(0o644)
