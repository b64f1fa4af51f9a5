#!/usr/bin/env python3
"""Write a folder of small TorchScript files of many architectures, with reference attentions, for test/zoo/run.mjs.

    python3 scripts/make_zoo.py --out .cache/zoo [--only REGEX]

Hugging Face architectures with random weights, traced with sdpa and with eager attention, and PyTorch's own modules in random
shapes, scripted and traced. References: the eager Hugging Face model with output_attentions=True and the same weights, its attentions in
the order in which the softmaxes ran. Models of timm and x-transformers, with what Python multiplied by the values. Files and manifest are as in test/fixtures/models (see the README there); `entries` that
run with another shape than the traced one end in '__other'. What couldn't be traced is in `skipped`, with the reason.
Needs transformers 5.23, timm 1.0 and x-transformers 2.31 beside torch 2.13.
"""

import argparse
import json
import random as python_random
import re
import warnings
from pathlib import Path

import torch
from torch import nn

import fixture_models as models
from make_fixtures import Fixtures, causal, padding, prepare, seeded
from package_models import packages
from reference import as_heads, copy_value, flatten, max_difference, observed_operators, record, save_case
from strip_debug import strip_debug

warnings.filterwarnings('ignore')

VOCABULARY = 100
SMALL = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
             max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
             bos_token_id=1, eos_token_id=2)
VISION = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8)


class Wrapped(nn.Module):
    """What a user writes to trace a Hugging Face model: positional tensors in, a tuple of tensors out."""

    def __init__(self, model: nn.Module, names: list[str], options: dict):
        super().__init__()
        self.model = model
        self.names, self.options = names, options
        self.attentions: list = []
        self.reference = False

    def forward(self, *inputs):
        named = dict(zip(self.names, inputs))
        if self.reference:
            result = self.model(**named, **{**self.options, 'return_dict': True, 'output_attentions': True})
            self.attentions = [
                a for key, value in result.items() if 'attention' in key and value is not None
                for a in (value if isinstance(value, (tuple, list)) else [value]) if a is not None
            ]
            return tuple(value for value in result.to_tuple() if isinstance(value, torch.Tensor))
        result = self.model(**named, **self.options)
        result = result if isinstance(result, (tuple, list)) else result.to_tuple()
        return tuple(value for value in result if isinstance(value, torch.Tensor))


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length))


def keep(batch: int, length: int) -> torch.Tensor:
    """An attention_mask: later sequences are shorter."""
    return (torch.arange(length)[None] < (length - torch.arange(batch)[:, None] * 2).clamp(min=2)).long()


def text(batch: int, length: int):
    return {'input_ids': tokens(batch, length), 'attention_mask': keep(batch, length)}


def text_alone(batch: int, length: int):
    return {'input_ids': tokens(batch, length)}


def encoder_decoder(batch: int, length: int):
    return {**text(batch, length), 'decoder_input_ids': tokens(batch, length - 2)}


def image(size: int, batch: int, _length: int):
    return {'pixel_values': torch.randn(batch, 3, size, size)}


def traceable_bloom(config, **options):
    """Bloom's own GELU is a Python autograd function, which no TorchScript file can hold; nn.GELU computes the same."""
    import transformers

    model = transformers.AutoModel.from_config(config, **options)
    for block in model.h:
        block.mlp.gelu_impl = nn.GELU(approximate='tanh')
    return model


def architectures():
    """(name, AutoModel-like factory, configuration, inputs, options for forward)."""
    import transformers as t

    auto = t.AutoModel
    rows = []

    # Configurations are made when it is their turn, so that one failure stays one.
    def add(name, config, make_inputs, factory=auto, **options):
        rows.append((name, factory, config, make_inputs, options))

    no_cache = dict(use_cache=False, return_dict=False)
    plain = dict(return_dict=False)

    for name, config in [('bert', 'BertConfig'), ('roberta', 'RobertaConfig'), ('electra', 'ElectraConfig'),
                         ('mpnet', 'MPNetConfig'), ('deberta_v2', 'DebertaV2Config'), ('deberta', 'DebertaConfig'),
                         ('camembert', 'CamembertConfig'), ('xlm_roberta', 'XLMRobertaConfig'), ('ernie', 'ErnieConfig'),
                         ('layoutlm', 'LayoutLMConfig'), ('roformer', 'RoFormerConfig'), ('convbert', 'ConvBertConfig'),
                         ('nystromformer', 'NystromformerConfig'), ('megatron_bert', 'MegatronBertConfig'), ('esm', 'EsmConfig'),
                         ('ibert', 'IBertConfig'), ('data2vec_text', 'Data2VecTextConfig'), ('rembert', 'RemBertConfig'),
                         ('squeezebert', 'SqueezeBertConfig'), ('mra', 'MraConfig'), ('canine', 'CanineConfig')]:
        extra = dict(embedding_size=32) if name in ('electra', 'roformer', 'convbert', 'squeezebert') else {}
        if name.startswith('deberta'):
            extra = dict(relative_attention=True, pos_att_type=['p2c', 'c2p'])
        if name == 'esm':
            extra = dict(mask_token_id=3, position_embedding_type='rotary')
        add(name, lambda config=config, extra=extra: getattr(t, config)(**SMALL, **extra), text, **plain)
    add('bert_classifier', lambda: t.BertConfig(**SMALL, num_labels=3), text, t.AutoModelForSequenceClassification, **plain)
    add('bert_masked_lm', lambda: t.BertConfig(**SMALL), text, t.AutoModelForMaskedLM, **plain)
    add('bert_decoder', lambda: t.BertConfig(**SMALL, is_decoder=True), text, t.AutoModelForCausalLM, **no_cache)
    add('distilbert', lambda: t.DistilBertConfig(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
                                                 max_position_embeddings=64), text, **plain)
    add('albert', lambda: t.AlbertConfig(**SMALL, embedding_size=16), text, **plain)
    add('funnel', lambda: t.FunnelConfig(vocab_size=VOCABULARY, block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=48), text, **plain)
    add('longformer', lambda: t.LongformerConfig(**SMALL, attention_window=8), text, **plain)
    add('big_bird', lambda: t.BigBirdConfig(**SMALL, attention_type='original_full'), text, **plain)
    add('xlnet', lambda: t.XLNetConfig(vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=48), text, **plain)
    add('modernbert', lambda: t.ModernBertConfig(**SMALL, global_attn_every_n_layers=2, local_attention=8), text, **plain)
    add('modernbert_decoder', lambda: t.ModernBertDecoderConfig(**SMALL, local_attention=8), text, **no_cache)

    add('gpt2', lambda: t.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64), text, t.AutoModelForCausalLM, **no_cache)
    add('gpt_neo', lambda: t.GPTNeoConfig(vocab_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[['global', 'local'], 1]], window_size=4, max_position_embeddings=64), text, **no_cache)
    decoder = {k: v for k, v in SMALL.items() if 'prob' not in k}
    grouped = dict(decoder, num_key_value_heads=2)
    picked = dict(num_local_experts=4, num_experts_per_tok=2, experts_implementation='batched_mm')
    for name, config, extra in [
        ('gpt_neox', 'GPTNeoXConfig', {}), ('llama', 'LlamaConfig', grouped), ('mistral', 'MistralConfig', {**grouped, 'sliding_window': 4}),
        ('qwen2', 'Qwen2Config', grouped), ('qwen3', 'Qwen3Config', {**grouped, 'head_dim': 8}), ('gemma', 'GemmaConfig', {**grouped, 'head_dim': 8}),
        ('gemma2', 'Gemma2Config', {**grouped, 'head_dim': 8, 'sliding_window': 4, 'query_pre_attn_scalar': 8}),
        ('gemma3', 'Gemma3TextConfig', {**grouped, 'head_dim': 8, 'sliding_window': 4, 'query_pre_attn_scalar': 8}),
        ('phi', 'PhiConfig', decoder), ('phi3', 'Phi3Config', grouped), ('granite', 'GraniteConfig', grouped), ('olmo2', 'Olmo2Config', grouped),
        ('cohere', 'CohereConfig', grouped), ('stablelm', 'StableLmConfig', grouped), ('starcoder2', 'Starcoder2Config', grouped),
        ('smollm3', 'SmolLM3Config', grouped), ('glm', 'GlmConfig', {**grouped, 'head_dim': 8}), ('nemotron', 'NemotronConfig', grouped),
        ('gpt_oss', 'GptOssConfig', {**grouped, 'head_dim': 8, 'num_local_experts': 4, 'num_experts_per_tok': 2, 'sliding_window': 4}),
        ('mixtral', 'MixtralConfig', {**grouped, 'num_local_experts': 4, 'num_experts_per_tok': 2}),
        ('qwen3_moe', 'Qwen3MoeConfig', {**grouped, 'head_dim': 8, 'num_experts': 4, 'num_experts_per_tok': 2, 'moe_intermediate_size': 16}),
        ('deepseek_v3', 'DeepseekV3Config', {**decoder, 'num_key_value_heads': 4, 'n_routed_experts': 4, 'num_experts_per_tok': 2,
                                             'kv_lora_rank': 16, 'q_lora_rank': 16, 'qk_rope_head_dim': 8, 'qk_nope_head_dim': 8,
                                             'v_head_dim': 8, 'n_group': 2, 'topk_group': 1, 'moe_intermediate_size': 16}),
        # Experts whose matrices are picked for each token, of routers that choose logits or what a softmax or a sigmoid made of them.
        ('granitemoe', 'GraniteMoeConfig', {**grouped, **picked}), ('granitemoe_swa', 'GraniteMoeSWAConfig', {**grouped, **picked, 'sliding_window': 4}),
        ('gpt_oss_picked', 'GptOssConfig', {**grouped, **picked, 'head_dim': 8, 'sliding_window': 4}), ('olmoe', 'OlmoeConfig', {**grouped, **picked, 'num_experts': 4}),
        ('ernie_moe', 'Ernie4_5_MoeConfig', {**grouped, **picked, 'moe_num_experts': 4, 'moe_k': 2, 'moe_intermediate_size': 16, 'moe_layer_start_index': 0}),
        ('glm4_moe', 'Glm4MoeConfig', {**grouped, **picked, 'n_routed_experts': 4, 'n_group': 2, 'topk_group': 1, 'first_k_dense_replace': 0, 'moe_intermediate_size': 16, 'head_dim': 8}),
        ('minimax_m2', 'MiniMaxM2Config', {**grouped, **picked, 'head_dim': 8}), ('phimoe', 'PhimoeConfig', {**grouped, **picked}),
        ('gptj', 'GPTJConfig', dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4)),
        ('codegen', 'CodeGenConfig', dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_ctx=64, rotary_dim=4)),
        ('opt', 'OPTConfig', dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64)),
        ('falcon', 'FalconConfig', dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, new_decoder_architecture=True, num_kv_heads=2)),
        ('falcon_alibi', 'FalconConfig', dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)),
        ('mpt', 'MptConfig', dict(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=64)),
        ('gpt_bigcode', 'GPTBigCodeConfig', dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
        ('xglm', 'XGLMConfig', dict(vocab_size=VOCABULARY, d_model=32, num_layers=2, attention_heads=4, ffn_dim=48, max_position_embeddings=64)),
        ('biogpt', 'BioGptConfig', dict(**decoder)),
        ('openai_gpt', 'OpenAIGPTConfig', dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
        ('ctrl', 'CTRLConfig', dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, dff=48)),
        ('jamba', 'JambaConfig', {**grouped, 'num_experts': 2, 'attn_layer_period': 2, 'attn_layer_offset': 1, 'use_mamba_kernels': False, 'mamba_d_state': 4}),
    ]:
        options = plain if name in ('openai_gpt',) else no_cache
        add(name, lambda config=config, extra=extra: getattr(t, config)(**(extra or decoder)), text, **options)
    add('bloom', lambda: t.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4), text, traceable_bloom, **no_cache)
    add('llama_lm_no_mask', lambda: t.LlamaConfig(**grouped), text_alone, t.AutoModelForCausalLM, **no_cache)
    add('gpt2_no_mask', lambda: t.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64), text_alone, **no_cache)

    seq2seq = dict(vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=2,
                   encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2)
    t5 = dict(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    for name, config, extra in [('t5', 'T5Config', t5), ('mt5', 'MT5Config', t5), ('umt5', 'UMT5Config', t5), ('longt5', 'LongT5Config', {**t5, 'local_radius': 4}),
                                ('bart', 'BartConfig', seq2seq), ('mbart', 'MBartConfig', seq2seq), ('pegasus', 'PegasusConfig', seq2seq),
                                ('marian', 'MarianConfig', seq2seq), ('m2m_100', 'M2M100Config', seq2seq), ('blenderbot', 'BlenderbotConfig', seq2seq),
                                ('nllb_moe', 'NllbMoeConfig', {**seq2seq, 'num_experts': 4, 'encoder_sparse_step': 2, 'decoder_sparse_step': 2}),
                                ('led', 'LEDConfig', {**{k: v for k, v in seq2seq.items() if k != 'max_position_embeddings'}, 'attention_window': 8, 'max_encoder_position_embeddings': 64, 'max_decoder_position_embeddings': 64}),
                                ('switch', 'SwitchTransformersConfig', {**t5, 'num_experts': 4}),
                                ('fsmt', 'FSMTConfig', {**{k: v for k, v in seq2seq.items() if k != 'vocab_size'}, 'langs': ['en', 'de'], 'src_vocab_size': VOCABULARY, 'tgt_vocab_size': VOCABULARY}),
                                ('prophetnet', 'ProphetNetConfig', dict(vocab_size=VOCABULARY, hidden_size=32, num_encoder_layers=2, num_decoder_layers=2, num_encoder_attention_heads=4, num_decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, ngram=1))]:
        add(name, lambda config=config, extra=extra: getattr(t, config)(**extra), encoder_decoder, **no_cache)
    add('t5_encoder', lambda: t.T5Config(**t5), text, lambda config, **k: t.T5EncoderModel._from_config(config, **k), **plain)

    whisper = dict(vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
                   decoder_ffn_dim=48, num_mel_bins=8, max_source_positions=20, max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2)
    add('whisper', lambda: t.WhisperConfig(**whisper), lambda b, n: {'input_features': torch.randn(b, 8, 40), 'decoder_input_ids': tokens(b, n)}, **no_cache)
    speech = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_dim=(16, 16), conv_stride=(4, 4), conv_kernel=(8, 4),
                  num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, num_feat_extract_layers=2, mask_time_prob=0.0, feat_extract_norm='group')
    for name, config in [('wav2vec2', 'Wav2Vec2Config'), ('hubert', 'HubertConfig'), ('wavlm', 'WavLMConfig'), ('unispeech', 'UniSpeechConfig'), ('data2vec_audio', 'Data2VecAudioConfig')]:
        add(name, lambda config=config: getattr(t, config)(**speech), lambda b, n: {'input_values': torch.randn(b, 40 * n)}, **plain)
    add('ast', lambda: t.ASTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_length=32, num_mel_bins=16), lambda b, n: {'input_values': torch.randn(b, 32, 16)}, **plain)

    from functools import partial
    for name, config, extra in [
        ('vit', 'ViTConfig', VISION), ('deit', 'DeiTConfig', VISION), ('beit', 'BeitConfig', {**VISION, 'use_relative_position_bias': True}), ('dinov2', 'Dinov2Config', VISION),
        ('dinov2_registers', 'Dinov2WithRegistersConfig', VISION), ('vit_msn', 'ViTMSNConfig', VISION), ('yolos', 'YolosConfig', {**VISION, 'image_size': [32, 32], 'num_detection_tokens': 5}),
        ('data2vec_vision', 'Data2VecVisionConfig', VISION), ('ijepa', 'IJepaConfig', VISION), ('dinov3', 'DINOv3ViTConfig', {**VISION, 'num_register_tokens': 2, 'rope_theta': 100.0}),
        ('swin', 'SwinConfig', dict(image_size=32, patch_size=2, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4)),
        ('swinv2', 'Swinv2Config', dict(image_size=32, patch_size=2, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4)),
        ('donut_swin', 'DonutSwinConfig', dict(image_size=32, patch_size=2, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4)),
        ('segformer', 'SegformerConfig', dict(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[16, 32], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4], mlp_ratios=[2, 2])),
        ('pvt', 'PvtConfig', dict(image_size=32, num_encoder_blocks=2, depths=[1, 1], sequence_reduction_ratios=[4, 2], hidden_sizes=[16, 32], patch_sizes=[4, 2], strides=[4, 2], num_attention_heads=[2, 4], mlp_ratios=[2, 2])),
        ('mobilevit', 'MobileViTConfig', dict(image_size=64, hidden_sizes=[16, 20, 24], neck_hidden_sizes=[8, 8, 12, 16, 20, 24, 28], num_attention_heads=4, last_hidden_size=None)),
        ('cvt', 'CvtConfig', dict(embed_dim=[16, 32, 32], num_heads=[1, 2, 2], depth=[1, 1, 1], drop_path_rate=[0.0, 0.0, 0.0])),
        ('levit', 'LevitConfig', dict(image_size=64, hidden_sizes=[16, 32, 48], num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[8, 8, 8])),
        ('glpn', 'GLPNConfig', dict(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[16, 32], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4], mlp_ratios=[2, 2])),
        ('hiera', 'HieraConfig', dict(image_size=[32, 32], patch_size=[7, 7], patch_stride=[4, 4], embed_dim=16, depths=[1, 1], num_heads=[1, 2], masked_unit_size=[4, 4])),
        ('siglip_vision', 'SiglipVisionConfig', VISION), ('clip_vision', 'CLIPVisionConfig', VISION),
    ]:
        size = 64 if name in ('mobilevit', 'levit') else 32
        add(name, lambda config=config, extra=extra: getattr(t, config)(**extra), partial(image, size), **plain)
    add('clip_text', lambda: t.CLIPTextConfig(**SMALL), text, **plain)
    add('siglip_text', lambda: t.SiglipTextConfig(**SMALL), text, lambda config, **k: t.SiglipTextModel._from_config(config, **k), **plain)
    both = lambda b, n: {'input_ids': tokens(b, n), 'pixel_values': torch.randn(b, 3, 32, 32), 'attention_mask': keep(b, n)}
    add('clip', lambda: t.CLIPConfig(text_config=SMALL, vision_config=VISION, projection_dim=16), both, **plain)
    add('vilt', lambda: t.ViltConfig(**{**SMALL, **VISION, 'max_image_length': -1}), both, **plain)
    add('blip_text', lambda: t.BlipTextConfig(**SMALL), text, lambda config, **k: __import__('transformers.models.blip.modeling_blip_text', fromlist=['x']).BlipTextModel._from_config(config, **k), return_dict=False, is_decoder=False)
    detr = dict(use_timm_backbone=False, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
                encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=5, use_pretrained_backbone=False)
    resnet = lambda: t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=['stage2'])
    for name, config in [('detr', 'DetrConfig'), ('conditional_detr', 'ConditionalDetrConfig'), ('table_transformer', 'TableTransformerConfig'), ('deformable_detr', 'DeformableDetrConfig')]:
        add(name, lambda config=config: getattr(t, config)(**detr, backbone_config=resnet()), partial(image, 64), **plain)
    add('perceiver', lambda: t.PerceiverConfig(num_latents=6, d_latents=16, d_model=12, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=2, num_cross_attention_heads=2),
        lambda b, n: {'inputs': torch.randn(b, n, 12)}, **plain)
    sam_vision = dict(hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, window_size=2, global_attn_indexes=[1], num_pos_feats=8)
    add('sam_vision', lambda: t.SamVisionConfig(**sam_vision), partial(image, 32), **plain)
    add('patchtst', lambda: t.PatchTSTConfig(num_input_channels=2, context_length=32, patch_length=8, patch_stride=8, d_model=32, num_attention_heads=4, ffn_dim=48, num_hidden_layers=2),
        lambda b, n: {'past_values': torch.randn(b, 32, 2)}, **plain)
    add('decision_transformer', lambda: t.DecisionTransformerConfig(state_dim=6, act_dim=3, hidden_size=32, n_layer=2, n_head=4, n_positions=128, max_ep_len=64),
        lambda b, n: {'states': torch.randn(b, n, 6), 'actions': torch.randn(b, n, 3), 'rewards': torch.randn(b, n, 1), 'returns_to_go': torch.randn(b, n, 1),
                      'timesteps': torch.arange(n).expand(b, n).clone(), 'attention_mask': torch.ones(b, n, dtype=torch.long)}, **plain)
    add('bart_decoder', lambda: t.BartConfig(**{**seq2seq, 'is_encoder_decoder': False}), text, lambda config, **k: t.BartForCausalLM._from_config(config, **k), **no_cache)
    return rows


# Windows that slide along the keys, sampled keys, convolution kernels from a softmax: what a row's keys are isn't in the operators.
BORDERLINE = ('longformer', 'led', 'deformable_detr', 'convbert', 'mra')


def spread(model: nn.Module) -> None:
    """Random weights that give attention far from uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                fan_in = parameter.numel() / parameter.size(0)
                parameter.copy_(torch.randn(parameter.shape) * (1.3 / fan_in**0.5))
            elif parameter.is_floating_point():
                parameter.add_(0.05 * torch.randn(parameter.shape))


def hugging_face(folder: Path, only: str | None):
    entries, skipped, notes = [], [], []
    for index, (name, factory, make_config, make_inputs, options) in enumerate(architectures()):
        if only and not re.search(only, name):
            continue
        create = factory.from_config if hasattr(factory, 'from_config') else factory
        try:
            seeded(1000 + index)
            eager = create(make_config(), attn_implementation='eager').eval()
            spread(eager)
        except Exception as error:
            skipped.append({'name': name, 'reason': f'not created: {type(error).__name__}: {str(error)[:300]}'})
            continue
        batch, length = 2, 9
        example = make_inputs(batch, length)
        others = make_inputs(3, 12)
        reference = Wrapped(eager, list(example), {k: v for k, v in options.items()})
        for implementation in ('sdpa', 'eager'):
            full = f'hf_{name}_{implementation}'
            try:
                seeded(1000 + index)
                twin = create(make_config(), attn_implementation=implementation).eval()
                twin.load_state_dict(eager.state_dict())
                if implementation == 'sdpa' and twin.config._attn_implementation != 'sdpa':
                    continue
            except Exception as error:
                if 'does not support' not in str(error):
                    skipped.append({'name': full, 'reason': f'not created: {str(error)[:300]}'})
                continue
            wrapped = Wrapped(twin, list(example), options).eval()
            try:
                with torch.no_grad():
                    traced = torch.jit.trace(wrapped, tuple(copy_value(list(example.values()))), strict=False, check_trace=False)
                path = folder / f'{full}.pt'
                torch.jit.save(traced, str(path))
                strip_debug(path)
            except Exception as error:
                skipped.append({'name': full, 'reason': f'not traced: {type(error).__name__}: {str(error)[:200]} … {str(error)[-200:]}'})
                continue
            for suffix, inputs in (('', example), ('__other', others)):
                try:
                    entry = one_run(folder, full + suffix, path, reference, list(inputs.values()))
                except Exception as error:
                    reason = f'{type(error).__name__}: {str(error)[-300:]}'
                    target = skipped if not suffix else notes
                    target.append({'name': full + suffix, 'reason': reason})
                    if not suffix:
                        break
                    continue
                entry['how'] = 'trace'
                if name in BORDERLINE:
                    entry['stretch'] = True
                entries.append(entry)
        print(f'{name}: {sum(e["name"].startswith(f"hf_{name}_") for e in entries)} entries', flush=True)
    return entries, skipped, notes


def four_dimensional(weights: torch.Tensor, module: nn.Module, batch: int) -> torch.Tensor:
    """[B, H, Q, K]. [B·H, Q, K] is split by the module's own number of heads where it tells it."""
    if weights.dim() != 3:
        return as_heads(weights, None)
    for attribute in ('num_attention_heads', 'num_heads', 'n_heads', 'n_head', 'num_attn_heads'):
        heads = getattr(module, attribute, None)
        if isinstance(heads, int) and weights.size(0) % heads == 0:
            return as_heads(weights, weights.size(0) // heads)
    return as_heads(weights, batch)


def one_run(folder: Path, name: str, path: Path, reference: Wrapped, inputs: list) -> dict:
    reference.reference = True
    try:
        records, expected = record(reference, lambda: reference(*copy_value(inputs)))
    finally:
        reference.reference = False
    returned = reference.attentions
    loaded = torch.jit.load(str(path))
    with torch.no_grad():
        output = loaded(*copy_value(inputs))
    difference = max_difference(expected, output)
    if difference > 1e-3:
        raise ValueError(f'the trace differs from the eager model by {difference}')
    batch = inputs[0].size(0)
    modules = dict(reference.named_modules())
    candidates = []
    for recorded in records:
        while 'softmax' in type(modules[recorded.name]).__name__.lower():  # nn.Softmax as a submodule of the attention
            recorded.name = recorded.name.rpartition('.')[0]
        whole = four_dimensional(recorded.weights, modules[recorded.name], batch)
        same = None
        for returned_one in returned:
            given = returned_one.detach().float()
            # Where a sink was part of the softmax (gpt-oss), Hugging Face returns the weights without it.
            part = whole[..., : given.size(-1)] if given.dim() == 4 and given.size(-1) == whole.size(-1) - 1 else whole
            if given.numel() == part.numel() and max_difference(given.reshape(-1), part.reshape(-1)) < 1e-6:
                same = part
        candidates.append((recorded, whole if same is None else same.contiguous(), same is not None))
    # Some models return a part of their attentions (Swin: one of each stage) or the scores before the softmax: what
    # ran in modules of the same classes, or in classes named for attention where nothing matched, counts as well.
    classes = {type(modules[recorded.name]) for recorded, _, same in candidates if same}
    ranks = {recorded.weights.dim() for recorded, _, same in candidates if same}
    wanted = [
        same or (type(modules[r.name]) in classes and r.weights.dim() in ranks)
        or (type(modules[r.name]) not in classes and bool(re.search('attention', type(modules[r.name]).__name__, re.I)))
        for r, _, same in candidates
    ]
    kept = [(recorded, whole) for (recorded, whole, _), want in zip(candidates, wanted) if want]
    unmatched = [f'{r.name} {list(r.weights.shape)}' for (r, _, _), want in zip(candidates, wanted) if not want]
    seen = observed_operators(lambda: loaded(*copy_value(inputs)))
    operators = [operator for operator, want in zip(seen, wanted) if want] if len(seen) == len(records) else [None] * len(kept)
    notes = []
    if len(seen) != len(records):
        notes.append(f'the trace runs {len(seen)} operators, the eager model {len(records)} softmaxes')
    if not returned:
        notes.append('the model returns no attentions: every softmax is taken for one')
    elif len(returned) != len(kept):
        notes.append(f'{len(returned)} attentions returned, {len(kept)} softmaxes matched')
    if unmatched:
        notes.append(f'no attention: {", ".join(unmatched[:4])}')
    tensors: dict[str, torch.Tensor] = {}
    described = flatten(inputs, 'input', tensors)
    described_output = flatten(output, 'output', tensors)
    attentions, weights = [], []
    for (recorded, whole), operator in zip(kept, operators):
        entry = {'name': recorded.name, 'shape': list(whole.shape)}
        if operator:
            entry['operator'] = operator
        attentions.append(entry)
        weights.append(whole)
    save_case(folder, name, tensors, attentions, weights)
    return {'name': name, 'file': path.name, 'data': f'{name}.safetensors', 'frozen': False, 'method': 'forward', 'inputs': described,
            'output': described_output, 'attentions': attentions, 'tolerance': 1e-5, 'outputTolerance': 1e-4, 'notes': '; '.join(notes)}


def pytorch(folder: Path, only: str | None):
    """PyTorch's modules in random shapes."""
    f = Fixtures(folder, only)
    skipped = []
    rng = python_random.Random(7)

    def attempt(name, file, model, how, example, cases, **options):
        try:
            saved = f.model(file, model, how, example)
            for suffix, arguments, extra in cases:
                f.case(saved, name + suffix, arguments, **extra, **options)
        except Exception as error:
            skipped.append({'name': name, 'reason': f'{type(error).__name__}: {str(error)[-300:]}'})

    W = models.WIDTH
    for trial in range(14):
        seeded(2000 + trial)
        options = dict(heads=rng.choice([1, 2, 4, 8]), nested=rng.random() < 0.4, norm_first=rng.random() < 0.5,
                       activation=rng.choice(['relu', 'gelu']), batch_first=rng.random() < 0.75)
        if options['norm_first'] or not options['batch_first']:
            options['nested'] = False
        model = prepare(models.Encoder(layers=rng.choice([1, 3]), **options))
        b, t = rng.choice([(1, 1), (1, 17), (5, 5), (4, 4), (3, 2), (2, 33), (7, 3)])
        order = (lambda x: x) if options['batch_first'] else (lambda x: x.transpose(0, 1).contiguous())
        src = order(torch.randn(b, t, W))
        lengths = [t] + [rng.randint(1, t) for _ in range(b - 1)]
        pad = padding(lengths, t)
        # Odd numbers of heads leave the fused path, and nested tensors with it.
        fused = options['heads'] % 2 == 0
        nested = {'nested': pad} if options['nested'] and fused else {}
        scripted = [('', (src,), {}), ('__padded', (src, None, pad), nested), ('__causal', (src, causal(t, trial % 2 == 0)), {})]
        attempt(f'torch_encoder_{trial}', f'torch_encoder_{trial}', model, 'script', (), scripted)
        b2, t2 = b + 1, t + 2
        other = order(torch.randn(b2, t2, W))
        plain = models.PlainEncoder(model).eval()
        attempt(f'torch_encoder_{trial}_traced', f'torch_encoder_{trial}_traced', plain, 'trace', (src,), [('', (src,), {}), ('__other', (other,), {})])
    for trial in range(10):
        seeded(2100 + trial)
        options = dict(norm_first=rng.random() < 0.5, activation=rng.choice(['relu', 'gelu']), batch_first=rng.random() < 0.75)
        model = prepare(models.Decoder(heads=rng.choice([1, 2, 4]), layers=rng.choice([1, 2]), **options))
        b, q, k = rng.choice([(1, 1, 6), (3, 3, 3), (5, 2, 5), (2, 9, 4), (4, 4, 7), (2, 1, 1)])
        order = (lambda x: x) if options['batch_first'] else (lambda x: x.transpose(0, 1).contiguous())
        tgt, memory = order(torch.randn(b, q, W)), order(torch.randn(b, k, W))
        memory_padding = padding([k] + [rng.randint(1, k) for _ in range(b - 1)], k)
        cases = [('', (tgt, memory), {}), ('__causal', (tgt, memory, causal(q)), {}), ('__padded', (tgt, memory, causal(q, True), None, None, memory_padding), {})]
        attempt(f'torch_decoder_{trial}', f'torch_decoder_{trial}', model, 'script', (), cases)
    shapes = [(1, 1), (1, 8), (8, 8), (2, 2), (4, 2), (2, 4), (16, 3), (3, 16)]
    kinds = [('matmul', models.MatmulAttention), ('bmm', models.BmmAttention), ('baddbmm', models.BaddbmmAttention), ('einsum', models.EinsumAttention), ('flat', models.FlatSdpaAttention)]
    for kind, attention in kinds:
        for heads in (1, 2, 8):
            seeded(2200 + heads)
            model = prepare(models.CalledThrice(attention(W, heads)))
            for how in ('script', 'trace'):
                cases = []
                for b, t in shapes:
                    cases.append((f'__{b}x{t}', (torch.randn(b, t, W),), {'batch': b}))
                attempt(f'torch_{kind}_{heads}_{how}', f'torch_{kind}_{heads}_{how}', model, how, (torch.randn(2, 3, W),), cases)
    return f.entries, skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--only')
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    entries, skipped = pytorch(options.out, options.only)
    print(f'torch: {len(entries)} entries', flush=True)
    more, not_made, notes = hugging_face(options.out, options.only)
    entries += more
    skipped += not_made
    more, not_made = packages(options.out, options.only)
    print(f'packages: {len(more)} entries', flush=True)
    entries += more
    skipped += not_made
    lines = ',\n    '.join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    head = json.dumps({'torch': torch.__version__.split('+')[0], 'broken': [], 'skipped': skipped, 'oneShapeOnly': notes}, indent=2)[:-2]
    (options.out / 'manifest.json').write_text(f'{head},\n  "fixtures": [\n    {lines}\n  ]\n}}\n')
    for item in skipped:
        print(f'skipped {item["name"]}: {item["reason"]}')
    for item in notes:
        print(f'one shape only: {item["name"]}: {item["reason"]}')
    print(f'{len(entries)} entries of {len({e["file"] for e in entries})} files, {len(skipped)} skipped')


if __name__ == '__main__':
    main()
