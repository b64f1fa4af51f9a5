"""Makes the models of the benchmark, with random weights.

    python3 bench/make_models.py FOLDER NAME …

encoder.pt            nn.TransformerEncoder, 12 layers of 512, 8 heads, feed-forward 2048; scripted: its fused path
encoder_traced.pt     the same measures, hand-written on scaled_dot_product_attention; traced
bert.pt               BERT-like, 6 layers of 384, 12 heads, feed-forward 1536, sdpa; traced from transformers
bert.pt2              the same by torch.export, batch and tokens dynamic
bert.onnx             the same weights, eager
bert_attentions.onnx  the same with the attentions as outputs
large.pt, large.pt2   BERT's own measures, 12 layers of 768 and 30,522 tokens (430 MB), in both formats
long.pt               one layer of width 64 and 4 heads on scaled_dot_product_attention, for long sequences; traced
peaked.pt             like bert.pt, 12 layers, with large query weights, so that heads look at something; traced
tiny.pt               one attention of width 16, to measure what a call costs; scripted
identity.pt           returns its input; scripted

Says in one line what it leaves out and why.
"""

import os
import sys
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer_encoder(x)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projection, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.projection(x).chunk(3, -1))
        x = self.norm1(x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class Stack(nn.Module):
    def __init__(self, width: int, heads: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.projection(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)


SMALL = {
    "vocab_size": 1000, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "max_position_embeddings": 4096,
}


def bert(attention: str, sizes: dict = SMALL) -> nn.Module:
    """The same weights whatever the attention."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    return BertModel(BertConfig(**sizes, attn_implementation=attention), add_pooling_layer=False).eval()


def peaked() -> nn.Module:
    model = bert("sdpa", {**SMALL, "num_hidden_layers": 12})
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.self.query.weight.mul_(12)
    return model


class HiddenState(nn.Module):
    """Only tensors in and out, as tracing wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).last_hidden_state


class WithAttentions(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        output = self.model(input_ids=input_ids, output_attentions=True)
        return (output.last_hidden_state, *output.attentions)


def scripted(make):
    return lambda path: torch.jit.script(make().eval()).save(path)


def traced(make, example):
    # Checked by the benchmark, which compares outputs; a trace that is checked here takes three times as long.
    return lambda path: torch.jit.trace(make().eval(), example(), check_trace=False).save(path)


def example_ids():
    return torch.randint(0, 1000, (2, 512))


def exported(make, example):
    def save(path):
        sizes = {dimension: torch.export.Dim.AUTO for dimension in range(2)}
        program = torch.export.export(make().eval(), (example(),), dynamic_shapes=(sizes,))
        torch.export.save(program, path)

    return save


def onnx(wrap, attentions: int):
    def save(path):
        import onnx  # noqa: F401  the exporter needs it and says so only at its end

        names = ["output"] + [f"attention_{layer}" for layer in range(attentions)]
        axes = {"input_ids": {0: "batch", 1: "tokens"}, "output": {0: "batch", 1: "tokens"}}
        axes.update({name: {0: "batch", 2: "tokens", 3: "keys"} for name in names[1:]})
        # Not the exporter of torch.export: onnxruntime 1.31 gives other outputs for its file with attentions (0.1 off).
        torch.onnx.export(
            wrap(bert("eager")), (example_ids(),), path, input_names=["input_ids"], output_names=names,
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )

    return save


MODELS = {
    "encoder.pt": scripted(Encoder),
    "encoder_traced.pt": traced(lambda: Stack(512, 8, 12), lambda: torch.randn(2, 128, 512)),
    "bert.pt": traced(lambda: HiddenState(bert("sdpa")), example_ids),
    "peaked.pt": traced(lambda: HiddenState(peaked()), example_ids),
    "bert.pt2": exported(lambda: HiddenState(bert("sdpa")), example_ids),
    "bert.onnx": onnx(HiddenState, 0),
    "bert_attentions.onnx": onnx(WithAttentions, 6),
    "large.pt": traced(lambda: HiddenState(bert("sdpa", {})), example_ids),
    "large.pt2": exported(lambda: HiddenState(bert("sdpa", {})), example_ids),
    "long.pt": traced(lambda: Stack(64, 4, 1), lambda: torch.randn(2, 128, 64)),
    "tiny.pt": scripted(Tiny),
    "identity.pt": scripted(nn.Identity),
}


def main(folder, names):
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = os.path.join(folder, name)
        torch.manual_seed(1)
        try:
            with torch.no_grad():
                MODELS[name](path + ".part")
            os.replace(path + ".part", path)
        except ImportError as error:
            # A package that is there and can't be imported has no name here.
            print(f"{name} needs {error.name}: python3 -m pip install {error.name}" if error.name else f"{name}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
