"""The small models that make_fixtures saves. Every class shows one way in which checkpoints compute attention."""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS = 16, 2


def heads_apart(x: Tensor, heads: int) -> Tensor:
    return x.view(x.size(0), x.size(1), heads, -1).transpose(1, 2)


def heads_together(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.size(0), x.size(2), -1)


class Projected(nn.Module):
    def __init__(self, width: int = WIDTH, heads: int = HEADS):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)


class MatmulAttention(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_apart(self.query(x), self.heads), heads_apart(self.key(x), self.heads),
                   heads_apart(self.value(x), self.heads))
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), -1)
        return self.out(heads_together(weights @ v))


class BmmAttention(Projected):
    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = heads_apart(self.query(x), self.heads).reshape(b * self.heads, t, -1)
        k = heads_apart(self.key(x), self.heads).reshape(b * self.heads, t, -1)
        v = heads_apart(self.value(x), self.heads).reshape(b * self.heads, t, -1)
        weights = F.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.5, dim=-1)
        return self.out(heads_together(torch.bmm(weights, v).view(b, self.heads, t, -1)))


class BaddbmmAttention(Projected):
    """Scores by baddbmm onto a position bias, as Bloom does; the product with the values is a baddbmm too."""

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = heads_apart(self.query(x), self.heads).reshape(b * self.heads, t, -1)
        k = heads_apart(self.key(x), self.heads).reshape(b * self.heads, t, -1)
        v = heads_apart(self.value(x), self.heads).reshape(b * self.heads, t, -1)
        bias = torch.arange(t, dtype=x.dtype).view(1, 1, t).expand(b * self.heads, 1, t)
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=0.25, alpha=0.5)
        mixed = torch.baddbmm(v, F.dropout(scores.softmax(-1), 0.1, self.training), v)
        return self.out(heads_together(mixed.view(b, self.heads, t, -1)))


class EinsumAttention(Projected):
    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k = self.query(x).view(b, t, self.heads, -1), self.key(x).view(b, t, self.heads, -1)
        v = self.value(x).view(b, t, self.heads, -1)
        weights = torch.einsum('bqhd,bkhd->bhqk', [q, k]).softmax(dim=-1)
        return self.out(torch.einsum('bhqk,bkhd->bqhd', [weights, v]).reshape(b, t, -1))


class KeysBeforeHeadsAttention(Projected):
    """Weights laid out [B, Q, K, H], the softmax over dimension 2."""

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k = self.query(x).view(b, t, self.heads, -1), self.key(x).view(b, t, self.heads, -1)
        v = self.value(x).view(b, t, self.heads, -1)
        weights = torch.einsum('bqhd,bkhd->bqkh', [q, k]).softmax(dim=2)
        return self.out(torch.einsum('bqkh,bkhd->bqhd', [weights, v]).reshape(b, t, -1))


class LongWayAttention(Projected):
    """Mask, float32 softmax, cast back, dropout, a head mask and a reshape between the scores and the product."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS):
        super().__init__(width, heads)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer('head_mask', torch.tensor([1.0, 0.5]).view(1, heads, 1, 1))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k = heads_apart(self.query(x), self.heads), heads_apart(self.key(x), self.heads)
        v = heads_apart(self.value(x), self.heads).reshape(b * self.heads, t, -1)
        scores = torch.matmul(q, k.transpose(-2, -1)).masked_fill(hidden[:, None, None, :], -1e4)
        weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
        weights = self.dropout(weights) * self.head_mask.to(x.dtype)
        mixed = torch.bmm(weights.view(b * self.heads, t, t), v)
        return self.out(heads_together(mixed.view(b, self.heads, t, -1)))


class MaskedAfterAttention(Projected):
    """The weights of hidden keys are put to zero after the softmax, as DeBERTa does."""

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        q, k = heads_apart(self.query(x), self.heads), heads_apart(self.key(x), self.heads)
        scores = torch.matmul(q, k.transpose(-2, -1))
        weights = torch.softmax(scores, -1).masked_fill(hidden[:, None, None, :], 0.0)
        return self.out(heads_together(torch.matmul(weights, heads_apart(self.value(x), self.heads))))


class SingleHeadAttention(Projected):
    """Weights [B, Q, K]: one head, no head dimension."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) * 0.25, -1)
        return self.out(weights @ self.value(x))


class SecondOperandAttention(Projected):
    """The values come first: bmm(v, weightsᵀ), as in the attention blocks of image autoencoders."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.bmm(self.query(x), self.key(x).transpose(1, 2)).mul(0.25).softmax(2)
        return self.out(torch.bmm(self.value(x).transpose(1, 2), weights.permute(0, 2, 1)).transpose(1, 2))


class SdpaAttention(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k = heads_apart(self.query(x), self.heads), heads_apart(self.key(x), self.heads)
        v = heads_apart(self.value(x), self.heads)
        return self.out(heads_together(F.scaled_dot_product_attention(q, k, v)))


class FlatSdpaAttention(Projected):
    """scaled_dot_product_attention on [B·H, Q, E]."""

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = heads_apart(self.query(x), self.heads).reshape(b * self.heads, t, -1)
        k = heads_apart(self.key(x), self.heads).reshape(b * self.heads, t, -1)
        v = heads_apart(self.value(x), self.heads).reshape(b * self.heads, t, -1)
        return self.out(heads_together(F.scaled_dot_product_attention(q, k, v).view(b, self.heads, t, -1)))


class SdpaCall(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor] = None, is_causal: bool = False,
                scale: Optional[float] = None, enable_gqa: bool = False) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale,
                                              enable_gqa=enable_gqa)


class SdpaNet(nn.Module):
    """Hands its arguments to scaled_dot_product_attention, in a submodule named `attention`."""

    def __init__(self):
        super().__init__()
        self.attention = SdpaCall()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor] = None, is_causal: bool = False,
                scale: Optional[float] = None, enable_gqa: bool = False) -> Tensor:
        return self.attention(query, key, value, mask, is_causal, scale, enable_gqa)


class RootSdpa(nn.Module):
    """The attention in the root module itself, whose name is ''."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class Block(nn.Module):
    def __init__(self, attention: nn.Module, width: int = WIDTH):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = attention
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.feed_forward(x)


class Stack(nn.Module):
    """Blocks in a ModuleList, with a classifier whose softmax is no attention."""

    def __init__(self, attention, layers: int = 2):
        super().__init__()
        self.blocks = nn.ModuleList([Block(attention()) for _ in range(layers)])
        self.classifier = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return torch.softmax(self.classifier(x.mean(1)), -1)


class MaskedStack(nn.Module):
    def __init__(self, attention, layers: int = 2):
        super().__init__()
        self.layers = nn.ModuleList([attention() for _ in range(layers)])

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x, hidden)
        return x


class Encoder(nn.Module):
    def __init__(self, layers: int = 2, heads: int = HEADS, nested: bool = False, width: int = WIDTH, **options):
        super().__init__()
        options.setdefault('batch_first', True)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.1, **options)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested)

    def forward(self, src: Tensor, mask: Optional[Tensor] = None, padding: Optional[Tensor] = None,
                is_causal: Optional[bool] = None) -> Tensor:
        return self.transformer_encoder(src, mask=mask, src_key_padding_mask=padding, is_causal=is_causal)


class PlainEncoder(nn.Module):
    """Without optional arguments, for tracing."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.transformer_encoder = encoder.transformer_encoder

    def forward(self, src: Tensor) -> Tensor:
        return self.transformer_encoder(src)


class PaddedEncoder(nn.Module):
    def __init__(self, encoder: Encoder):
        super().__init__()
        self.transformer_encoder = encoder.transformer_encoder

    def forward(self, src: Tensor, padding: Tensor) -> Tensor:
        return self.transformer_encoder(src, src_key_padding_mask=padding)


class Decoder(nn.Module):
    def __init__(self, layers: int = 2, heads: int = HEADS, **options):
        super().__init__()
        options.setdefault('batch_first', True)
        layer = nn.TransformerDecoderLayer(WIDTH, heads, 2 * WIDTH, 0.1, **options)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Optional[Tensor] = None,
                memory_mask: Optional[Tensor] = None, tgt_padding: Optional[Tensor] = None,
                memory_padding: Optional[Tensor] = None) -> Tensor:
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_padding,
                            memory_key_padding_mask=memory_padding)


class Seq2Seq(nn.Module):
    def __init__(self, **options):
        super().__init__()
        options.setdefault('batch_first', True)
        self.transformer = nn.Transformer(WIDTH, HEADS, 1, 2, 2 * WIDTH, 0.1, **options)

    def forward(self, src: Tensor, tgt: Tensor, tgt_mask: Optional[Tensor] = None, src_padding: Optional[Tensor] = None,
                tgt_padding: Optional[Tensor] = None, memory_padding: Optional[Tensor] = None,
                src_mask: Optional[Tensor] = None) -> Tensor:
        return self.transformer(src, tgt, src_mask=src_mask, tgt_mask=tgt_mask, src_key_padding_mask=src_padding,
                                tgt_key_padding_mask=tgt_padding, memory_key_padding_mask=memory_padding)


class TracedSeq2Seq(nn.Module):
    def __init__(self, inner: Seq2Seq):
        super().__init__()
        self.transformer = inner.transformer

    def forward(self, src: Tensor, tgt: Tensor, tgt_mask: Tensor, src_padding: Tensor) -> Tensor:
        return self.transformer(src, tgt, tgt_mask=tgt_mask, src_key_padding_mask=src_padding,
                                memory_key_padding_mask=src_padding)


class WithWeights(nn.Module):
    """nn.MultiheadAttention asked for its weights by the model itself."""

    def __init__(self, average: bool = True, **options):
        super().__init__()
        options.setdefault('batch_first', True)
        self.average = average
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, **options)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Optional[Tensor] = None
                ) -> Tuple[Tensor, Optional[Tensor]]:
        return self.mha(query, key, value, key_padding_mask=padding, need_weights=True, average_attn_weights=self.average)


class SelfWithWeights(nn.Module):
    """The same on one tensor: in eval mode this is the fused kernel."""

    def __init__(self, **options):
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)

    def forward(self, x: Tensor, padding: Optional[Tensor] = None, mask: Optional[Tensor] = None
                ) -> Tuple[Tensor, Optional[Tensor]]:
        return self.mha(x, x, x, key_padding_mask=padding, need_weights=True, attn_mask=mask)


class SelfWithoutWeights(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)

    def forward(self, x: Tensor, padding: Optional[Tensor] = None, mask: Optional[Tensor] = None) -> Tensor:
        return self.mha(x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask)[0]


class WithoutWeights(nn.Module):
    def __init__(self, **options):
        super().__init__()
        options.setdefault('batch_first', True)
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, **options)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        return self.mha(query, key, value, attn_mask=mask, need_weights=False)[0]


class CalledThrice(nn.Module):
    """One module called three times in one forward: traced, it has forward, forward1 and forward2."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        x = x + self.attention(x * 0.5)
        return x + self.attention(x)


class TwoOfAClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = MatmulAttention()
        self.second = MatmulAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(x) + self.first(x)
        return self.second(x)


class TwoNames(nn.Module):
    """One module object registered under two names."""

    def __init__(self):
        super().__init__()
        self.encoder_attention = SdpaAttention()
        self.decoder_attention = self.encoder_attention

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder_attention(self.encoder_attention(x))


class Containers(nn.Module):
    def __init__(self):
        super().__init__()
        self.sequence = nn.Sequential(SdpaAttention(), nn.Sequential(nn.LayerNorm(WIDTH), MatmulAttention()))
        self.by_name = nn.ModuleDict({'local': SdpaAttention(), 'global_': MatmulAttention()})
        self.listed = nn.ModuleList([nn.ModuleList([SdpaAttention(), MatmulAttention()])])

    def forward(self, x: Tensor) -> Tensor:
        x = self.sequence(x)
        for _, module in self.by_name.items():
            x = x + module(x)
        for inner in self.listed:
            for module in inner:
                x = x + module(x)
        return x


class Forked(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = SdpaAttention()
        self.right = MatmulAttention()

    def forward(self, x: Tensor) -> Tensor:
        left = torch.jit.fork(self.left, x)
        right = torch.jit.fork(self.right, x * 2.0)
        return torch.jit.wait(left) + torch.jit.wait(right)


class Looped(nn.Module):
    """One attention, called as often as the second input says."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, times: int) -> Tensor:
        for _ in range(times):
            x = x + self.attention(x)
        return x


class Halting(nn.Module):
    """Calls its attention until the data says stop; another attention in one branch."""

    def __init__(self):
        super().__init__()
        self.attention = SdpaAttention()
        self.large = MatmulAttention()
        self.small = MatmulAttention()

    def forward(self, x: Tensor) -> Tensor:
        steps = 0
        while bool(x.abs().max() > 0.3) and steps < 4:
            x = self.attention(x) * 0.5
            steps += 1
        if x.size(1) > 4:
            x = self.large(x)
        else:
            x = self.small(x)
        return x


class Nothing(nn.Module):
    """No attention; a classifier's softmax."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.classifier = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.classifier(torch.relu(self.hidden(x))), dim=-1)


class TopKRouter(nn.Module):
    """A mixture of experts beside an attention: the router's softmax is none."""

    def __init__(self, experts: int = 4):
        super().__init__()
        self.attention = MatmulAttention()
        self.router = nn.Linear(WIDTH, experts)
        self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(experts)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        weights, chosen = torch.topk(torch.softmax(self.router(x), -1), 2, -1)
        mixed = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            share = (weights * (chosen == index).to(weights.dtype)).sum(-1, keepdim=True)
            mixed = mixed + share * expert(x)
        return mixed


class DenseRouter(nn.Module):
    """Every expert's output weighted by the router's softmax with one bmm; no keys are compared with queries."""

    def __init__(self, experts: int = 4):
        super().__init__()
        self.router = nn.Linear(WIDTH, experts)
        self.experts = nn.Linear(WIDTH, experts * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.size(-1))
        weights = torch.softmax(self.router(flat), -1)
        outputs = self.experts(flat).view(flat.size(0), weights.size(-1), -1)
        return torch.bmm(weights.unsqueeze(1), outputs).view_as(x)


class BoxExpectation(nn.Module):
    """The expectation of a distribution over bins, as in YOLO's box regression: softmax times a constant vector."""

    def __init__(self, bins: int = 8):
        super().__init__()
        self.bins = bins
        self.boxes = nn.Linear(WIDTH, 4 * bins)
        self.register_buffer('positions', torch.arange(bins, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        b, a, _ = x.shape
        return self.boxes(x).view(b, a, 4, self.bins).softmax(3).matmul(self.positions)


class BoxConvolution(nn.Module):
    """The same expectation as a 1×1 convolution over [B, bins, 4, A]."""

    def __init__(self, bins: int = 8):
        super().__init__()
        self.bins = bins
        self.boxes = nn.Linear(WIDTH, 4 * bins)
        self.expectation = nn.Conv2d(bins, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, a, _ = x.shape
        scores = self.boxes(x).transpose(1, 2).view(b, 4, self.bins, a).transpose(2, 1)
        return self.expectation(scores.softmax(1)).view(b, 4, a)


class SoftEmbedding(nn.Module):
    """Probabilities over a vocabulary times the embedding table: a product with a parameter."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(WIDTH, 7)
        self.embedding = nn.Embedding(7, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.scores(x), -1) @ self.embedding.weight


class Item(NamedTuple):
    hidden: Tensor
    length: int


class Nested(nn.Module):
    """Tuples, lists, dicts, optionals and a named tuple, in and out."""

    def __init__(self):
        super().__init__()
        self.attention = SdpaAttention()

    def forward(self, pair: Tuple[Tensor, int], items: List[Tensor], table: Dict[str, Tensor], maybe: Optional[Tensor],
                flag: bool, name: str, rate: float, numbers: List[int]
                ) -> Tuple[Dict[str, Tensor], List[Tensor], Item, Optional[Tensor], Tuple[int, str], List[float]]:
        x, times = pair
        x = x * float(times) + table['shift'] * rate
        for item in items:
            x = x + item
        if maybe is not None:
            x = x + maybe
        y = self.attention(x)
        nothing: Optional[Tensor] = None
        if flag:
            nothing = y[:, 0]
        return ({'out': y, name: x}, [y.sum(-1), y.mean(-1)], Item(y, numbers[0] + len(numbers)), nothing, (times, name),
                [rate, rate * 2.0])


class Methods(nn.Module):
    """Other methods than forward, and some that fail."""

    def __init__(self):
        super().__init__()
        self.attention = MatmulAttention()
        self.embedding = nn.Embedding(10, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)

    @torch.jit.export
    def encode(self, tokens: Tensor, scale: float = 2.0) -> Tensor:
        return self.attention(self.embedding(tokens) * scale)

    @torch.jit.export
    def add(self, a: int, b: int) -> int:
        return a + b

    @torch.jit.export
    def refuse(self, x: Tensor) -> Tensor:
        if x.dim() > 0:
            raise ValueError('this model refuses tensors with dimensions')
        return x

    @torch.jit.export
    def fail_late(self, x: Tensor) -> Tensor:
        y = self.attention(x)
        assert y.size(0) == 1000, 'a batch of 1000 was expected'
        return y

    @torch.jit.export
    def out_of_range(self, x: Tensor) -> Tensor:
        return self.embedding(torch.full([2, 3], 99)) + x


class Stateful(nn.Module):
    """Counts its calls and adds up what it was given."""

    def __init__(self):
        super().__init__()
        self.counter = 0
        self.register_buffer('total', torch.zeros(1))
        self.attention = SdpaAttention()

    def forward(self, x: Tensor) -> Tuple[Tensor, int, Tensor]:
        self.counter += 1
        self.total += x.sum()
        y = self.attention(x)
        return y * float(self.counter), self.counter, self.total.clone()


class Caching(nn.Module):
    """A key and value cache as attributes: each call attends to the keys of all calls so far."""

    keys: Optional[Tensor]

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.keys = None

    def forward(self, x: Tensor) -> Tensor:
        keys = self.keys
        k = heads_apart(x, 2)
        if keys is not None:
            k = torch.cat([keys, k], 2)
        self.keys = k
        return heads_together(F.scaled_dot_product_attention(heads_apart(self.query(x), 2), k, k))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(-2, -1), -1) @ value


class FreeFunction(nn.Module):
    """The attention in a function that several modules call."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([FreeFunctionLayer(), FreeFunctionLayer()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.inner:
            x = layer(x)
        return attend(x[:, None], x[:, None], x[:, None])[:, 0]


class FreeFunctionLayer(Projected):
    def forward(self, x: Tensor) -> Tensor:
        q, k = heads_apart(self.query(x), self.heads), heads_apart(self.key(x), self.heads)
        return self.out(heads_together(attend(q, k, heads_apart(self.value(x), self.heads))))


@torch.jit.interface
class AttentionInterface(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class ThroughInterface(nn.Module):
    """The attention's class is known at run time only."""

    attention: AttentionInterface

    def __init__(self):
        super().__init__()
        self.attention = SdpaAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention.forward(x)


class InterfaceTwice(ThroughInterface):
    """The same module behind an interface, called twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.attention.forward(torch.tanh(self.attention.forward(x)))


class Positions(nn.Module):
    """Integer buffers beside floating-point parameters, as Hugging Face's embeddings have them."""

    def __init__(self):
        super().__init__()
        self.attention = SdpaAttention()
        self.table = nn.Embedding(16, WIDTH)
        self.register_buffer('positions', torch.arange(16)[None])
        self.register_buffer('kinds', torch.zeros(1, 16, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        kinds = torch.gather(self.kinds, 1, self.positions[:, :x.size(1)])
        return self.attention(x + self.table(self.positions[:, :x.size(1)]) + self.table(kinds))


class Mixed(nn.Module):
    """A container for a traced part in a scripted model, or the other way round."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.part = attention

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.part(x))
