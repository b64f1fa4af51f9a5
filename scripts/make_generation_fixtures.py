#!/usr/bin/env python3
"""Write test/fixtures/generation/: TorchScript decoders that take and return key/value caches, and their attentions in Python.

    python3 scripts/make_generation_fixtures.py [--out FOLDER]

Every case of generation.json is a sequence fed in pieces: `steps` with the inputs of each (`{"$tensor": name}` is a tensor of
generation.safetensors, `{"$output": [i, …]}` a part of what the step before returned) and the attentions that an eager run of it computed,
and `whole`: the attentions of one run on the whole sequence with empty caches. Hugging Face models have random weights and are traced.
Seeded, with torch 2.13.0 and transformers 5.23.
"""

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from reference import record
from strip_debug import strip_debug

warnings.filterwarnings('ignore')
ROOT = Path(__file__).resolve().parent.parent
VOCABULARY, WIDTH, HEADS, BATCH, LENGTH, ROOM = 24, 16, 2, 2, 7, 10
SIZE = WIDTH // HEADS
PIECES = (4, 1, 1, 1)


def heads_of(x: Tensor, heads: int = HEADS, size: int = SIZE) -> Tensor:
    return x.view(x.size(0), x.size(1), heads, size).transpose(1, 2)


def no_entries(batch: int, heads: int = HEADS, size: int = SIZE) -> Tensor:
    return torch.zeros(batch, heads, 0, size)


def visible(queries: int, keys: int, offset: int) -> Tensor:
    """True where query offset + i may see key j."""
    return torch.arange(keys)[None] <= torch.arange(offset, offset + queries)[:, None]


class Attention(nn.Module):
    """Attention to keys and values that the caller keeps; fused, or written by hand."""

    def __init__(self, fused: bool):
        super().__init__()
        self.fused = fused
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def entries(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return heads_of(self.key(x)), heads_of(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Optional[Tensor]) -> Tensor:
        query = heads_of(self.query(x))
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, keys, values, mask)
        else:
            scores = query @ keys.transpose(-2, -1) / math.sqrt(query.size(-1))
            if mask is not None:
                scores = scores.masked_fill(~mask, -math.inf)
            mixed = torch.softmax(scores, -1) @ values
        return self.out(mixed.transpose(1, 2).reshape(x.size(0), x.size(1), -1))


class Block(nn.Module):
    def __init__(self, fused: bool):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = Attention(fused)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        normed = self.norm(x)
        key, value = self.attention.entries(normed)
        past = keys.size(2)
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        mask = visible(x.size(1), keys.size(2), past)
        return x + self.attention(normed, keys, values, mask), keys, values

    @torch.jit.export
    def fixed(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        normed = self.norm(x)
        key, value = self.attention.entries(normed)
        places = torch.arange(position, position + x.size(1))
        keys.index_copy_(2, places, key)
        values.index_copy_(2, places, value)
        return x + self.attention(normed, keys, values, visible(x.size(1), keys.size(2), position))


class Decoder(nn.Module):
    """Two layers, the first by hand and the second fused. One method for each way to pass caches."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(ROOM, WIDTH)
        self.first, self.second = Block(False), Block(True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def enter(self, tokens: Tensor, position: int) -> Tensor:
        return self.embed(tokens) + self.place(torch.arange(position, position + tokens.size(1)))

    def forward(self, tokens: Tensor, past: Optional[List[Tuple[Tensor, Tensor]]]
                ) -> Tuple[Tensor, List[Tuple[Tensor, Tensor]]]:
        if past is None:
            none = no_entries(tokens.size(0))
            past = [(none, none), (none, none)]
        x = self.enter(tokens, past[0][0].size(2))
        x, k0, v0 = self.first(x, past[0][0], past[0][1])
        x, k1, v1 = self.second(x, past[1][0], past[1][1])
        return self.head(x), [(k0, v0), (k1, v1)]

    @torch.jit.export
    def flat(self, tokens: Tensor, past: List[Tensor]) -> List[Tensor]:
        """Logits and caches in one list."""
        logits, now = self.forward(tokens, [(past[0], past[1]), (past[2], past[3])] if len(past) > 0 else None)
        return [logits, now[0][0], now[0][1], now[1][0], now[1][1]]

    @torch.jit.export
    def nested(self, tokens: Tensor, past: List[List[Tensor]]) -> Tuple[Tensor, List[List[Tensor]]]:
        logits, now = self.forward(tokens, [(past[0][0], past[0][1]), (past[1][0], past[1][1])] if len(past) > 0 else None)
        return logits, [[now[0][0], now[0][1]], [now[1][0], now[1][1]]]

    @torch.jit.export
    def named(self, tokens: Tensor, past: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        logits, now = self.forward(tokens, [(past['k0'], past['v0']), (past['k1'], past['v1'])] if len(past) > 0 else None)
        return logits, {'k0': now[0][0], 'v0': now[0][1], 'k1': now[1][0], 'v1': now[1][1]}

    @torch.jit.export
    def fixed(self, tokens: Tensor, position: int, caches: List[Tensor]) -> Tuple[Tensor, List[Tensor]]:
        """Caches of a fixed length that are written in place; keys that aren't there yet are masked."""
        x = self.enter(tokens, position)
        x = self.first.fixed(x, caches[0], caches[1], position)
        x = self.second.fixed(x, caches[2], caches[3], position)
        return self.head(x), caches


class Translator(nn.Module):
    """The encoder runs in the first step only; `recall` looks at what was written before, so not in the first step."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder, self.cross, self.recall = Attention(True), Attention(True), Attention(False)
        self.decoder = Block(True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, source: Optional[Tensor], tokens: Tensor, past: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        caches: Dict[str, Tensor] = {}
        if source is not None:
            memory = self.embed(source)
            keys, values = self.encoder.entries(memory)
            memory = memory + self.encoder(memory, keys, values, None)
            caches['cross_keys'], caches['cross_values'] = self.cross.entries(memory)
        else:
            caches['cross_keys'], caches['cross_values'] = past['cross_keys'], past['cross_values']
        x = self.embed(tokens)
        if 'keys' in past:
            x = x + self.recall(x, past['keys'], past['values'], None)
        none = no_entries(x.size(0))
        x, caches['keys'], caches['values'] = self.decoder(x, past['keys'] if 'keys' in past else none,
                                                           past['values'] if 'values' in past else none)
        x = x + self.cross(x, caches['cross_keys'], caches['cross_values'], None)
        return self.head(x), caches


class Causal(nn.Module):
    """What a user writes to trace a decoder of Hugging Face: flat caches in and out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, *past: Tensor):
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache(ddp_cache_data=list(zip(past[::2], past[1::2])))
        result = self.model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return result.logits, [each for layer in result.past_key_values.layers for each in (layer.keys, layer.values)]


class Conditional(nn.Module):
    """The same for the decoder of an encoder-decoder: the encoder's output goes in, keys of the cross-attention are made anew."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, memory: Tensor, *past: Tensor):
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        cache = EncoderDecoderCache(DynamicCache(ddp_cache_data=list(zip(past[::2], past[1::2]))), DynamicCache())
        result = self.model(decoder_input_ids=tokens, encoder_outputs=(memory,), past_key_values=cache, use_cache=True)
        layers = result.past_key_values.self_attention_cache.layers
        return result.logits, [each for layer in layers for each in (layer.keys, layer.values)]


def prepare(model: nn.Module) -> nn.Module:
    """Eval mode, and weights large enough for attention that is far from uniform."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and not any(part in name for part in ('embed', 'place', 'shared', 'wte', 'wpe')):
                parameter.copy_(torch.randn_like(parameter) * 1.6 / math.sqrt(parameter.size(1)))
    return model.eval()


class Output:
    """A part of what the step before returned."""

    def __init__(self, *path):
        self.path = list(path)

    def of(self, value):
        for key in self.path:
            value = value[key]
        return value


def fill(value, output):
    if isinstance(value, Output):
        return value.of(output)
    if isinstance(value, list):
        return [fill(each, output) for each in value]
    if isinstance(value, dict):
        return {key: fill(each, output) for key, each in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


class Fixtures:
    def __init__(self, folder: Path):
        self.folder = folder
        self.tensors: Dict[str, Tensor] = {}
        self.cases: list = []

    def ref(self, value):
        if isinstance(value, Tensor):
            name = str(len(self.tensors))
            self.tensors[name] = value.detach().clone().contiguous()
            return {'$tensor': name}
        if isinstance(value, Output):
            return {'$output': value.path}
        if isinstance(value, (list, tuple)):
            return [self.ref(each) for each in value]
        if isinstance(value, dict):
            return {key: self.ref(each) for key, each in value.items()}
        return value

    def save(self, file: str, script) -> None:
        path = self.folder / file
        torch.jit.save(script, str(path))
        strip_debug(path)

    def case(self, name: str, file: str, model: nn.Module, steps: list, whole: list, method: str = 'forward') -> None:
        """`steps` and `whole`: inputs, with Output for what comes from the step before."""
        loaded = torch.jit.load(str(self.folder / file)).eval()
        described, parts, output, seen = [], [], None, None
        for inputs in steps:
            # The caches of each run are its own: they may be written in place.
            records, next_output = record(model, lambda: getattr(model, method)(*fill(inputs, output)))
            with torch.no_grad():
                seen = getattr(loaded, method)(*fill(inputs, seen))
            output = next_output
            assert (seen[0] - output[0]).abs().max() < 1e-4, name
            parts.append(output[0])
            described.append({
                'inputs': self.ref(inputs), 'logits': self.ref(output[0]),
                'attentions': [{'name': each.name, 'weights': self.ref(each.weights)} for each in records],
            })
        records, logits = record(model, lambda: getattr(model, method)(*fill(whole, None)))
        assert (torch.cat(parts, 1) - logits[0]).abs().max() < 1e-4, name
        self.cases.append({
            'name': name, 'file': file, 'method': method, 'steps': described,
            'whole': [{'name': each.name, 'weights': self.ref(each.weights)} for each in records],
        })

    def write(self) -> None:
        save_file(self.tensors, str(self.folder / 'generation.safetensors'))
        (self.folder / 'generation.json').write_text(json.dumps(self.cases, separators=(',', ':')) + '\n')


def pieces(tokens: Tensor) -> List[Tensor]:
    return list(tokens.split(PIECES, 1))


def decoder_cases(fixtures: Fixtures) -> None:
    model = prepare(Decoder())
    script = torch.jit.script(model)
    fixtures.save('decoder.pt', script)
    fixtures.save('decoder_frozen.pt', torch.jit.freeze(script))
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    first, *rest = pieces(tokens)

    for name, file in [('tuples', 'decoder.pt'), ('tuples, frozen', 'decoder_frozen.pt')]:
        fixtures.case(name, file, model, [[first, None], *([each, Output(1)] for each in rest)], [tokens, None])
    caches = [Output(i) for i in range(1, 5)]
    fixtures.case('a flat list', 'decoder.pt', model, [[first, []], *([each, caches] for each in rest)], [tokens, []], 'flat')
    fixtures.case('a list of lists', 'decoder.pt', model, [[first, []], *([each, Output(1)] for each in rest)], [tokens, []], 'nested')
    fixtures.case('a dictionary', 'decoder.pt', model, [[first, {}], *([each, Output(1)] for each in rest)], [tokens, {}], 'named')
    empty = [torch.zeros(BATCH, HEADS, ROOM, SIZE) for _ in range(4)]
    steps, position = [], 0
    for each in (first, *rest):
        steps.append([each, position, Output(1) if steps else empty])
        position += each.size(1)
    fixtures.case('a fixed length', 'decoder.pt', model, steps, [tokens, 0, empty], 'fixed')
    fixtures.case('one token from the start', 'decoder.pt', model,
                  [[each, Output(1) if i else None] for i, each in enumerate(tokens.split(1, 1))], [tokens, None])


def translator_cases(fixtures: Fixtures) -> None:
    model = prepare(Translator())
    source, tokens = torch.randint(0, VOCABULARY, (BATCH, 5)), torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    first, *rest = pieces(tokens)
    steps = [[source, first, {}], *([None, each, Output(1)] for each in rest)]
    # One run on the whole sequence recalls nothing: for the same logits, what is recalled counts for nothing.
    with torch.no_grad():
        model.recall.out.weight.zero_()
        model.recall.out.bias.zero_()
    fixtures.save('translator.pt', torch.jit.script(model))
    fixtures.case('an encoder in the first step', 'translator.pt', model, steps, [source, tokens, {}])


def hugging_face_cases(fixtures: Fixtures) -> None:
    import transformers as t

    common = dict(vocab_size=VOCABULARY)
    causal = [
        ('gpt2', t.GPT2Config(**common, n_embd=WIDTH, n_layer=2, n_head=HEADS, n_positions=32, resid_pdrop=0, embd_pdrop=0,
                              attn_pdrop=0, bos_token_id=1, eos_token_id=2), 'sdpa', HEADS, SIZE),
        ('llama', t.LlamaConfig(**common, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                                num_key_value_heads=2, max_position_embeddings=32), 'eager', 2, WIDTH // 4),
    ]
    for name, config, kind, heads, size in causal:
        model = Causal(prepare(t.AutoModelForCausalLM.from_config(config, attn_implementation=kind)))
        example = (torch.randint(0, VOCABULARY, (1, 3)), *(torch.randn(1, heads, 2, size) for _ in range(4)))
        fixtures.save(f'{name}.pt', torch.jit.trace(model.eval(), example, check_trace=False))
        tokens, none = torch.randint(0, VOCABULARY, (BATCH, LENGTH)), no_entries(BATCH, heads, size)
        first, *rest = pieces(tokens)
        caches = [Output(1, i) for i in range(4)]
        fixtures.case(f'Hugging Face, {name}', f'{name}.pt', model, [[first, *[none] * 4], *([each, *caches] for each in rest)],
                      [tokens, *[none] * 4])
    conditional = [
        ('t5', t.T5ForConditionalGeneration, t.T5Config(
            **common, d_model=WIDTH, d_kv=SIZE, d_ff=24, num_layers=2, num_heads=HEADS, dropout_rate=0, decoder_start_token_id=1,
            relative_attention_num_buckets=8), 'eager'),
        ('bart', t.BartForConditionalGeneration, t.BartConfig(
            **common, d_model=WIDTH, encoder_layers=1, decoder_layers=2, encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32, dropout=0,
            attention_dropout=0, activation_dropout=0), 'sdpa'),
    ]
    for name, factory, config, kind in conditional:
        model = Conditional(prepare(factory._from_config(config, attn_implementation=kind)))
        example = (torch.randint(3, VOCABULARY, (1, 3)), torch.randn(1, 5, WIDTH), *(torch.randn(1, HEADS, 2, SIZE) for _ in range(4)))
        fixtures.save(f'{name}.pt', torch.jit.trace(model.eval(), example, check_trace=False))
        tokens, memory = torch.randint(3, VOCABULARY, (BATCH, LENGTH)), torch.randn(BATCH, 6, WIDTH)
        none = no_entries(BATCH)
        first, *rest = pieces(tokens)
        caches = [Output(1, i) for i in range(4)]
        fixtures.case(f'Hugging Face, {name}', f'{name}.pt', model,
                      [[first, memory, *[none] * 4], *([each, memory, *caches] for each in rest)], [tokens, memory, *[none] * 4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'test' / 'fixtures' / 'generation')
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    fixtures = Fixtures(folder)
    decoder_cases(fixtures)
    translator_cases(fixtures)
    hugging_face_cases(fixtures)
    fixtures.write()


if __name__ == '__main__':
    main()
