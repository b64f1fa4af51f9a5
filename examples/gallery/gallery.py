"""What the scripts of the gallery share: where a package keeps its weights, and from an exported model to its picture."""

import json
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

warnings.filterwarnings('ignore')
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ['node', str(ROOT / 'dist' / 'cli' / 'main.js')]


def weights_of(package: str, path: str) -> Path:
    """The folder in an installed package, which isn't imported: some of these ask for releases of years ago."""
    spec = find_spec(package)
    if spec is None:
        raise SystemExit(f'Expected the package {package} but it is not installed: examples/gallery/README.md has the command')
    return Path(spec.submodule_search_locations[0]) / path


def inputs_of(tokens: list, folder: Path) -> dict:
    """What a BERT takes for one text of these tokens, by the vocab.txt of its folder."""
    index = {token: index for index, token in enumerate((folder / 'vocab.txt').read_text().split('\n')) if token}
    ids = torch.tensor([[index[token] for token in tokens]])
    return {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}


def tokens_of_smiles(smiles: str) -> list:
    """The tokens of a reaction written as SMILES: atoms, bonds, rings and branches."""
    return ['[CLS]', *re.findall(r'\[[^\]]+\]|Br|Cl|>>|%\d\d|[A-Za-z0-9()=#+.:~@?>*$/\\-]', smiles), '[SEP]']


def export(model, inputs: dict, ending: str) -> Path:
    """As a program of torch.export (.pt2), of any length, or as a TorchScript trace (.pt)."""
    path = file_for(ending)
    if ending == '.pt2':
        shapes = {name: {1: torch.export.Dim.AUTO} for name in inputs}
        torch.export.save(torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=False), path)
    else:
        with torch.no_grad():
            torch.jit.save(torch.jit.trace(model, example_kwarg_inputs=inputs, strict=False, check_trace=False), path)
    return path


def picture(model_file: Path, inputs: dict, tokens, title: str, layer: int, head: int, queries: str = '') -> None:
    """Writes NAME.html, a page of all heads, and NAME.png, one head (or some of its rows), beside the model."""
    save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, model_file.with_suffix('.safetensors'))
    model_file.with_suffix('.json').write_text(json.dumps(tokens))
    view = [*COMMAND, 'view', model_file, '--inputs', model_file.with_suffix('.safetensors'), '--tokens', model_file.with_suffix('.json')]
    figure = ['--png', model_file.with_suffix('.png'), '--layer', layer, '--head', head, '--scale', 'root', '--pixel-ratio', 1, *(['--queries', queries] if queries else [])]
    for options in (['--title', title, '--out', model_file.with_suffix('.html')], figure):
        subprocess.run([str(part) for part in [*view, *options]], check=True)


def file_for(ending: str) -> Path:
    """The model's file: named after the script, in the folder that is its argument, or here."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else '.')
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (Path(sys.argv[0]).stem + ending)
