#!/usr/bin/env python3
"""Write the models whose times are taken: an encoder as BERT's and a decoder as Llama's, with random weights.

    python3 make_models.py FOLDER [--tiny]

`bert.pt`: 12 layers, width 768, 12 heads, float32. `llama.pt`: 12 layers, width 2048, 32 heads on 8, bfloat16, causal.
Both take embeddings [1, T, width], so that no vocabulary travels; models.json says their sizes. With --tiny: two layers of
width 32, as in test/fixtures/gpu-check.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

warnings.filterwarnings('ignore')
sys.path.append(str(Path(__file__).resolve().parent.parent))  # strip_debug, where the tiny ones are made


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int, causal: bool):
        super().__init__()
        self.head, self.causal, self.grouped = width // heads, causal, key_heads != heads
        self.query = nn.Linear(width, width, bias=not causal)
        self.key = nn.Linear(width, self.head * key_heads, bias=not causal)
        self.value = nn.Linear(width, self.head * key_heads, bias=not causal)
        self.out = nn.Linear(width, width, bias=not causal)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.size(0), x.size(1)
        q = self.query(x).view(b, t, -1, self.head).transpose(1, 2)
        k = self.key(x).view(b, t, -1, self.head).transpose(1, 2)
        v = self.value(x).view(b, t, -1, self.head).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=self.grouped)
        return self.out(mixed.transpose(1, 2).reshape(b, t, -1))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = Attention(width, heads, heads, False)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class RootMeanSquare(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int):
        super().__init__()
        self.attention = Attention(width, heads, key_heads, True)
        self.norm1, self.norm2 = RootMeanSquare(width), RootMeanSquare(width)
        self.gate = nn.Linear(width, 8 * width // 3, bias=False)
        self.up = nn.Linear(width, 8 * width // 3, bias=False)
        self.down = nn.Linear(8 * width // 3, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--tiny', action='store_true')
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    layers = 2 if arguments.tiny else 12
    bert = {'width': 32, 'heads': 4} if arguments.tiny else {'width': 768, 'heads': 12}
    llama = {'width': 32, 'heads': 4, 'key_heads': 2} if arguments.tiny else {'width': 2048, 'heads': 32, 'key_heads': 8}
    # Made where there is a GPU if there is one: a second instead of many for the large one's random numbers.
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    described = {}
    for name, layer, sizes, dtype in [
        ('bert', EncoderLayer, bert, torch.float32),
        ('llama', DecoderLayer, llama, torch.bfloat16),
    ]:
        with torch.device(device), torch.no_grad():
            model = nn.Sequential(*[layer(**sizes) for _ in range(layers)]).to(dtype).eval()
            model.requires_grad_(False)
            example = torch.randn(1, 16, sizes['width'], dtype=dtype)
            traced = torch.jit.trace(model, (example,), check_trace=False).cpu()
        traced.save(str(arguments.folder / f'{name}.pt'))
        if arguments.tiny:
            from strip_debug import strip_debug

            strip_debug(arguments.folder / f'{name}.pt')
        described[name] = {**sizes, 'layers': layers, 'dtype': str(dtype).removeprefix('torch.')}
    (arguments.folder / 'models.json').write_text(json.dumps(described, indent=2) + '\n')


main()
