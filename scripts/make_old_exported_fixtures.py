#!/usr/bin/env python3
"""Write a program of torch.export as this release of PyTorch saves it: test/fixtures/exported/old_<release>.pt2, with what it computes.

    python3 scripts/make_old_exported_fixtures.py [--out FOLDER]

Up to 2.7 the file is a flat archive, up to 2.8 weights are pickled. Needs torch and safetensors alone. Tied weights, views of one storage, a
buffer, one that is not persistent, a constant, dynamic sizes, a keyword and a dictionary. Made with 2.6.0, 2.7.1, 2.8.0, 2.10.0 and 2.15.0.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.export import Dim

from strip_debug import strip_program

WIDTH, HEADS = 16, 2


class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(24, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
        self.head = nn.Linear(WIDTH, 24, bias=False)
        self.head.weight = self.embedding.weight
        pair = torch.randn(2, WIDTH)
        self.first, self.second = nn.Parameter(pair[0]), nn.Parameter(pair[1])
        self.register_buffer('scale', torch.full((WIDTH,), 0.5, dtype=torch.float64))
        self.register_buffer('positions', torch.arange(32), persistent=False)

    def forward(self, ids, *, mask):
        x = self.embedding(ids) * self.scale.float() + self.first + self.second
        x = x + self.positions[: ids.shape[1]].unsqueeze(-1) * torch.tensor(0.01)
        hidden = self.layer(x, src_key_padding_mask=mask)
        return {'logits': self.head(hidden), 'hidden': (hidden, ids.shape[1])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=Path(__file__).resolve().parent.parent / 'test/fixtures/exported')
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    release = '.'.join(torch.__version__.split('+')[0].split('.')[:2])
    name = f'old_{release.replace(".", "_")}'
    model = Old().eval()
    ids, mask = torch.randint(1, 24, (2, 5)), torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True
    length = Dim('length', min=2, max=32)
    program = torch.export.export(model, (ids,), {'mask': mask}, dynamic_shapes={'ids': {1: length}, 'mask': {1: length}}, strict=True)
    path = options.out / f'{name}.pt2'
    torch.export.save(program, path)
    other, none = torch.randint(1, 24, (2, 9)), torch.zeros(2, 9, dtype=torch.bool)
    none[0, 8:] = True
    tensors = {}
    for i, (given, padding) in enumerate(((ids, mask), (other, none))):
        with torch.no_grad():
            output = torch.export.load(path).module()(given, mask=padding)
        tensors |= {f'{i}.ids': given, f'{i}.mask': padding, f'{i}.logits': output['logits'], f'{i}.hidden': output['hidden'][0]}
    for key, tensor in program.state_dict.items():
        tensors[f'state.{key}'] = tensor.detach().clone().contiguous()
    strip_program(path)
    save_file(tensors, str(options.out / f'{name}.safetensors'))
    print(name, path.stat().st_size)


if __name__ == '__main__':
    main()
