"""Small models of timm and x-transformers for the zoo, with the weights that multiply their values. Used by make_zoo."""

import re
from pathlib import Path
from typing import Callable

import torch
from torch import nn
from torch.nn import functional as F

from make_fixtures import seeded
from reference import SOFTMAXES, Recorded, Recorder, as_heads, copy_value, flatten, max_difference, save_case, sdpa_weights
from strip_debug import strip_debug

CLASSES = 5
PRODUCTS = {'matmul', '__matmul__', 'bmm', 'einsum'}


class ProductRecorder(Recorder):
    """Records what multiplies values: operands of products that a softmax led to, whatever was done to it in between."""

    def __init__(self, model: nn.Module, begins=frozenset()):
        super().__init__(model)
        self.begins = SOFTMAXES | begins
        self.led: dict[int, torch.Tensor] = {}  # what softmaxes led to, kept so that no other tensor has its id

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, '__name__', '')
        if func is F.scaled_dot_product_attention:
            self.add('scaled_dot_product_attention', sdpa_weights(*args, **kwargs))
            return result
        flat = [each for argument in args for each in (argument if isinstance(argument, (tuple, list)) else [argument])]
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        led = [place for place, tensor in enumerate(tensors) if id(tensor) in self.led]
        if name in PRODUCTS and led:
            weights = tensors[led[0]]
            self.add('', weights if led[0] == 0 or name == 'einsum' else weights.transpose(-1, -2))
        elif (led or func in self.begins) and isinstance(result, torch.Tensor):
            self.led[id(result)] = result
        return result

    def add(self, kind: str, weights: torch.Tensor) -> None:
        self.records.append(Recorded(self.stack[-1], kind, weights.detach().clone()))


def timm_models() -> dict[str, tuple[Callable[[], nn.Module], tuple]]:
    """name → (factory, shape of one image)."""
    from timm.models import beit, cait, convit, davit, efficientvit_mit, efficientvit_msra, hiera, levit, mvitv2, tiny_vit

    vision = dict(img_size=32, num_heads=4, num_classes=CLASSES)
    small, large = (3, 32, 32), (3, 64, 64)
    return {
        'cait': (lambda: cait.Cait(embed_dim=16, depth=2, **vision), small),
        'convit': (lambda: convit.ConVit(embed_dim=4, depth=3, local_up_to_layer=2, **vision), small),
        'levit': (lambda: levit.Levit(img_size=64, embed_dim=(8, 8, 16), key_dim=4, depth=(1, 1, 1), num_heads=(2, 2, 4),
                                      num_classes=CLASSES), large),
        'tiny_vit': (lambda: tiny_vit.TinyVit(embed_dims=(8, 8, 8, 16), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4),
                                              window_sizes=(4, 4, 4, 4), num_classes=CLASSES), large),
        'davit': (lambda: davit.DaVit(embed_dims=(8, 16), depths=(1, 1), num_heads=(2, 4), window_size=4, num_classes=CLASSES), small),
        'hiera': (lambda: hiera.Hiera(img_size=(64, 64), embed_dim=8, num_heads=2, stages=(1, 1), q_pool=1, mask_unit_size=(4, 4),
                                      mask_unit_attn=(True, True), num_classes=CLASSES), large),
        'mvitv2': (lambda: mvitv2.MultiScaleVit(
            mvitv2.MultiScaleVitCfg(depths=(1, 1), embed_dim=8, num_heads=2, stride_q=((1, 1), (2, 2)), stride_kv_adaptive=(2, 2)),
            img_size=(32, 32), num_classes=CLASSES), small),
        'efficientvit_msra': (lambda: efficientvit_msra.EfficientVitMsra(
            img_size=64, embed_dim=(8, 8, 16), key_dim=(4, 4, 4), depth=(1, 1, 1), num_heads=(2, 2, 2), window_size=(2, 2, 2),
            num_classes=CLASSES), large),
        'efficientvit_mit': (lambda: efficientvit_mit.EfficientVit(
            widths=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1, 1), head_dim=8, head_widths=(32, 32), num_classes=CLASSES), large),
        'beitv2': (lambda: beit.Beit(embed_dim=16, depth=2, init_values=1e-5, use_abs_pos_emb=False, use_rel_pos_bias=True, **vision), small),
    }


def x_transformers_models() -> dict[str, tuple[Callable[[], nn.Module], tuple]]:
    from x_transformers import Decoder, Encoder

    def of(kind, **options):
        return (lambda: kind(dim=32, depth=2, heads=4, attn_dim_head=8, **options)), (8, 32)

    return {
        'plain': of(Encoder),
        'flash': of(Decoder, attn_flash=True),
        'talking_heads': of(Encoder, attn_pre_talking_heads=True, attn_post_talking_heads=True),
        'sinks': of(Encoder, attn_head_learned_sink=True),
        'sigmoid': of(Encoder, attn_sigmoid=True),
        'sparse_top': of(Encoder, attn_sparse_topk=3),
        'one_key_head': of(Encoder, attn_one_kv_head=True),
        'grouped_keys': of(Encoder, attn_kv_heads=2, attn_flash=True),
        'memory_keys': of(Encoder, attn_num_mem_kv=3),
        'normalized_queries': of(Decoder, attn_qk_norm=True),
        'selective': of(Decoder, attn_selective=True),
        'rotary': of(Decoder, rotary_pos_emb=True),
    }


def packages(folder: Path, only: str | None) -> tuple[list[dict], list[dict]]:
    """Entries of all of them, timm's with and without its fused attention; and what couldn't be made, with the reason."""
    entries, skipped = [], []
    models = []
    try:
        import timm

        for name, described in timm_models().items():
            for fused in (True, False):
                models.append((f'timm_{name}_{"fused" if fused else "plain"}', fused, *described))
    except ImportError as error:
        skipped.append({'name': 'timm', 'reason': str(error)})
    try:
        models += [(f'x_transformers_{name}', None, *described) for name, described in x_transformers_models().items()]
    except ImportError as error:
        skipped.append({'name': 'x_transformers', 'reason': str(error)})
    for index, (name, fused, make, shape) in enumerate(models):
        if only and not re.search(only, name):
            continue
        try:
            if fused is not None:
                timm.layers.set_fused_attn(fused)
            seeded(3000 + index)
            model = make().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.mul_(2.0)
            x = torch.randn(2, *shape)
            path = folder / f'{name}.pt'
            with torch.no_grad():
                torch.jit.save(torch.jit.trace(model, (x,), check_trace=False), str(path))
            strip_debug(path)
            entries.append(one_run(folder, name, path, model, x))
        except Exception as error:
            skipped.append({'name': name, 'reason': f'{type(error).__name__}: {str(error)[-300:]}'})
    return entries, skipped


def one_run(folder: Path, name: str, path: Path, model: nn.Module, x: torch.Tensor) -> dict:
    recorder = ProductRecorder(model, frozenset({torch.sigmoid, torch.Tensor.sigmoid}) if 'sigmoid' in name else frozenset())
    with torch.no_grad(), recorder.watching():
        expected = model(*copy_value([x]))
        output = torch.jit.load(str(path))(*copy_value([x]))
    if (difference := max_difference(expected, output)) > 1e-3:
        raise ValueError(f'the trace differs from the eager model by {difference}')
    tensors: dict[str, torch.Tensor] = {}
    inputs, described = flatten([x], 'input', tensors), flatten(output, 'output', tensors)
    attentions, weights = [], []
    for recorded in recorder.records:
        # Hiera's windows stand behind its heads.
        whole = as_heads(recorded.weights.transpose(1, 2) if recorded.weights.dim() == 5 else recorded.weights, None)
        entry = {'name': recorded.name, 'shape': list(whole.shape)}
        if recorded.kind:
            entry['operator'] = recorded.kind
        attentions.append(entry)
        weights.append(whole)
    save_case(folder, name, tensors, attentions, weights)
    return {'name': name, 'file': path.name, 'data': f'{name}.safetensors', 'how': 'trace', 'frozen': False, 'method': 'forward',
            'inputs': inputs, 'output': described, 'attentions': attentions,
            'unseen': sum(type(module).__name__ == 'LiteMLA' for module in model.modules()),  # linear attention
            'tolerance': 1e-5, 'outputTolerance': 1e-4, 'notes': ''}
