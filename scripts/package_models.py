"""Small models of timm and x-transformers for the zoo, with the weights that multiply their values. Used by make_zoo."""

import re
from collections import Counter
from pathlib import Path
from typing import Callable

import torch
from torch import nn
from torch.nn import functional as F

from make_fixtures import seeded
from reference import SOFTMAXES, Recorded, Recorder, as_heads, copy_value, flatten, max_difference, save_case, sdpa_weights
from strip_debug import strip_debug

CLASSES = 5
# Whose softmax of keys multiplies values before queries do: linear attention.
LINEAR = {'FactorAttnConvRelPosEnc', 'LambdaLayer'}
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
    import timm
    from timm.models import beit, byobnet, cait, coat, convit, davit, efficientvit_mit, efficientvit_msra, gcvit, hiera
    from timm.models import levit, metaformer, mvitv2, nest, nextvit, tiny_vit, volo

    vision = dict(img_size=32, num_heads=4, num_classes=CLASSES)
    small, large = (3, 32, 32), (3, 64, 64)
    transformer = dict(img_size=64, depth=2, embed_dim=32, num_heads=4)
    windows = dict(img_size=64, embed_dim=16, depths=(1, 2), num_heads=(2, 4), window_size=4)

    def named(name, size=64, **options):
        return (lambda: timm.create_model(name, num_classes=CLASSES, **options)), (3, size, size)

    def attending(layer, **options):
        """A convolutional network whose last block attends."""
        block = byobnet.ByoBlockCfg
        config = byobnet.ByoModelCfg(
            blocks=(block(type='bottle', d=1, c=32, s=1, gs=0, br=0.25), block(type='self_attn', d=1, c=64, s=2, gs=0, br=0.5)),
            stem_chs=16, stem_type='3x3', stem_pool='', self_attn_layer=layer, self_attn_kwargs=options)
        return (lambda: byobnet.ByobNet(config, num_classes=CLASSES, img_size=32)), small

    def bottlenecks(**options):
        config = byobnet.ByoModelCfg(blocks=(byobnet.ByoBlockCfg(type='bottle', d=1, c=128, s=1, br=0.25),) * 2, stem_chs=16,
                                     stem_type='3x3', **options)
        return (lambda: byobnet.ByobNet(config, num_classes=CLASSES, img_size=32, global_pool=None)), small

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
        'coat': (lambda: coat.CoaT(img_size=64, patch_size=4, embed_dims=(16, 16, 16, 16), serial_depths=(1, 1, 1, 1), num_heads=8,
                                   num_classes=CLASSES), large),
        'coat_parallel': (lambda: coat.CoaT(img_size=64, patch_size=4, embed_dims=(16, 16, 16, 16), serial_depths=(1, 1, 1, 1),
                                            parallel_depth=1, num_heads=8, num_classes=CLASSES), large),
        'nextvit': (lambda: nextvit.NextViT(3, CLASSES, stem_chs=(8, 8, 8), depths=(1, 1, 5, 1), head_dim=32), large),
        'volo': (lambda: volo.VOLO([1, 1, 1, 1], img_size=64, num_classes=CLASSES, stem_hidden_dim=8, embed_dims=[12, 16, 16, 16],
                                   num_heads=[2, 4, 4, 4]), large),
        'gcvit': (lambda: gcvit.GlobalContextVit(img_size=(64, 64), num_classes=CLASSES, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 4),
                                                 window_size=(4, 4, 2, 2), embed_dim=16), large),
        'nest': (lambda: nest.Nest(img_size=64, num_levels=3, embed_dims=(16, 16, 32), num_heads=(2, 2, 4), depths=(1, 1, 1),
                                   num_classes=CLASSES), large),
        'halonet': attending('halo', block_size=4, halo_size=2, num_heads=2),
        'bat': bottlenecks(attn_layer='bat', attn_kwargs={'block_size': 4}),
        'botnet': attending('bottleneck', num_heads=2),
        'lambda': attending('lambda', num_heads=2),
        'caformer': (lambda: metaformer.MetaFormer(
            num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(16, 16, 32, 64),
            token_mixers=[metaformer.SepConv, metaformer.SepConv, metaformer.Attention, metaformer.Attention],
            norm_layers=[metaformer.LayerNorm2dNoBias] * 2 + [metaformer.LayerNormNoBias] * 2), large),
        'pooled_by_attention': bottlenecks(head_type='attn_abs', head_hidden_size=128),
        'pooled_by_rotary_attention': bottlenecks(head_type='attn_rot', head_hidden_size=128),
        'swin': named('swin_tiny_patch4_window7_224', **windows),
        'swin_v2': named('swinv2_tiny_window8_256', **windows),
        'swin_v2_cr': named('swinv2_cr_tiny_ns_224', **windows),
        'maxvit': named('maxvit_rmlp_pico_rw_256', img_size=64),
        'coatnet': named('coatnet_nano_rw_224', img_size=64),
        'xcit': named('xcit_nano_12_p16_224', img_size=64, depth=2),
        'pvt_v2': named('pvt_v2_b0', depths=(1, 1, 1, 1)),
        'edgenext': named('edgenext_xx_small'),
        'mobilevit': named('mobilevit_xxs'),
        'fastvit': named('fastvit_sa12', layers=(1, 1, 1, 1)),
        'twins': named('twins_svt_small', img_size=64, embed_dims=(16, 16, 32, 32), num_heads=(1, 2, 2, 4), depths=(1, 2, 1, 1), wss=(4, 4, 4, 2)),
        'visformer': named('visformer_tiny', img_size=64),
        'eva02': named('eva02_tiny_patch14_224', 56, img_size=56, depth=2),
        'registers': named('vit_small_patch14_reg4_dinov2', 56, **{**transformer, 'img_size': 56}),
        'dinov3': named('vit_small_patch16_dinov3', **transformer),
        'relative': named('vit_relpos_small_patch16_224', **transformer),
        'segment_anything': named('samvit_base_patch16', **transformer, global_attn_indexes=(1,), window_size=3),
        'pooled_siglip': named('vit_base_patch16_siglip_224', **transformer),
        'tnt': named('tnt_s_legacy_patch16_224', img_size=64, depth=2, embed_dim=32, num_heads_outer=4, num_heads_inner=2, inner_dim=8),
        'pit': named('pit_ti_224', img_size=64),
        'mobilenetv4': named('mobilenetv4_hybrid_medium'),
        # Without attention.
        'resnet': named('resnet10t'),
        'mixer': named('mixer_s16_224', img_size=64),
        'poolformer': named('poolformer_s12'),
        'squeeze_excite': named('seresnet50', layers=(1, 1, 1, 1)),
        'selected_kernels': named('skresnet18'),
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
        'grouped_keys_apart': of(Encoder, attn_kv_heads=2),
        'memory_keys': of(Encoder, attn_num_mem_kv=3),
        'memory_keys_flash': of(Decoder, attn_num_mem_kv=3, attn_flash=True),
        'zero_key': of(Encoder, attn_add_zero_kv=True),
        'normalized_queries': of(Decoder, attn_qk_norm=True),
        'selective': of(Decoder, attn_selective=True),
        'rotary': of(Decoder, rotary_pos_emb=True),
        'rotary_scaled': of(Decoder, rotary_xpos=True),
        'linear_biases': of(Decoder, alibi_pos_bias=True, alibi_num_heads=2),
        'relative_bias': of(Encoder, rel_pos_bias=True),
        'relative_bias_flash': of(Encoder, rel_pos_bias=True, attn_flash=True),
        'dynamic_bias': of(Encoder, dynamic_pos_bias=True),
        'gated_values': of(Encoder, attn_gate_values=True),
        'gated_heads': of(Encoder, attn_gate_value_heads=True),
        'head_scale': of(Encoder, attn_head_scale=True),
        'distances': of(Encoder, attn_l2_distance=True),
        'signed': of(Encoder, attn_cog_signed=True),
        'soft_clamp': of(Encoder, attn_softclamp_logits=True),
        'laser': of(Encoder, attn_laser=True),
        'latent_queries': of(Encoder, attn_use_latent_q=True, attn_dim_latent_q=16),
        'latent_keys': of(Encoder, attn_use_latent_kv=True, attn_dim_latent_kv=16),
        'residual_scores': of(Encoder, residual_attn=True),
        'residual_values': of(Encoder, add_value_residual=True),
        'macaron': of(Encoder, macaron=True),
        'several_streams': of(Encoder, num_residual_streams=2),
        'integrated_layers': of(Encoder, integrate_layers=True),
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


def heads_last(weights: torch.Tensor, heads: int | None, batch: int) -> torch.Tensor:
    """[B, H, Q, K], where windows and blocks are a part of the batch, wherever a module that has so many heads puts them: [B·H, Q, K],
    [B·H, blocks, Q, K], [B, H, windows, Q, K], [B, windows, H, Q, K]."""
    if not isinstance(heads, int):
        return as_heads(weights.transpose(1, 2) if weights.dim() == 5 else weights, None)
    if weights.dim() == 3 and weights.size(0) % heads == 0:
        weights = weights.unflatten(0, (-1, heads))
    elif weights.dim() == 4 and weights.size(0) == batch * heads and weights.size(1) != heads:
        weights = weights.unflatten(0, (batch, heads))
    if weights.dim() == 5 and weights.size(1) == heads:
        weights = weights.transpose(1, 2)
    return as_heads(weights, None)


def one_run(folder: Path, name: str, path: Path, model: nn.Module, x: torch.Tensor) -> dict:
    recorder = ProductRecorder(model, frozenset({torch.sigmoid, torch.Tensor.sigmoid}) if 'sigmoid' in name else frozenset())
    with torch.no_grad(), recorder.watching():
        expected = model(*copy_value([x]))
        output = torch.jit.load(str(path))(*copy_value([x]))
    if (difference := max_difference(expected, output)) > 1e-3:
        raise ValueError(f'the trace differs from the eager model by {difference}')
    tensors: dict[str, torch.Tensor] = {}
    inputs, described = flatten([x], 'input', tensors), flatten(output, 'output', tensors)
    modules = dict(model.named_modules())
    times = Counter(recorded.name for recorded in recorder.records)
    attentions, weights = [], []
    linear = sum(type(module).__name__ == 'LiteMLA' for module in model.modules())
    for recorded in recorder.records:
        module = modules[recorded.name]
        if type(module).__name__ in LINEAR:
            linear += 1
            continue
        heads = getattr(module, 'num_heads', None)
        # Where each head has a product of its own, none has several.
        whole = heads_last(recorded.weights, None if times[recorded.name] == heads != 1 else heads, x.size(0))
        entry = {'name': recorded.name, 'shape': list(whole.shape)}
        if recorded.kind:
            entry['operator'] = recorded.kind
        attentions.append(entry)
        weights.append(whole)
    save_case(folder, name, tensors, attentions, weights)
    return {'name': name, 'file': path.name, 'data': f'{name}.safetensors', 'how': 'trace', 'frozen': False, 'method': 'forward',
            'inputs': inputs, 'output': described, 'attentions': attentions,
            'unseen': linear,
            'tolerance': 1e-5, 'outputTolerance': 1e-4, 'notes': ''}
