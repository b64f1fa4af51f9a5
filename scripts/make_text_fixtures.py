"""Writes the small models that the tests of text inputs run: test/fixtures/cli/{positions_*,segments,encoder_decoder,sharp}.pt."""

from pathlib import Path

import torch
from strip_debug import strip_debug
from torch import Tensor, nn

FOLDER = Path(__file__).parent.parent / 'test' / 'fixtures' / 'cli'
WORDS, WIDTH, POSITIONS = 13, 8, 8


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projections = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.projections(x).view(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(1, 2).flatten(-2)


class Positions(nn.Module):
    """Adds a learned embedding of each position, of which there are eight."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.attention = Attention()
        self.register_buffer('position_ids', torch.arange(POSITIONS)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        positions = self.position_embeddings(self.position_ids[:, : input_ids.shape[1]])
        return self.attention(self.word_embeddings(input_ids) + positions) * attention_mask[:, :, None]


class Segments(nn.Module):
    """Its third parameter has a name that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.attention = Attention()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor) -> Tensor:
        return self.attention(self.words(input_ids) + self.kinds(segments)) * attention_mask[:, :, None]


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.attention = Attention()

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return self.attention(self.words(torch.cat([input_ids, decoder_input_ids], 1)))


class Sharp(nn.Module):
    """The first head looks at the token itself, the others are exactly 0; the second looks at all up to it: a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        length = input_ids.shape[1]
        own = torch.eye(length)[None] * torch.tensor([1000.0, 0.0])[:, None, None]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = own.masked_fill(later, -torch.inf)[None].softmax(-1)
        return weights @ self.words(input_ids)[:, None].expand(-1, 2, -1, -1)


def main() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[2, 4, 5, 3]])
    positions = Positions().eval()
    models = {
        'positions_trace': torch.jit.trace(positions, (ids, torch.ones_like(ids))),
        'positions_script': torch.jit.script(positions),
        'segments': torch.jit.script(Segments().eval()),
        'encoder_decoder': torch.jit.script(EncoderDecoder().eval()),
        'sharp': torch.jit.script(Sharp().eval()),
    }
    for name, model in models.items():
        path = FOLDER / f'{name}.pt'
        model.save(str(path))
        strip_debug(path)
        print(path.name, path.stat().st_size)


main()
