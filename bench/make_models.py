"""Makes the models of the benchmark: TorchScript files with random weights, and what the peers need of them.

    python3 bench/make_models.py FOLDER

encoder.pt   nn.TransformerEncoder, 12 layers of 512, 8 heads, feed-forward 2048, batch first; scripted
bert.pt      BERT-like, 6 layers of 384, 12 heads, feed-forward 1536, sdpa; traced from Hugging Face transformers
bert.onnx    the same with eager attention and the attentions as outputs, where the package onnx is installed
tiny.pt      one attention of width 16, to measure what a call costs; scripted

Says in one line what it leaves out and why. Files that exist are kept.
"""

import os
import sys
import warnings

import torch
from torch import nn

warnings.filterwarnings('ignore')


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transformer_encoder(x)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.projection(x).chunk(3, -1)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def bert_config(attention):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=1000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        max_position_embeddings=32768, attn_implementation=attention,
    )


def bert(attention):
    from transformers import BertModel

    torch.manual_seed(1)
    return BertModel(bert_config(attention), add_pooling_layer=False).eval()


class HiddenState(nn.Module):
    """Only tensors in and out, as tracing wants it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).last_hidden_state


class WithAttentions(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        output = self.model(input_ids=input_ids, output_attentions=True)
        return (output.last_hidden_state, *output.attentions)


def save_bert(path):
    ids = torch.randint(0, 1000, (1, 512))
    with torch.no_grad():
        # Checked by the caller's own runs; a trace that is checked here takes three times as long.
        traced = torch.jit.trace(HiddenState(bert('sdpa')), ids, check_trace=False)
    traced.save(path)


def save_onnx(path):
    import onnx  # noqa: F401  says by its absence that there is nothing to do

    ids = torch.randint(0, 1000, (1, 512))
    names = ['output'] + [f'attention_{layer}' for layer in range(6)]
    axes = {'input_ids': {0: 'batch', 1: 'tokens'}, 'output': {0: 'batch', 1: 'tokens'}}
    axes.update({name: {0: 'batch', 2: 'tokens', 3: 'keys'} for name in names[1:]})
    torch.onnx.export(
        WithAttentions(bert('eager')), (ids,), path, input_names=['input_ids'], output_names=names,
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )


def save_scripted(make, path):
    torch.manual_seed(1)
    torch.jit.script(make().eval()).save(path)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    steps = {
        'encoder.pt': lambda path: save_scripted(Encoder, path),
        'tiny.pt': lambda path: save_scripted(Tiny, path),
        'bert.pt': save_bert,
        'bert.onnx': save_onnx,
    }
    for name, step in steps.items():
        path = os.path.join(folder, name)
        if os.path.exists(path):
            continue
        try:
            step(path + '.part')
            os.replace(path + '.part', path)
        except ImportError as error:
            print(f'left out: {name} ({error})')


if __name__ == '__main__':
    main(sys.argv[1])
