#!/usr/bin/env python3
"""Write test/fixtures/forms: a small TorchScript file for each way of writing attention in form_models.py, and a decomposed exported
program of some.

    python3 scripts/make_form_fixtures.py [--out FOLDER] [--only REGEX]

`forms.json` lists them: `attentions` with name, operator, kind, shape (of the whole, [batch…, H, Q, K]) in execution order, whose
weights [B, H, Q, K] are `<form>.weights.<i>` in `forms.safetensors`, and how many things a capture has to list as unseen. All take
`input`. The weights are what Python multiplies with the values. Needs torch 2.13.
"""

import argparse
import json
import re
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from form_models import BATCH, FORMS, LENGTH, SEEN, WIDTH
from strip_debug import strip_debug, strip_program

warnings.filterwarnings('ignore')


class Net(nn.Module):
    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x):
        return self.attention(x)


def save_decomposed(model: nn.Module, x: torch.Tensor, path: Path) -> None:
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=False).run_decompositions()
    torch.export.save(program, str(path))
    strip_program(path)
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=Path(__file__).parent.parent / 'test' / 'fixtures' / 'forms')
    parser.add_argument('--only')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    forms, tensors = [], {'input': x}
    for index, (name, described) in enumerate(FORMS.items()):
        torch.manual_seed(index)
        model = Net(described['class']()).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)
            if described['int8']:
                torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8, inplace=True)
            SEEN.clear()
            model(x)
            expected = list(SEEN)
            program = torch.jit.script(model) if described['script'] else torch.jit.trace(model, (x,), check_trace=False)
        if options.only and not re.search(options.only, name):
            continue
        if described['decomposed']:
            save_decomposed(model, x, options.out / f'{name}.decomposed.pt2')
        path = options.out / f'{name}.pt'
        torch.jit.save(program, str(path))
        strip_debug(path)
        path.chmod(0o644)
        attentions = []
        for i, each in enumerate(expected):
            weights = each['weights'].contiguous()
            assert weights.dim() == 4, (name, weights.shape)
            tensors[f'{name}.weights.{i}'] = weights
            attentions.append({'name': each['name'], 'operator': each['operator'], 'kind': each['kind'],
                               'shape': each['shape'] or list(weights.shape)})
        forms.append({'name': name, 'attentions': attentions, 'unseen': described['unseen'], 'decomposed': described['decomposed']})
    (options.out / 'forms.json').write_text(json.dumps(forms, indent=1) + '\n')
    save_file(tensors, str(options.out / 'forms.safetensors'))
    (options.out / 'forms.safetensors').chmod(0o644)
    print(f'{len(forms)} forms')


if __name__ == '__main__':
    main()
