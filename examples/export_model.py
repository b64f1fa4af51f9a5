#!/usr/bin/env python3
"""Export a Hugging Face model for libtorch-attention, as a program of torch.export (.pt2) and as TorchScript (.pt), with its tokenizer.

    python3 examples/export_model.py google-bert/bert-base-uncased
    python3 examples/export_model.py FOLDER --class AutoModelForSequenceClassification --format export --out bert

MODEL is a name on the Hub, or a folder with a config.json. Files are checked against the model before the script ends: what they compute for
inputs of other sizes, too. Needs torch 2.9 or later and transformers. See docs/exporting.md for which format to choose.
"""

import argparse
import inspect
import warnings
from pathlib import Path

import torch
import transformers

FORMATS = {'export': '.pt2', 'torchscript': '.pt'}


def example_inputs(model, batch: int, length: int) -> dict:
    """Inputs of those sizes, by the names of forward's parameters."""
    config, names = model.config, inspect.signature(model.forward).parameters
    text = getattr(config, 'text_config', config)
    inputs = {}
    if 'pixel_values' in names:
        vision = getattr(config, 'vision_config', config)
        size = getattr(vision, 'image_size', 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        inputs['pixel_values'] = torch.rand(batch, getattr(vision, 'num_channels', 3), height, width)
    if 'input_features' in names:
        inputs['input_features'] = torch.rand(batch, config.num_mel_bins, 2 * config.max_source_positions)
    if 'input_values' in names:
        inputs['input_values'] = torch.rand(batch, 400 * length)
    if 'input_ids' in names:
        # Token 0 often means padding, and the last ones end a text: some models look for those.
        inputs['input_ids'] = torch.randint(1, min(text.vocab_size - 1, 1000), (batch, length))
        if getattr(text, 'eos_token_id', None) is not None and 'pixel_values' in names:
            inputs['input_ids'][:, -1] = text.eos_token_id
        if 'attention_mask' in names:
            inputs['attention_mask'] = torch.ones(batch, length, dtype=torch.int64)
    if 'decoder_input_ids' in names:
        inputs['decoder_input_ids'] = torch.randint(1, min(text.vocab_size - 1, 1000), (batch, max(2, length // 2)))
    if not inputs:
        raise SystemExit(f'Expected a model that takes text, images or sound but {type(model).__name__} takes {", ".join(names)}')
    return inputs


def leaves(output) -> list:
    """The tensors of an output, in order."""
    flat = torch.utils._pytree.tree_leaves(dict(output) if hasattr(output, 'items') else output)
    return [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]


def dynamic_shapes(inputs: dict, fixed: bool):
    """Batch and lengths may differ from run to run; sizes of images and sounds may not."""
    if fixed:
        return None
    auto = torch.export.Dim.AUTO
    free = {'pixel_values': 1, 'input_features': 1}
    return {name: {dim: auto for dim in range(free.get(name, tensor.dim()))} for name, tensor in inputs.items()}


def export(model, inputs: dict, path: Path, options) -> callable:
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_shapes(inputs, options.fixed), strict=False,
                                  preserve_module_call_signature=tuple(options.hooks))
    torch.export.save(program, path)
    return torch.export.load(path).module()


def trace(model, inputs: dict, path: Path, options) -> callable:
    with torch.no_grad():
        traced = torch.jit.trace(model, example_kwarg_inputs=inputs, strict=False, check_trace=False)
    torch.jit.save(traced, path)
    return torch.jit.load(path)


def check(model, loaded, inputs: dict, what: str) -> None:
    with torch.no_grad():
        expected, found = leaves(model(**inputs)), leaves(loaded(**inputs))
    furthest = max(((a - b).abs().max().item() for a, b in zip(expected, found) if a.is_floating_point() and a.numel()), default=0)
    if len(expected) != len(found) or not furthest < 1e-3:
        raise SystemExit(f'{what}: the file gives other values than the model, {furthest} away')
    sizes = ', '.join(f'{name} {list(tensor.shape)}' for name, tensor in inputs.items())
    print(f'  {what}: {len(found)} tensors for {sizes}, at most {furthest:.1e} away')


def save_tokenizer(model: str, path: Path) -> None:
    """The tokenizer that comes with a model of texts, as the file that `view` and others take; nothing where there is none."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError, ImportError):
        return
    if getattr(tokenizer, 'is_fast', False):
        tokenizer.backend_tokenizer.save(str(path))
        print(f'{path} (tokenizer)')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('--class', dest='kind', default='AutoModel', help='the class of transformers that loads it (AutoModel)')
    parser.add_argument('--format', choices=[*FORMATS, 'both'], default='both')
    parser.add_argument('--attention', choices=['sdpa', 'eager'], default='sdpa', help='how transformers computes attention')
    parser.add_argument('--batch', type=int, default=2, help='of the example inputs; 2 or more, so that it may differ later')
    parser.add_argument('--length', type=int, default=16, help='of the example inputs, in tokens')
    parser.add_argument('--fixed', action='store_true', help='export for these sizes alone')
    parser.add_argument('--hooks', nargs='*', default=[], metavar='MODULE', help='modules whose hooks get exactly what Python\'s get (.pt2)')
    parser.add_argument('--out', help='the files, without their endings (the name of the model)')
    options = parser.parse_args()
    warnings.filterwarnings('ignore')
    torch.manual_seed(0)
    model = getattr(transformers, options.kind).from_pretrained(options.model, attn_implementation=options.attention).eval()
    for module in model.modules():
        if hasattr(getattr(module, 'config', None), 'use_cache'):
            module.config.use_cache = False  # caches are no outputs of a single forward
    inputs = example_inputs(model, options.batch, options.length)
    others = inputs if options.fixed else example_inputs(model, options.batch + 1, options.length + 3)
    stem = options.out or options.model.rstrip('/').split('/')[-1]
    save_tokenizer(options.model, Path(f'{stem}-tokenizer.json'))
    for name, ending in FORMATS.items():
        if options.format not in (name, 'both'):
            continue
        path = Path(stem + ending)
        print(f'{path} ({name})')
        loaded = (export if name == 'export' else trace)(model, inputs, path, options)
        check(model, loaded, inputs, 'same sizes')
        if not options.fixed:
            check(model, loaded, others, 'other sizes')


if __name__ == '__main__':
    main()
