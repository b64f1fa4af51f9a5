#!/usr/bin/env python3
"""Write test/fixtures/exported/hooks.json: what Python's hooks get of eager models, and the programs that were exported of those.

    python3 scripts/make_exported_hook_fixtures.py [--out FOLDER]

Every case is a program with `calls`: of each call of a module that Python's hooks saw, in order, its input
(positional; `named` are the tensors by name) and output.
`replaced` are outputs of the model with one hook, which halves what passes (`pre`, `forward`), and of a case with `gradients` what full
backward hooks get. Tensors as in exported.json. Seeded, with torch 2.13.0 and transformers 5.23.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from make_exported_fixtures import BATCH, HEADS, LENGTH, ROOT, VOCABULARY, WIDTH, copied, described, tokens
from strip_debug import strip_program


def halved(value):
    return torch.utils._pytree.tree_map(lambda leaf: leaf * 0.5 if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, value)


class Parts(nn.Module):
    """A module in it takes a keyword and gives a dictionary, one gives a tuple with None, one is called twice, one is given one tensor thrice."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x, pair, *, scale, nothing=None):
            return {'sum': self.linear(x) * scale + pair[0], 'pair': (pair[1] * 2, None)}

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            return torch.relu(self.inner(x))

    class Both(nn.Module):
        """Gives one of its inputs back beside something else."""

        def forward(self, x, y):
            return x, y.sin()

    def __init__(self):
        super().__init__()
        self.table, self.twice, self.both = Parts.Table(), Parts.Twice(), Parts.Both()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x, y):
        made = self.table(x, (y, x), scale=y.mean())
        z = self.twice(self.twice(made['sum']) + 1) + made['pair'][0]
        kept, changed = self.both(z, y)
        return self.norm(self.attention(kept, kept, kept, need_weights=False)[0] + changed + kept)


class Inplace(nn.Module):
    """Modules that write into what they are given, or into what they made."""

    class Writes(nn.Module):
        def forward(self, x):
            return x.add_(1)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu = nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.linear(x))

    def __init__(self):
        super().__init__()
        self.writes, self.own = Inplace.Writes(), Inplace.Own()

    def forward(self, x):
        y = x * 2
        return self.own(self.writes(y)) + y


class Same(nn.Module):
    """A module that casts its input to the type that it has: the exporter takes both for one value, also in the sum behind it."""

    class Norm(nn.Module):
        def forward(self, x):
            wide = x.to(torch.float32)
            return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1)

    def __init__(self):
        super().__init__()
        self.norm, self.dropout, self.linear = Same.Norm(), nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = x * 2
        z = self.norm(y) + y
        return self.linear(self.dropout(z)) + z


class Fixtures:
    def __init__(self, folder: Path):
        self.folder, self.cases = folder, []

    def case(self, name, model, args, kwargs=None, *, preserve=(), dynamic=None, strict=False, replaced=(), gradients=()):
        torch.manual_seed(0)
        model, kwargs = model.eval(), kwargs or {}
        with torch.no_grad() if not gradients else torch.enable_grad():
            program = torch.export.export(model, copied(args), copied(kwargs), dynamic_shapes=dynamic, strict=strict,
                                          preserve_module_call_signature=preserve)
        path = self.folder / f'{name}.pt2'
        torch.export.save(program, path)
        strip_program(path)
        tensors, calls, inputs = {}, [], []

        def record(module_name):
            def before(module, given, named):
                inputs.append(copied((given, named)))

            def after(module, given, output):
                number, (given, named) = len(calls), inputs.pop()
                named = [leaf for leaf in torch.utils._pytree.tree_leaves(named) if isinstance(leaf, Tensor)]
                calls.append({'module': module_name, 'input': described(list(given), f'{number}.in', tensors),
                              'named': described(named, f'{number}.named', tensors),
                              'output': described(copied(output), f'{number}.out', tensors)})

            return before, after

        handles = []
        for module_name, module in model.named_modules():
            before, after = record(module_name)
            handles += [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
        given = {'inputs': [described(each, f'in.{i}', tensors) for i, each in enumerate(args)],
                 'kwargs': {key: described(each, f'in.{key}', tensors) for key, each in kwargs.items()}}
        with torch.no_grad():
            output = model(*copied(args), **copied(kwargs))
        for handle in handles:
            handle.remove()
        changed = []
        for kind, module_name in replaced:
            module = model.get_submodule(module_name)
            if kind == 'pre':
                handle = module.register_forward_pre_hook(lambda module, given: halved(given))
            else:
                handle = module.register_forward_hook(lambda module, given, output: halved(output))
            with torch.no_grad():
                other = model(*copied(args), **copied(kwargs))
            handle.remove()
            changed.append({'module': module_name, 'kind': kind,
                            'output': described(other, f'replaced.{len(changed)}', tensors)})
        backward = []
        for module_name in gradients:
            got = []
            handle = model.get_submodule(module_name).register_full_backward_hook(lambda module, *both: got.append(both))
            leaves = torch.utils._pytree.tree_leaves(model(*copied(args), **copied(kwargs)))
            sum(leaf.pow(2).sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad).backward()
            handle.remove()
            for i, both in enumerate(got):
                backward.append({'module': module_name,
                                 'input': described(list(both[0]), f'backward.{module_name}.{i}.in', tensors),
                                 'output': described(list(both[1]), f'backward.{module_name}.{i}.out', tensors)})
        save_file(tensors, str(self.folder / f'{name}.safetensors'))
        for file in (path, self.folder / f'{name}.safetensors'):
            file.chmod(0o644)
            assert file.stat().st_size < 200_000, (file, file.stat().st_size)
        self.cases.append({'name': name, **given, 'output': described(output, 'out', tensors), 'calls': calls, 'replaced': changed,
                           'gradients': backward})
        save_file(tensors, str(self.folder / f'{name}.safetensors'))
        print(f'{name}: {len(calls)} calls, {len(changed)} replaced, {path.stat().st_size} bytes')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=ROOT / 'test/fixtures/exported')
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # exporters don't take it either
    fixtures = Fixtures(options.out)
    x, y = torch.randn(BATCH, LENGTH, WIDTH), torch.randn(BATCH, LENGTH, WIDTH)
    exact = ('table', 'table.linear', 'twice', 'both', 'attention', 'norm')
    fixtures.case('hooked_parts', Parts(), (x, y), preserve=exact, gradients=('table.linear', 'twice', 'norm'),
                  replaced=[('pre', 'table'), ('forward', 'table'), ('pre', 'twice'), ('forward', 'twice'), ('forward', 'attention'),
                            ('pre', 'norm'), ('forward', 'norm'), ('forward', ''), ('pre', ''), ('forward', 'twice.inner')])
    fixtures.case('hooked_parts_plain', Parts(), (x, y), replaced=[('forward', 'twice'), ('pre', 'norm'), ('forward', 'twice.inner')],
                  gradients=('norm', 'twice.inner'))
    fixtures.case('hooked_parts_strict', Parts(), (x, y), strict=True, replaced=[('forward', 'twice'), ('pre', 'norm')])
    fixtures.case('hooked_inplace', Inplace(), (x,), replaced=[('forward', 'own'), ('forward', 'own.linear')])
    for suffix, preserve in (('', ('norm',)), ('_plain', ())):
        fixtures.case(f'hooked_same{suffix}', Same(), (x,), preserve=preserve,
                      replaced=[('forward', 'norm'), ('forward', 'dropout'), ('pre', 'dropout')])
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True), 2)
    length = Dim('length', min=2, max=32)
    fixtures.case('hooked_encoder', encoder, (x,), preserve=('layers.0', 'layers.1', 'layers.1.linear1'), dynamic=({1: length},),
                  replaced=[('forward', 'layers.0'), ('pre', 'layers.1'), ('forward', 'layers.0.norm1'), ('forward', 'layers.1.linear1')],
                  gradients=('layers.0', 'layers.1', 'layers.0.linear2'))
    import transformers as t

    config = t.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=0, hidden_size=WIDTH, num_hidden_layers=2,
                          num_attention_heads=HEADS, intermediate_size=32, attn_implementation='sdpa')
    mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    mask[1, 3:] = 0
    layer = 'encoder.layer.1'
    fixtures.case('hooked_bert', t.BertModel(config), (tokens(BATCH, LENGTH),), {'attention_mask': mask},
                  preserve=('encoder.layer.0.attention',),
                  replaced=[('forward', 'embeddings'), ('forward', f'{layer}.intermediate'), ('pre', f'{layer}.attention.self.query'),
                            ('forward', 'encoder.layer.0.attention'), ('forward', 'pooler')],
                  gradients=(f'{layer}.intermediate',))
    (options.out / 'hooks.json').write_text(json.dumps(fixtures.cases, indent=1) + '\n')


if __name__ == '__main__':
    main()
