"""Makes the models of hooks.mjs: 12 layers × 512, random weights.

    python3 bench/make_hook_model.py FOLDER

hooks_scripted.pt  nn.TransformerEncoder, scripted: its fused fast path
hooks_traced.pt    a hand-written encoder on scaled_dot_product_attention, traced
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, LAYERS = 512, 8, 12


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.projection(x).chunk(3, -1))
        x = self.norm1(x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True)
    fused = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).eval()
    torch.jit.save(torch.jit.script(fused), str(folder / 'hooks_scripted.pt'))
    torch.jit.save(torch.jit.trace(Encoder().eval(), torch.randn(1, 128, WIDTH)), str(folder / 'hooks_traced.pt'))


main()
