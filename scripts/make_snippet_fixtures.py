#!/usr/bin/env python3
"""Write test/fixtures/snippets/: the small models that the snippets of documents and docstrings run.

    python3 scripts/make_snippet_fixtures.py

A snippet shows what readers would write of models of their own, so these have the names of those: a BERT (as TorchScript with two layers, or
with twelve, and as a program of torch.export), and a decoder that takes and returns key/value caches. Weights are random, seeded; with torch 2.13.0.
"""

import math
import warnings
from pathlib import Path
from typing import List, Optional, Tuple

import torch
from safetensors.torch import save
from strip_debug import strip_debug, strip_program
from torch import Tensor, nn

warnings.filterwarnings('ignore')
FOLDER = Path(__file__).resolve().parent.parent / 'test' / 'fixtures' / 'snippets'
VOCABULARY, WIDTH, HEADS, POSITIONS = 64, 8, 4, 512


def heads_of(x: Tensor, heads: int = HEADS) -> Tensor:
    return x.view(x.size(0), x.size(1), heads, -1).transpose(1, 2)


class BertSelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        scores = torch.matmul(heads_of(self.query(x)), heads_of(self.key(x)).transpose(-1, -2)) / math.sqrt(x.size(2) // self.heads)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
        context = torch.matmul(torch.softmax(scores, -1), heads_of(self.value(x)))
        return context.transpose(1, 2).flatten(2)


class BertAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self = BertSelfAttention()
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        return self.output(self.self(x, mask))


class BertLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = BertAttention()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.intermediate, self.output = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.output(nn.functional.gelu(self.intermediate(x))))


class BertEncoder(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([BertLayer() for _ in range(layers)])

    def forward(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertEmbeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        # Snippets have ids of vocabularies that are larger than this one.
        words = self.word_embeddings(input_ids.remainder(self.word_embeddings.num_embeddings))
        return words + self.position_embeddings.weight[: input_ids.size(1)]


@torch.jit.script
class RunningMean:
    """What an object of a class is for: state that goes from call to call."""

    def __init__(self, total: Tensor, count: int):
        self.total = total
        self.count = count


class BertModel(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings()
        self.encoder = BertEncoder(layers)

    def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None) -> Tensor:
        return self.encoder(self.embeddings(input_ids), attention_mask)


class ScriptedBertModel(BertModel):
    @torch.jit.export
    def encode(self, input_ids: Tensor) -> Tensor:
        """[B, E]: the mean over positions."""
        return self.forward(input_ids, None).mean(1)

    @torch.jit.export
    def start(self, input_ids: Tensor) -> RunningMean:
        return RunningMean(self.forward(input_ids, None), 1)

    @torch.jit.export
    def step(self, input_ids: Tensor, state: RunningMean) -> Tensor:
        state.total += self.forward(input_ids, None)
        state.count += 1
        return state.total / state.count


class CausalAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projections, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.projections(x).chunk(3, -1)
        keys, values = torch.cat([keys, heads_of(key)], 2), torch.cat([values, heads_of(value)], 2)
        past, length = keys.size(2) - x.size(1), x.size(1)
        mask = torch.arange(keys.size(2))[None] <= torch.arange(past, past + length)[:, None]
        mixed = nn.functional.scaled_dot_product_attention(heads_of(query), keys, values, mask)
        return self.out(mixed.transpose(1, 2).flatten(2)), keys, values


class GptModel(nn.Module):
    """Takes the tokens that are new, and a list of keys and values by layer, or None ahead of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings()
        self.h = nn.ModuleList([CausalAttention() for _ in range(2)])
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(
        self, input_ids: Tensor, caches: Optional[List[Tuple[Tensor, Tensor]]] = None
    ) -> Tuple[Tensor, List[Tuple[Tensor, Tensor]]]:
        x = self.embeddings(input_ids)
        none = heads_of(x)[:, :, :0]
        updated: List[Tuple[Tensor, Tensor]] = []
        for i, block in enumerate(self.h):
            keys, values = (none, none) if caches is None else caches[i]
            mixed, keys, values = block(x, keys, values)
            x = x + mixed
            updated.append((keys, values))
        return self.lm_head(x), updated


class Head(nn.Module):
    """A classifier whose output has names."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None):
        hidden = self.bert(input_ids, attention_mask)
        return {'logits': self.classifier(hidden[:, 0]), 'hidden': hidden}


def script(name: str, model: nn.Module) -> None:
    torch.jit.script(model.eval()).save(FOLDER / name)
    strip_debug(FOLDER / name)


def export(name: str, model: nn.Module, inputs: tuple, kwargs: dict, dynamic_shapes: dict) -> None:
    program = torch.export.export(model.eval(), inputs, kwargs, dynamic_shapes=dynamic_shapes)
    torch.export.save(program, FOLDER / name)
    strip_program(FOLDER / name)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    script('bert.pt', ScriptedBertModel(2))
    script('bert_base.pt', ScriptedBertModel(12))
    script('gpt.pt', GptModel())

    ids, mask = torch.randint(VOCABULARY, (2, 5)), torch.ones(2, 5, dtype=torch.int64)
    sizes = {0: torch.export.Dim('batch', max=64), 1: torch.export.Dim('length', max=POSITIONS)}
    export('bert.pt2', Head(BertModel(2)), (ids,), {'attention_mask': mask}, {'input_ids': sizes, 'attention_mask': sizes})

    inputs = {'input_ids': ids[:1], 'attention_mask': mask[:1]}
    (FOLDER / 'inputs.safetensors').write_bytes(save(inputs))

    layer = nn.TransformerEncoderLayer(d_model=16, nhead=4, dim_feedforward=32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    weights = {f'transformer.encoder.{name}': tensor for name, tensor in encoder.state_dict().items()}
    (FOLDER / 'encoder.safetensors').write_bytes(save(weights))


if __name__ == '__main__':
    main()
