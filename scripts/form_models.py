"""Ways of writing attention, one a class. Each tells in eager mode, by `seen`, the weights that multiply its values."""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, BATCH, LENGTH = 16, 2, 2, 6
DEPTH = WIDTH // HEADS

FORMS: dict = {}
SEEN: list = []  # of the form that runs: [B, H, Q, K] and what else is expected


def seen(weights: Tensor, kind: str = 'softmax', operator: str = 'softmax', name: str = 'attention', shape=None) -> None:
    SEEN.append({'weights': weights.detach().clone(), 'kind': kind, 'operator': operator, 'name': name, 'shape': shape})


def form(inputs=None, unseen: int = 0, script: bool = False, decomposed: bool = False, int8: bool = False):
    """A form: what its inputs are, how many things it leaves unseen; whether there is a decomposed program of it, too; whether its
    layers are quantized."""

    def add(cls):
        FORMS[cls.__name__] = {
            'class': cls, 'inputs': inputs, 'unseen': unseen, 'script': script, 'decomposed': decomposed, 'int8': int8,
        }
        return cls

    return add


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.extra()

    def extra(self):
        pass

    def apart(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), HEADS, DEPTH).transpose(1, 2)

    def together(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(1, 2).reshape(x.size(0), x.size(2), WIDTH))

    def qkv(self, x: Tensor):
        return self.apart(self.query(x)), self.apart(self.key(x)), self.apart(self.value(x))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.transpose(-2, -1) / math.sqrt(DEPTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)
        return self.together(self.mix(self.scores(q, k), v))

    def mix(self, scores: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError


class Between(Attention):
    """What is done to the softmax's result before it multiplies the values."""

    kind = 'unnormalized'

    def mix(self, scores, v):
        weights = self.between(scores.softmax(-1))
        seen(weights, self.kind)
        return weights @ v


# ---- between softmax and product -----------------------------------------------------------------------------------


@form()
class Epsilon(Between):
    def between(self, w):
        return w + 1e-8


@form()
class Renormalized(Between):
    kind = 'softmax'

    def between(self, w):
        w = w + 1e-3
        return w / w.sum(-1, keepdim=True)


@form()
class RenormalizedMask(Between):
    kind = 'softmax'

    def between(self, w):
        w = w * torch.ones(LENGTH, LENGTH).tril()
        return w / (w.sum(dim=-1, keepdim=True) + 1e-6)


@form()
class NormalizedByNorm(Between):
    def between(self, w):
        return F.normalize(w, p=2.0, dim=-1)


@form()
class Clamped(Between):
    def between(self, w):
        return w.clamp(0.05, 0.5)


@form()
class Powered(Between):
    kind = 'softmax'

    def between(self, w):
        w = w.pow(2)
        return w / w.sum(-1, keepdim=True)


@form()
class Squared(Between):
    def between(self, w):
        return w * w


@form()
class ScaledByConstant(Between):
    def between(self, w):
        return w * 0.5


@form()
class NegativelyScaled(Between):
    kind = 'signed'

    def between(self, w):
        return w * -0.5


@form()
class HeadGates(Between):
    def extra(self):
        self.gate = nn.Parameter(torch.rand(HEADS, 1, 1))

    def between(self, w):
        return w * torch.sigmoid(self.gate)


@form()
class ZeroedWhere(Between):
    def between(self, w):
        return torch.where(w > 0.1, w, torch.zeros_like(w))


@form()
class ZeroedInPlace(Between):
    def between(self, w):
        w = w.clone()
        w.masked_fill_(w < 0.1, 0.0)
        w.mul_(2.0)
        return w


@form()
class DoublePrecision(Between):
    kind = 'softmax'

    def between(self, w):
        return w.double().to(torch.float32)


@form()
class AddedBias(Between):
    kind = 'signed'

    def extra(self):
        self.bias = nn.Parameter(torch.randn(HEADS, LENGTH, LENGTH) * 0.1)

    def between(self, w):
        return w + self.bias


@form(decomposed=True)
class OneMinus(Between):
    def between(self, w):
        return 1.0 - w


@form()
class Differential(Attention):
    """A1 - λ A2, as in differential transformers."""

    def extra(self):
        self.query2, self.key2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.weight = nn.Parameter(torch.tensor(0.4))

    def forward(self, x):
        q, k, v = self.qkv(x)
        first = self.scores(q, k).softmax(-1)
        second = self.scores(self.apart(self.query2(x)), self.apart(self.key2(x))).softmax(-1)
        weights = first - self.weight * second
        seen(weights, 'signed')
        return self.together(weights @ v)


@form()
class DifferentialHeads(Attention):
    """The same as pairs of heads of one softmax."""

    def extra(self):
        self.query = nn.Linear(WIDTH, 2 * WIDTH)
        self.key = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        q = self.query(x).view(b, t, 2 * HEADS, DEPTH).transpose(1, 2)
        k = self.key(x).view(b, t, 2 * HEADS, DEPTH).transpose(1, 2)
        w = self.scores(q, k).softmax(-1).view(b, HEADS, 2, t, t)
        weights = w[:, :, 0] - 0.3 * w[:, :, 1]
        seen(weights, 'signed')
        return self.together(weights @ self.apart(self.value(x)))


class Mixed(Between):
    kind = 'signed'

    def extra(self):
        self.before = nn.Parameter(torch.randn(HEADS, HEADS))
        self.after = nn.Parameter(torch.randn(HEADS, HEADS))


@form()
class TalkingHeadsEinsum(Mixed):
    def scores(self, q, k):
        return torch.einsum('bhqk,hg->bgqk', super().scores(q, k), self.before)

    def between(self, w):
        return torch.einsum('bhqk,hg->bgqk', w, self.after)


@form()
class TalkingHeadsLinear(Mixed):
    def extra(self):
        self.mixing = nn.Linear(HEADS, HEADS)

    def between(self, w):
        return self.mixing(w.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@form()
class TalkingHeadsConvolution(Mixed):
    def extra(self):
        self.mixing = nn.Conv2d(HEADS, HEADS, 1)
        self.before = nn.Conv2d(HEADS, HEADS, 1, bias=False)

    def scores(self, q, k):
        return self.before(super().scores(q, k))

    def between(self, w):
        return self.mixing(w)


@form(decomposed=True)
class ReAttention(Mixed):
    """Heads mixed, then normalized, as in DeepViT."""

    def extra(self):
        self.mixing = nn.Conv2d(HEADS, HEADS, 1)
        self.norm = nn.BatchNorm2d(HEADS)

    def between(self, w):
        return self.norm(self.mixing(w))


@form()
class HeadNorm(Mixed):
    def extra(self):
        self.norm = nn.LayerNorm(HEADS)

    def between(self, w):
        return self.norm(w.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@form()
class KeyQueryConvolution(Mixed):
    """A convolution over queries and keys, as in multi-token attention."""

    def extra(self):
        self.mixing = nn.Conv2d(HEADS, HEADS, 3, padding=1, groups=HEADS)

    def between(self, w):
        return self.mixing(w)


@form(decomposed=True)
class MeanOverHeads(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1).mean(1)
        seen(weights[:, None], 'softmax')
        return weights[:, None] @ v


@form()
class TwoSoftmaxesJoined(Attention):
    """Local and global keys, each with a softmax of its own, side by side."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        s = self.scores(q, k)
        weights = torch.cat([s[..., :2].softmax(-1), s[..., 2:].softmax(-1)], -1)
        seen(weights, 'unnormalized')
        return self.together(weights @ v)


@form()
class SinkCutOff(Attention):
    """A column that takes what no key gets, cut off after the softmax, as in gpt-oss."""

    def extra(self):
        self.sink = nn.Parameter(torch.randn(HEADS))

    def mix(self, scores, v):
        sink = self.sink.view(1, HEADS, 1, 1).expand(scores.size(0), -1, scores.size(2), 1)
        weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        seen(weights, 'unnormalized')
        return weights @ v


@form()
class Padded(Attention):
    def mix(self, scores, v):
        weights = F.pad(scores.softmax(-1), (0, 2))
        seen(weights, 'softmax')
        return weights @ F.pad(v, (0, 0, 0, 2))


@form()
class ScatteredTopK(Attention):
    def mix(self, scores, v):
        top, index = scores.topk(3, -1)
        weights = torch.zeros_like(scores).scatter(-1, index, top.softmax(-1))
        seen(weights, 'softmax')
        return weights @ v


@form()
class ScatteredAfterSoftmax(Attention):
    def mix(self, scores, v):
        top, index = scores.softmax(-1).topk(3, -1)
        weights = torch.zeros_like(scores).scatter_(-1, index, top)
        seen(weights, 'unnormalized')
        return weights @ v


@form()
class GatheredValues(Attention):
    def mix(self, scores, v):
        top, index = scores.topk(3, -1)
        weights = top.softmax(-1)
        seen(weights, 'softmax')
        chosen = v.unsqueeze(2).expand(-1, -1, LENGTH, -1, -1).gather(3, index.unsqueeze(-1).expand(-1, -1, -1, -1, DEPTH))
        return (weights.unsqueeze(-2) @ chosen).squeeze(-2)


@form()
class IndexedKeys(Attention):
    def mix(self, scores, v):
        chosen = torch.tensor([0, 2, 5])
        weights = scores.softmax(-1)[..., chosen]
        seen(weights, 'unnormalized')
        return weights @ v[:, :, chosen]


@form()
class LogSoftmaxExp(Attention):
    def mix(self, scores, v):
        weights = F.log_softmax(scores, -1).exp()
        seen(weights, 'softmax', 'log_softmax')
        return weights @ v


@form()
class WrittenOut(Attention):
    """exp, sum and division."""

    def mix(self, scores, v):
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        weights = raised / raised.sum(-1, keepdim=True)
        seen(weights, 'softmax', 'exp')
        return weights @ v


@form(decomposed=True)
class LogSumExp(Attention):
    def mix(self, scores, v):
        weights = torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True))
        seen(weights, 'softmax', 'exp')
        return weights @ v


@form()
class SharedNoise(Attention):
    """Gumbel noise, given as an input so that runs can be compared."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        noise = -torch.log(-torch.log(x.sigmoid()))[:, None, :, :LENGTH]
        weights = ((self.scores(q, k) + noise) / 0.7).softmax(-1)
        seen(weights)
        return self.together(weights @ v)


@form()
class StraightThrough(Attention):
    def mix(self, scores, v):
        soft = scores.softmax(-1)
        hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        weights = hard - soft.detach() + soft
        seen(weights, 'signed')
        return weights @ v


@form()
class WrittenIntoZeros(Attention):
    def mix(self, scores, v):
        weights = torch.zeros(scores.size(0), HEADS, LENGTH, LENGTH + 2)
        weights[..., :LENGTH] = scores.softmax(-1)
        seen(weights, 'softmax')
        return weights @ F.pad(v, (0, 0, 0, 2))


@form()
class Repeated(Attention):
    """Half as many heads of weights as of values."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = self.scores(q[:, :1], k[:, :1]).softmax(-1).repeat(1, HEADS, 1, 1)
        seen(weights)
        return self.together(weights @ v)


@form(decomposed=True)
class Stacked(Attention):
    """Each head's softmax by itself, stacked."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = torch.stack([self.scores(q[:, h], k[:, h]).softmax(-1) for h in range(HEADS)], 1)
        seen(weights)
        return self.together(weights @ v)


@form()
class GatedPositions(Attention):
    """(1 - g) A + g P, renormalized, as in ConViT."""

    def extra(self):
        self.positions = nn.Linear(3, HEADS)
        self.gate = nn.Parameter(torch.randn(HEADS))
        self.register_buffer('distance', torch.randn(1, LENGTH, LENGTH, 3))

    def mix(self, scores, v):
        local = self.positions(self.distance.expand(scores.size(0), -1, -1, -1)).permute(0, 3, 1, 2).softmax(-1)
        gate = torch.sigmoid(self.gate).view(1, -1, 1, 1)
        weights = (1.0 - gate) * scores.softmax(-1) + gate * local
        weights = weights / weights.sum(-1).unsqueeze(-1)
        seen(weights, 'softmax')
        return weights @ v


# ---- products ------------------------------------------------------------------------------------------------------


@form()
class Linear(Attention):
    """F.linear(weights, valuesᵀ), for one sample and one head."""

    def forward(self, x):
        weights = (self.query(x)[0] @ self.key(x)[0].t() / 4).softmax(-1)
        seen(weights[None, None])
        return self.out(F.linear(weights, self.value(x)[0].t()))


@form()
class MatrixVector(Attention):
    """A query attends with mv, values have one feature."""

    def forward(self, x):
        weights = (self.query(x)[0] @ self.key(x)[0].t() / 4).softmax(-1)
        seen(weights[None, None])
        return torch.mv(weights, self.value(x)[0, :, 0])


@form()
class VectorMatrix(Attention):
    def forward(self, x):
        weights = torch.softmax(self.key(x)[0] @ self.query(x)[0, 0], -1)
        seen(weights[None, None, None])
        return self.out(weights @ self.value(x)[0])


@form()
class MultipliedAndSummed(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return (weights.unsqueeze(-1) * v.unsqueeze(2)).sum(-2)


@form()
class PooledAndSummed(Attention):
    """One query, learned, the products written out."""

    def extra(self):
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x):
        weights = torch.softmax(self.score(torch.tanh(self.key(x))), 1)
        seen(weights.transpose(1, 2)[:, None])
        return self.out((weights * x).sum(1))


@form()
class PooledHeads(Attention):
    def extra(self):
        self.score = nn.Linear(WIDTH, 3)

    def forward(self, x):
        weights = torch.softmax(self.score(torch.tanh(self.key(x))), 1)
        seen(weights.transpose(1, 2)[:, None])
        return self.out(weights.transpose(1, 2) @ x)


@form()
class TensorDot(Attention):
    def forward(self, x):
        weights = (self.query(x)[0] @ self.key(x)[0].t() / 4).softmax(-1)
        seen(weights[None, None])
        return self.out(torch.tensordot(weights, self.value(x)[0], dims=([1], [0])))


@form()
class AddMm(Attention):
    """y + A y as one operator."""

    def forward(self, x):
        weights = (self.query(x)[0] @ self.key(x)[0].t() / 4).softmax(-1)
        seen(weights[None, None])
        return self.out(torch.addmm(self.value(x)[0], weights, self.value(x)[0]))


@form()
class MultiQuery(Attention):
    """All heads share keys and values."""

    def forward(self, x):
        q = self.apart(self.query(x))
        k, v = self.key(x)[..., :DEPTH], self.value(x)[..., :DEPTH]
        weights = torch.einsum('bhid,bjd->bhij', q, k).softmax(-1)
        seen(weights)
        return self.together(torch.einsum('bhij,bjd->bhid', weights, v))


@form()
class MultiQueryFlattened(Attention):
    """The same with heads and queries in one dimension."""

    def forward(self, x):
        b, t, _ = x.shape
        q = self.apart(self.query(x)).reshape(b, HEADS * t, DEPTH)
        k, v = self.key(x)[..., :DEPTH], self.value(x)[..., :DEPTH]
        weights = torch.bmm(q, k.transpose(1, 2)).view(b, HEADS, t, t).softmax(-1)
        seen(weights)
        return self.together(torch.bmm(weights.view(b, HEADS * t, t), v).view(b, HEADS, t, DEPTH))


@form()
class RelativeValues(Attention):
    """Embeddings of relative positions beside the values, multiplied first (Shaw)."""

    def extra(self):
        self.relative = nn.Parameter(torch.randn(LENGTH, LENGTH, DEPTH))

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        b, h, t, _ = weights.shape
        turned = weights.permute(2, 0, 1, 3).reshape(t, b * h, t)
        relative = torch.bmm(turned, self.relative).view(t, b, h, DEPTH).permute(1, 2, 0, 3)
        return relative + weights @ v


@form()
class RelativeValuesOfInputs(Attention):
    """The same where the embeddings come from the input."""

    def extra(self):
        self.relative = nn.Linear(WIDTH, DEPTH)

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = self.scores(q, k).softmax(-1)
        seen(weights)
        b, h, t, _ = weights.shape
        between = self.relative(x[0, :, None] - x[0, None, :])
        relative = torch.matmul(weights.permute(2, 0, 1, 3).reshape(t, b * h, t), between).view(t, b, h, DEPTH)
        return self.together(relative.permute(1, 2, 0, 3) + weights @ v)


@form()
class TwoValues(Attention):
    """One softmax, two products."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return weights @ v + weights @ v.flip(-1)


@form()
class FlatHeads(Attention):
    """[B · H, Q, K] throughout; only the last view tells."""

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (self.apart(p(x)).reshape(b * HEADS, t, DEPTH) for p in (self.query, self.key, self.value))
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        seen(weights.view(b, HEADS, t, t))
        return self.together(torch.bmm(weights, v).view(b, HEADS, t, DEPTH))


@form()
class Channels(Attention):
    """Heads of a feature map, as in bottleneck transformers."""

    def extra(self):
        self.maps = nn.Conv2d(WIDTH, 3 * WIDTH, 1)

    def forward(self, x):
        b = x.size(0)
        q, k, v = self.maps(x.transpose(1, 2).view(b, WIDTH, 2, LENGTH // 2)).reshape(b, 3, HEADS, DEPTH, LENGTH).unbind(1)
        q, k, v = (each.reshape(b * HEADS, DEPTH, LENGTH) for each in (q, k, v))
        weights = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        seen(weights.view(b, HEADS, LENGTH, LENGTH))
        return torch.bmm(weights, v.transpose(1, 2)).view(b, HEADS, LENGTH, DEPTH)


@form()
class ChannelAttention(Attention):
    """Queries and keys are channels."""

    def forward(self, x):
        q, k, v = (self.apart(p(x)).transpose(-2, -1) for p in (self.query, self.key, self.value))
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1)
        seen(weights)
        return weights @ v


@form()
class Bilinear(Attention):
    """Additive scores."""

    def extra(self):
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x):
        joint = torch.tanh(self.query(x)[:, :, None] + self.key(x)[:, None])
        weights = self.score(joint).squeeze(-1).softmax(-1)
        seen(weights[:, None])
        return self.out(weights @ self.value(x))


@form()
class ScoresWrittenOut(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = (q.unsqueeze(3) * k.unsqueeze(2)).sum(-1).softmax(-1)
        seen(weights)
        return self.together(torch.einsum('bhqk,bhkd->bhqd', weights, v))


@form()
class Distances(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = (-torch.cdist(q, k)).softmax(-1)
        seen(weights)
        return self.together(weights @ v)


@form()
class MemorySlots(Attention):
    """Keys and values are parameters."""

    def extra(self):
        self.slots = nn.Parameter(torch.randn(HEADS, 5, DEPTH))
        self.stored = nn.Parameter(torch.randn(HEADS, 5, DEPTH))

    def forward(self, x):
        weights = (self.apart(self.query(x)) @ self.slots.transpose(-2, -1)).softmax(-1)
        seen(weights)
        return self.together(weights @ self.stored)


@form()
class LearnedQueries(Attention):
    def extra(self):
        self.queries = nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, x):
        weights = (self.queries @ self.key(x).transpose(1, 2)).softmax(-1)
        seen(weights[:, None])
        return self.out(weights @ self.value(x))


@form()
class Prototypes(Attention):
    def extra(self):
        self.prototypes = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x):
        weights = torch.softmax(x @ self.prototypes.t(), -1)
        seen(weights[:, None])
        return self.out(torch.matmul(weights, self.prototypes))


@form(unseen=1)
class External(Attention):
    """External attention: memories are layers, the softmax runs over positions."""

    def extra(self):
        self.slots = nn.Linear(WIDTH, 5, bias=False)
        self.stored = nn.Linear(5, WIDTH, bias=False)

    def forward(self, x):
        weights = self.slots(x).softmax(1)
        return self.stored(weights / weights.sum(2, keepdim=True))


# ---- parts ---------------------------------------------------------------------------------------------------------


@form()
class KeysInParts(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return weights[..., :2] @ v[:, :, :2] + weights[..., 2:] @ v[:, :, 2:]


@form()
class HeadsInParts(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return torch.stack([weights[:, h] @ v[:, h] for h in range(HEADS)], 1)


@form()
class SamplesInParts(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return torch.stack([weights[b] @ v[b] for b in range(BATCH)])


@form()
class PairsInParts(Attention):
    """A product for each sample and head."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return torch.stack([torch.stack([torch.mm(weights[b, h], v[b, h]) for h in range(HEADS)]) for b in range(BATCH)])


@form()
class QueriesInParts(Attention):
    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return torch.cat([part @ v for part in weights.split(4, dim=2)], 2)


@form()
class FlatHeadsInParts(Attention):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (self.apart(p(x)).reshape(b * HEADS, t, DEPTH) for p in (self.query, self.key, self.value))
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        seen(weights.view(b, HEADS, t, t))
        return torch.stack([weights[i] @ v[i] for i in range(b * HEADS)]).view(b, HEADS, t, DEPTH)


@form()
class PartsWithDropout(Attention):
    """Each part scaled by itself."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(torch.cat([weights[..., :2] * 0.5, weights[..., 2:] * 2.0], -1), 'unnormalized')
        return (weights[..., :2] * 0.5) @ v[:, :, :2] + (weights[..., 2:] * 2.0) @ v[:, :, 2:]


@form()
class FirstQueryOnly(Attention):
    """Only the first row multiplies values."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = self.scores(q, k).softmax(-1)[:, :, :1]
        seen(weights)
        return self.together(weights @ v)


# ---- dimensions ----------------------------------------------------------------------------------------------------


@form()
class Windows(Attention):
    """[B, windows, H, Q, K]"""

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, 2, t // 2, HEADS, DEPTH).transpose(2, 3) for p in (self.query, self.key, self.value))
        weights = self.scores(q, k).softmax(-1)
        seen(weights.flatten(0, 1), shape=list(weights.shape))
        return self.out((weights @ v).transpose(2, 3).reshape(b, t, WIDTH))


@form()
class SdpaWindows(Attention):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, 2, t // 2, HEADS, DEPTH).transpose(2, 3) for p in (self.query, self.key, self.value))
        weights = self.scores(q, k).softmax(-1)
        seen(weights.flatten(0, 1), operator='scaled_dot_product_attention', shape=list(weights.shape))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, t, WIDTH))


@form()
class SdpaBroadcastQueries(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        q = q[0]
        seen(self.scores(q, k).softmax(-1), operator='scaled_dot_product_attention')
        return self.together(F.scaled_dot_product_attention(q, k, v))


@form()
class SdpaBroadcastKeys(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        seen(self.scores(q, k[0]).softmax(-1), operator='scaled_dot_product_attention')
        return self.together(F.scaled_dot_product_attention(q, k[0], v))


@form()
class SdpaFlat(Attention):
    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (self.apart(p(x)).reshape(b * HEADS, t, DEPTH) for p in (self.query, self.key, self.value))
        seen(self.scores(q, k).softmax(-1).view(b, HEADS, t, t), operator='scaled_dot_product_attention')
        return self.together(F.scaled_dot_product_attention(q, k, v).view(b, HEADS, t, DEPTH))


@form()
class KeysFirst(Attention):
    """Weights laid out [B, K, Q, H]."""

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, HEADS, DEPTH) for p in (self.query, self.key, self.value))
        weights = torch.einsum('bqhd,bkhd->bkqh', q, k).softmax(1)
        seen(weights.permute(0, 3, 2, 1))
        return self.out(torch.einsum('bkqh,bkhd->bqhd', weights, v).reshape(b, t, WIDTH))


@form()
class SequenceFirst(Attention):
    """[T, B · H, D], as in fairseq."""

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (p(x.transpose(0, 1)).contiguous().view(t, b * HEADS, DEPTH).transpose(0, 1)
                   for p in (self.query, self.key, self.value))
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        seen(weights.view(b, HEADS, t, t))
        return self.out(torch.bmm(weights, v).transpose(0, 1).reshape(t, b, WIDTH))


# ---- no softmax ----------------------------------------------------------------------------------------------------


class Function(Attention):
    kind, operator = 'signed', ''

    def mix(self, scores, v):
        weights = self.function(scores)
        seen(weights, self.kind, self.operator)
        return weights @ v


@form()
class Sigmoid(Function):
    kind = operator = 'sigmoid'

    def function(self, s):
        return torch.sigmoid(s - 1.0)


@form()
class Relu(Function):
    kind = operator = 'relu'

    def function(self, s):
        return F.relu(s) / LENGTH


@form()
class SquaredRelu(Function):
    kind = operator = 'relu'

    def function(self, s):
        return F.relu(s) ** 2


@form()
class SiluScores(Function):
    operator = 'silu'

    def function(self, s):
        return F.silu(s) / LENGTH


@form()
class TanhScores(Function):
    operator = 'tanh'

    def function(self, s):
        return torch.tanh(s)


@form()
class Retention(Function):
    """Decay instead of a softmax."""

    operator = 'matmul'

    def extra(self):
        distance = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)[None]
        self.register_buffer('decay', torch.where(distance >= 0, 0.9 ** distance.float(), torch.zeros(())))

    def function(self, s):
        return s * self.decay


@form()
class SlotAttention(Attention):
    """A softmax over the slots that compete, then a mean over positions."""

    def extra(self):
        self.slots = nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, x):
        q = self.query(x[:, :3] + self.slots)
        weights = torch.einsum('bnd,bsd->bns', self.key(x), q).softmax(-1)
        weights = weights / weights.sum(1, keepdim=True)
        seen(weights.transpose(1, 2)[:, None], 'softmax')
        return self.out(torch.einsum('bns,bnd->bsd', weights, self.value(x)))


@form()
class SparseMax(Function):
    """Projection onto the simplex, written out."""

    operator, kind = 'clamp', 'relu'

    def function(self, s):
        ordered = s.sort(-1, descending=True)[0]
        sums = ordered.cumsum(-1) - 1
        count = torch.arange(1, LENGTH + 1, dtype=s.dtype)
        inside = (ordered * count > sums).sum(-1, keepdim=True)
        threshold = sums.gather(-1, inside - 1) / inside
        return (s - threshold).clamp(min=0)


# ---- nothing to show -----------------------------------------------------------------------------------------------


@form(unseen=1)
class LinearAttention(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        return self.together(q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v))


@form(unseen=1)
class LinearAttentionElu(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        mixed = q @ (k.transpose(-2, -1) @ v)
        return self.together(mixed / (q @ k.sum(-2).unsqueeze(-1)))


@form(unseen=1)
class LinearAttentionMaps(Attention):
    """Of feature maps, with relu and a column of ones, as in EfficientViT."""

    def extra(self):
        self.maps = nn.Conv1d(WIDTH, 3 * WIDTH, 1)

    def forward(self, x):
        b = x.size(0)
        qkv = self.maps(x.transpose(1, 2)).view(b, HEADS, 3 * DEPTH, LENGTH).transpose(-1, -2)
        q, k, v = qkv.chunk(3, -1)
        q, k = F.relu(q), F.relu(k)
        v = F.pad(v, (0, 1), value=1.0)
        out = q @ (k.transpose(-1, -2) @ v)
        return out[..., :-1] / (out[..., -1:] + 1e-6)


@form(unseen=1)
class NoFunction(Attention):
    def mix(self, scores, v):
        return (scores / LENGTH) @ v


@form(unseen=2)
class Blocks(Attention):
    """An online softmax over blocks of keys."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        total, mixed = torch.zeros(x.size(0), HEADS, LENGTH, 1), torch.zeros(x.size(0), HEADS, LENGTH, DEPTH)
        largest = torch.full((x.size(0), HEADS, LENGTH, 1), -1e9)
        for block in range(2):
            s = self.scores(q, k[:, :, block * 3:block * 3 + 3])
            new = torch.maximum(largest, s.amax(-1, keepdim=True))
            p = torch.exp(s - new)
            shrink = torch.exp(largest - new)
            total = total * shrink + p.sum(-1, keepdim=True)
            mixed = mixed * shrink + p @ v[:, :, block * 3:block * 3 + 3]
            largest = new
        return self.together(mixed / total)


@form(unseen=1)
class ReturnedAlone(Attention):
    def forward(self, x):
        return (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)


@form(unseen=1)
class LongConvolution(Attention):
    def extra(self):
        self.filter = nn.Parameter(torch.randn(LENGTH, WIDTH))

    def forward(self, x):
        signal = torch.fft.rfft(self.value(x), n=2 * LENGTH, dim=1) * torch.fft.rfft(self.filter, n=2 * LENGTH, dim=0)
        return self.out(torch.fft.irfft(signal, n=2 * LENGTH, dim=1)[:, :LENGTH])


@form()
class Classifier(Attention):
    def forward(self, x):
        return torch.softmax(self.out(F.relu(self.query(x))), -1)


@form()
class Vocabulary(Attention):
    """Logits by the embedding itself."""

    def forward(self, x):
        return torch.softmax(F.relu(self.query(x)) @ self.key.weight.t(), -1)


@form(decomposed=True)
class Convolutions(Attention):
    def extra(self):
        self.first, self.second = nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 1)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        y = x.transpose(1, 2)
        y = F.relu(self.norm(self.first(y)) + y)
        return self.second(y).softmax(1)


@form()
class Gates(Attention):
    """Squeeze and excitation."""

    def forward(self, x):
        return x * torch.sigmoid(self.out(F.relu(self.query(x.mean(1)))))[:, None]


@form(decomposed=True)
class Experts(Attention):
    """Every expert's output, weighted by a router with a temperature."""

    def extra(self):
        self.router, self.experts = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4 * WIDTH)

    def forward(self, x):
        flat = x.reshape(-1, WIDTH)
        weights = (self.router(flat) / 0.7).softmax(-1)
        return torch.bmm(weights.unsqueeze(1), self.experts(flat).view(-1, 4, WIDTH)).view_as(x)


@form(decomposed=True)
class StackedExperts(Attention):
    def extra(self):
        self.router = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)])

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        outputs = torch.stack([expert(x) for expert in self.experts], 2)
        return torch.einsum('bte,bted->btd', weights, outputs)


@form()
class SummedExperts(Attention):
    def extra(self):
        self.router = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)])

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        return (weights.unsqueeze(-1) * torch.stack([expert(x) for expert in self.experts], -2)).sum(-2)


@form()
class TopExperts(Attention):
    def extra(self):
        self.router = nn.Linear(WIDTH, 3)
        self.first = nn.Parameter(torch.randn(3, WIDTH, 8))
        self.second = nn.Parameter(torch.randn(3, 8, WIDTH))

    def forward(self, x):
        flat = x.reshape(-1, WIDTH)
        weights, chosen = self.router(flat).softmax(-1).topk(2, -1)
        hidden = F.gelu(torch.einsum('td,edf->tef', flat, self.first))
        outputs = torch.einsum('tef,efd->ted', hidden, self.second)
        picked = outputs.gather(1, chosen.unsqueeze(-1).expand(-1, -1, WIDTH))
        return (weights.unsqueeze(-1) * picked).sum(1)


@form()
class Bins(Attention):
    """An expectation over fixed bins."""

    def forward(self, x):
        return torch.matmul(self.out(x).view(x.size(0), x.size(1), 2, 8).softmax(-1), torch.arange(8.0))


# ---- architectures -------------------------------------------------------------------------------------------------


class Loose(Attention):
    """What isn't one vector a position stays as it is."""

    def together(self, x):
        return super().together(x) if x.dim() == 4 and x.numel() == BATCH * LENGTH * WIDTH else x


@form()
class QkNormTraining(Loose):
    def extra(self):
        self.n1, self.n2 = nn.LayerNorm(DEPTH), nn.LayerNorm(DEPTH)

    def forward(self, x):
        q, k, v = self.qkv(x)
        w = self.scores(self.n1(q), self.n2(k)).softmax(-1)
        seen(w)
        return self.together(F.dropout(w, 0.1, False) @ v)


@form()
class GroupedEager(Loose):
    def forward(self, x):
        q = self.apart(self.query(x))
        k = self.apart(self.key(x))[:, :1]
        v = self.apart(self.value(x))[:, :1]
        k, v = k.repeat_interleave(HEADS, 1), v.repeat_interleave(HEADS, 1)
        w = self.scores(q, k).softmax(-1, dtype=torch.float32).to(q.dtype)
        seen(w)
        return self.together(w @ v)


@form()
class RelShift(Loose):
    def extra(self):
        self.r = nn.Parameter(torch.randn(HEADS, LENGTH, DEPTH))

    def forward(self, x):
        q, k, v = self.qkv(x)
        bd = q @ self.r.transpose(-1, -2)
        b, h, t, _ = bd.shape
        bd = F.pad(bd, (1, 0)).view(b, h, t + 1, t)[:, :, 1:].reshape(b, h, t, t)
        w = ((q @ k.transpose(-1, -2) + bd) / 3).softmax(-1)
        seen(w)
        return self.together(w @ v)


@form()
class RealFormer(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        s = self.scores(q, k)
        w = s.softmax(-1)
        seen(w)
        y = w @ v
        s2 = self.scores(y, k) + s
        w2 = s2.softmax(-1)
        seen(w2)
        return self.together(w2 @ v)


@form()
class DualSoftmax(Loose):
    def mix(self, s, v):
        w = s.softmax(-1) * s.softmax(-2)
        seen(w, 'unnormalized')
        return w @ v


@form()
class OffByOne(Loose):
    def mix(self, s, v):
        e = s.exp()
        w = e / (1 + e.sum(-1, keepdim=True))
        seen(w, 'unnormalized', 'exp')
        return w @ v


@form(decomposed=True)
class Sinkhorn(Loose):
    def mix(self, s, v):
        for _ in range(2):
            s = s - s.logsumexp(-1, keepdim=True)
            s = s - s.logsumexp(-2, keepdim=True)
        w = s.exp()
        seen(w, 'unnormalized', 'exp')
        return w @ v


@form(decomposed=True)
class Linformer(Loose):
    def extra(self):
        self.e = nn.Parameter(torch.randn(3, LENGTH))

    def forward(self, x):
        q, k, v = self.qkv(x)
        w = self.scores(q, self.e @ k).softmax(-1)
        seen(w)
        return self.together(w @ (self.e @ v))


@form()
class Luong(Loose):
    def extra(self):
        self.rnn = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.cell = nn.LSTMCell(WIDTH, WIDTH)

    def forward(self, x):
        m, _ = self.rnn(x)
        h, c = torch.zeros(BATCH, WIDTH), torch.zeros(BATCH, WIDTH)
        outs = []
        for t in range(2):
            h, c = self.cell(x[:, t], (h, c))
            w = torch.bmm(m, h.unsqueeze(2)).squeeze(2).softmax(1)
            seen(w[:, None, None])
            outs.append(torch.bmm(w.unsqueeze(1), m).squeeze(1))
        return torch.stack(outs, 1)


@form()
class Bahdanau(Loose):
    def extra(self):
        self.score = nn.Linear(WIDTH, 1, bias=False)
        self.cell = nn.GRUCell(WIDTH, WIDTH)

    def forward(self, x):
        h = torch.zeros(BATCH, WIDTH)
        keys = self.key(x)
        for t in range(2):
            e = self.score(torch.tanh(self.query(h).unsqueeze(1) + keys)).squeeze(2)
            w = e.softmax(1)
            seen(w[:, None, None])
            h = self.cell((w.unsqueeze(2) * x).sum(1), h)
        return h


@form()
class Gat(Loose):
    def extra(self):
        self.a1, self.a2 = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

    def forward(self, x):
        h = self.value(x)
        e = F.leaky_relu(self.a1(h) + self.a2(h).transpose(1, 2), 0.2)
        w = e.masked_fill(torch.ones(LENGTH, LENGTH).triu(2).bool(), float('-inf')).softmax(-1)
        seen(w[:, None])
        return w @ h


@form()
class Pma(Loose):
    def extra(self):
        self.seed = nn.Parameter(torch.randn(1, 3, WIDTH))

    def forward(self, x):
        q = self.apart(self.query(self.seed.repeat(x.size(0), 1, 1)))
        _, k, v = self.qkv(x)
        w = self.scores(q, k).softmax(-1)
        seen(w)
        return self.together(w @ v)


@form()
class SecondOperand(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        w = (k @ q.transpose(-1, -2) / 3).softmax(-2)
        seen(w.transpose(-1, -2))
        return v.transpose(-1, -2) @ w


@form()
class MaskedTopK(Loose):
    def mix(self, s, v):
        th = s.topk(3, -1)[0][..., -1:]
        w = s.masked_fill(s < th, float('-inf')).softmax(-1)
        seen(w)
        return w @ v


@form()
class QueryGate(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        g = torch.sigmoid(self.out(x))[:, None, :, :1]
        w = self.scores(q, k).softmax(-1) * g
        seen(w, 'unnormalized')
        return self.together(w @ v)


@form()
class KeyGate(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        g = torch.sigmoid(self.out(x))[:, None, None, :, 0]
        w = self.scores(q, k).softmax(-1) * g
        w = w / w.sum(-1, keepdim=True).clamp(min=1e-6)
        seen(w, 'softmax')
        return self.together(w @ v)


@form()
class HeadsApart(Loose):
    def forward(self, x):
        outs = []
        for h in range(HEADS):
            q, k, v = (p(x)[..., h * DEPTH:(h + 1) * DEPTH] for p in (self.query, self.key, self.value))
            w = (q @ k.transpose(1, 2) / 3).softmax(-1)
            seen(w[:, None])
            outs.append(w @ v)
        return self.out(torch.cat(outs, -1))


@form()
class EvolvingMap(Loose):
    def extra(self):
        self.conv = nn.Conv2d(HEADS, HEADS, 3, padding=1)

    def forward(self, x):
        q, k, v = self.qkv(x)
        s = self.scores(q, k)
        w = (0.5 * s + 0.5 * F.relu(self.conv(s))).softmax(-1)
        seen(w)
        return self.together(w @ v)


@form(unseen=1)
class Performer(Loose):
    def extra(self):
        self.register_buffer('proj', torch.randn(5, DEPTH))

    def forward(self, x):
        q, k, v = self.qkv(x)
        q = torch.exp(q @ self.proj.t() - q.pow(2).sum(-1, keepdim=True) / 2) + 1e-4
        k = torch.exp(k @ self.proj.t() - k.pow(2).sum(-1, keepdim=True) / 2) + 1e-4
        kv = torch.einsum('bhnf,bhnd->bhfd', k, v)
        z = 1 / torch.einsum('bhnf,bhf->bhn', q, k.sum(2))
        return self.together(torch.einsum('bhnf,bhfd,bhn->bhnd', q, kv, z))


@form()
class CosFormerCausal(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        q, k = F.relu(q), F.relu(k)
        w = (q @ k.transpose(-1, -2)).tril()
        seen(w, 'signed', 'matmul')
        return self.together((w @ v) / w.sum(-1, keepdim=True).clamp(min=1e-6))


@form(unseen=1)
class Nystrom(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        ql, kl = q.view(BATCH, HEADS, 2, 3, DEPTH).mean(3), k.view(BATCH, HEADS, 2, 3, DEPTH).mean(3)
        a, b, c = self.scores(q, kl).softmax(-1), self.scores(ql, kl).softmax(-1), self.scores(ql, k).softmax(-1)
        seen(c)
        seen(a)
        return self.together(a @ (torch.inverse(b) @ (c @ v)))


@form()
class ThreeOperands(Loose):
    def mix(self, s, v):
        w = s.softmax(-1)
        g = torch.ones(HEADS)
        seen(w)
        return torch.einsum('bhij,bhjd,h->bhid', w, v, g * 2)


@form()
class AddBmm(Loose):
    def mix(self, s, v):
        w = s.softmax(-1)
        seen(w)
        y = torch.stack([torch.addbmm(torch.zeros(LENGTH, DEPTH), w[b], v[b]) for b in range(BATCH)])
        return y[:, None]


@form()
class AxialAttention(Loose):
    def forward(self, x):
        y = x.view(BATCH, 2, 3, WIDTH)
        q, k, v = (p(y).view(BATCH, 2, 3, HEADS, DEPTH).permute(0, 1, 3, 2, 4) for p in (self.query, self.key, self.value))
        w = self.scores(q, k).softmax(-1)
        seen(w.flatten(0, 1), shape=list(w.shape))
        y = (w @ v).permute(0, 1, 3, 2, 4).reshape(BATCH, 2, 3, WIDTH)
        q, k, v = (p(y).view(BATCH, 2, 3, HEADS, DEPTH).permute(0, 2, 3, 1, 4) for p in (self.query, self.key, self.value))
        w = torch.einsum('bwhqd,bwhkd->bwhqk', q, k).softmax(-1)
        seen(w.flatten(0, 1), shape=list(w.shape))
        return torch.einsum('bwhqk,bwhkd->bwqhd', w, v)


@form()
class HeadsSummedByReshape(Loose):
    def mix(self, s, v):
        w = s.softmax(-1)
        seen(w)
        b, h, t, _ = w.shape
        return (w.transpose(1, 2).reshape(b, t, h * t) @ v.reshape(b, h * t, -1))[:, None]


@form()
class Bmm4(Loose):
    def forward(self, x):
        b, t, _ = x.shape
        q = self.query(x).view(b, t, HEADS, DEPTH).permute(2, 0, 1, 3).contiguous().view(-1, t, DEPTH)
        k = self.key(x).view(b, t, HEADS, DEPTH).permute(2, 0, 1, 3).contiguous().view(-1, t, DEPTH)
        v = self.value(x).view(b, t, HEADS, DEPTH).permute(2, 0, 1, 3).contiguous().view(-1, t, DEPTH)
        w = torch.bmm(q, k.transpose(1, 2)).softmax(2)
        seen(w.view(HEADS, b, t, t).transpose(0, 1))
        return torch.bmm(w, v).view(HEADS, b, t, DEPTH).permute(1, 2, 0, 3).reshape(b, t, -1)


@form()
class PrototypeDistances(Loose):
    def extra(self):
        self.m = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x):
        w = torch.softmax(-torch.cdist(x, self.m[None].expand(BATCH, -1, -1)), -1)
        seen(w[:, None])
        return w @ self.m


@form(unseen=1)
class DynamicConv(Loose):
    def extra(self):
        self.kernel = nn.Linear(WIDTH, 3)

    def forward(self, x):
        w = self.kernel(x).softmax(-1)
        win = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1)
        return torch.einsum('btk,btdk->btd', w, win)


@form()
class Synthesizer(Loose):
    def extra(self):
        self.dense = nn.Linear(WIDTH, LENGTH)

    def forward(self, x):
        w = self.dense(F.relu(self.query(x))).softmax(-1)
        seen(w[:, None])
        return w @ self.value(x)


@form(unseen=2, decomposed=True)
class SoftmaxBlocks(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        outs, lses = [], []
        for i in range(2):
            s = self.scores(q, k[:, :, 3*i:3*i+3])
            lses.append(s.logsumexp(-1, keepdim=True))
            outs.append(s.softmax(-1) @ v[:, :, 3*i:3*i+3])
        l = torch.cat(lses, -1)
        w = (l - l.logsumexp(-1, keepdim=True)).exp()
        return self.together(outs[0] * w[..., :1] + outs[1] * w[..., 1:])


@form()
class VisionMlp(Loose):
    def extra(self):
        self.t1 = nn.Linear(LENGTH, 8)
        self.t2 = nn.Linear(8, LENGTH)

    def forward(self, x):
        x = x + self.t2(F.gelu(self.t1(x.transpose(1, 2)))).transpose(1, 2)
        return x + self.out(F.gelu(self.query(x)))


@form()
class GraphConvolution(Loose):
    def forward(self, x):
        adj = (x @ x.transpose(1, 2) > 0).float()
        adj = adj / adj.sum(-1, keepdim=True)
        return adj @ F.relu(self.query(adj @ x))


# ---- steps, written out, channels, blocks ----------------------------------------------------------------------------


@form()
class TwoSteps(Between):
    kind = 'softmax'

    def between(self, w):
        return w @ w


@form()
class OneAndTwoSteps(Between):
    def between(self, w):
        return w + 0.5 * (w @ w)


@form()
class CoAttended(Loose):
    """Both ways of attending, multiplied (QANet)."""

    def forward(self, x):
        context, question = self.query(x), self.key(x[:, :3])
        s = context @ question.transpose(1, 2)
        w = s.softmax(2) @ s.softmax(1).transpose(1, 2)
        seen(w[:, None])
        return w @ context


@form()
class Rounded(Between):
    def between(self, w):
        return torch.round(w * 255) / 255


@form()
class OddPower(Between):
    kind = 'signed'

    def between(self, w):
        return (w - 0.1) ** 3


@form()
class ZeroedColumns(Between):
    def between(self, w):
        return w.index_fill(-1, torch.tensor([0, 2]), 0.0)


@form()
class AveragedNeighbours(Between):
    def between(self, w):
        return F.avg_pool2d(w, 3, 1, 1)


@form()
class CosineOfScores(Function):
    operator = 'cos'

    def function(self, s):
        return torch.cos(s)


@form()
class CubedScores(Function):
    operator = 'pow'

    def function(self, s):
        return s ** 3 / 8


@form()
class HeadsAheadOfBatch(Attention):
    """exp, sum and division on [H, B, Q, K], laid out by an einsum."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        raised = torch.exp(torch.einsum('bhqd,bhkd->hbqk', q, k) * 0.2)
        w = raised / raised.sum(-1, keepdim=True)
        seen(w.transpose(0, 1), operator='exp')
        return self.together(torch.einsum('hbqk,bhkd->bhqd', w, v))


@form()
class HeadsAheadOfWindows(Attention):
    """[B, H, windows, Q, D], as in Hiera."""

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t // 2, 2, HEADS, DEPTH).permute(0, 3, 1, 2, 4) for p in (self.query, self.key, self.value))
        w = self.scores(q, k).softmax(-1).transpose(1, 2)
        seen(w.flatten(0, 1), operator='scaled_dot_product_attention', shape=list(w.shape))
        return F.scaled_dot_product_attention(q, k, v)


@form()
class WindowsOfALayer(Attention):
    """Weights of each window from a layer, without keys (VOLO)."""

    def extra(self):
        self.weights = nn.Linear(WIDTH, HEADS * 9)

    def forward(self, x):
        b, t, _ = x.shape
        v = F.pad(self.value(x), (0, 0, 1, 1)).unfold(1, 3, 1).reshape(b, t, HEADS, DEPTH, 3).permute(0, 2, 1, 4, 3)
        w = self.weights(x).view(b, t, HEADS, 3, 3).permute(0, 2, 1, 3, 4).softmax(-1)
        seen(w.transpose(1, 2).flatten(0, 1), shape=list(w.transpose(1, 2).shape))
        return w @ v


@form()
class GatedPrompt(Attention):
    """Learned keys and values with a softmax and a gate of their own."""

    def extra(self):
        self.prompt = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.gate = nn.Parameter(torch.full((HEADS, 1, 1), 0.3))

    def forward(self, x):
        q, k, v = self.qkv(x)
        prompt = self.prompt.expand(x.size(0), -1, -1)
        w = self.scores(q, k).softmax(-1)
        gated = self.scores(q, self.apart(self.key(prompt))).softmax(-1) * self.gate.tanh()
        seen(w)
        seen(gated, 'unnormalized')
        return self.together(w @ v + gated @ self.apart(self.value(prompt)))


class Scored(Loose):
    def extra(self):
        self.score = nn.Linear(WIDTH, 1)

    def additive(self, x):
        return self.score(torch.tanh(self.query(x)[:, :, None] + self.key(x)[:, None])).squeeze(-1)


@form()
class AdditiveWrittenOut(Scored):
    def forward(self, x):
        s = self.additive(x)
        raised = torch.exp(s - s.max(-1, keepdim=True)[0])
        w = raised / raised.sum(-1, keepdim=True)
        seen(w[:, None], operator='exp')
        return self.out(w @ self.value(x))


@form()
class PoolingWrittenOut(Scored):
    def forward(self, x):
        raised = torch.exp(self.score(torch.tanh(self.key(x))).squeeze(-1))
        w = raised / (raised.sum(1, keepdim=True) + 1e-10)
        seen(w[:, None, None], operator='exp')
        return self.out((x * w.unsqueeze(-1)).sum(1))


@form()
class PoolingLogSoftmax(Scored):
    def forward(self, x):
        w = F.log_softmax(self.score(torch.tanh(self.key(x))).squeeze(-1), 1).exp()
        seen(w[:, None, None], operator='log_softmax')
        return torch.bmm(w.unsqueeze(1), x)


@form(unseen=1)
class AdditiveIntoTheUnknown(Scored):
    def forward(self, x):
        return self.out(torch.special.i0e(self.additive(x).softmax(-1)) @ self.value(x))


@form(unseen=1)
class AdditiveReturned(Scored):
    """A pointer network."""

    def forward(self, x):
        return self.additive(x).softmax(-1)


@form()
class ChannelStatistics(Loose):
    """A softmax over time for each channel: means and deviations."""

    def extra(self):
        self.first, self.second = nn.Conv1d(WIDTH, 8, 1), nn.Conv1d(8, WIDTH, 1)

    def forward(self, x):
        y = x.transpose(1, 2)
        w = self.second(torch.tanh(self.first(y))).softmax(2)
        seen(w[:, None])
        mean = (w * y).sum(2)
        return torch.cat([mean, ((w * y * y).sum(2) - mean ** 2).clamp(1e-6).sqrt()], 1)


@form()
class ChannelWeights(Loose):
    """A weight for each pair and channel (point transformers)."""

    def forward(self, x):
        between = self.out(x[:, :, None] - x[:, None])
        w = self.score(F.relu(self.query(x)[:, :, None] - self.key(x)[:, None] + between)).softmax(2)
        seen(w.permute(0, 3, 1, 2))
        return (w * (self.value(x)[:, None] + between)).sum(2)

    def extra(self):
        self.score = nn.Linear(WIDTH, WIDTH)


@form()
class SeparableAttention(Loose):
    """One context for each row of patches (MobileViT v2)."""

    def extra(self):
        self.all = nn.Conv2d(WIDTH, 1 + 2 * WIDTH, 1)

    def forward(self, x):
        q, k, v = self.all(x.transpose(1, 2).reshape(BATCH, WIDTH, 2, 3)).split([1, WIDTH, WIDTH], 1)
        w = q.softmax(-1)
        seen(w)
        return F.relu(v) * (k * w).sum(-1, keepdim=True)


@form(unseen=2, decomposed=True)
class BlocksWithSumsAfterwards(Loose):
    """The log-sum-exp of each block is taken after its product."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        outputs, sums = [], []
        for i in range(2):
            s = self.scores(q, k[:, :, 3 * i:3 * i + 3])
            w = s.softmax(-1)
            seen(w)
            outputs.append(w @ v[:, :, 3 * i:3 * i + 3])
            sums.append(s.logsumexp(-1, keepdim=True))
        total = torch.stack(sums)
        share = (total - total.logsumexp(0, keepdim=True)).exp()
        return self.together(outputs[0] * share[0] + outputs[1] * share[1])


@form(unseen=1)
class OneKeyAtATime(Loose):
    """An online softmax whose scores are products and sums."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        largest, total, mixed = torch.full_like(q[..., :1], -1e9), torch.zeros_like(q[..., :1]), torch.zeros_like(q)
        for i in range(LENGTH):
            s = (q * k[:, :, i:i + 1]).sum(-1, keepdim=True)
            new = torch.maximum(largest, s)
            p, shrink = torch.exp(s - new), torch.exp(largest - new)
            total, mixed, largest = total * shrink + p, mixed * shrink + p * v[:, :, i:i + 1], new
        return self.together(mixed / total)


@form(unseen=1)
class CausalLinearAttention(Loose):
    def forward(self, x):
        q, k, v = self.qkv(x)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        states = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(2)
        return self.together((q.unsqueeze(-2) @ states).squeeze(-2) / (q * k.cumsum(2)).sum(-1, keepdim=True))


@form(unseen=1, decomposed=True)
class HardAttention(Loose):
    def mix(self, s, v):
        return F.one_hot(s.argmax(-1), LENGTH).to(v.dtype) @ v


@form(unseen=1)
class Edges(Loose):
    """Attention over the edges of a graph."""

    def forward(self, x):
        nodes = self.query(x[0])
        source, target = torch.arange(LENGTH).repeat(2), torch.cat([torch.arange(LENGTH), torch.arange(LENGTH).flip(0)])
        raised = F.leaky_relu((nodes[source] * nodes[target]).sum(-1)).exp()
        w = raised / torch.zeros(LENGTH).index_add(0, target, raised)[target]
        return torch.zeros_like(nodes).index_add(0, target, w.unsqueeze(-1) * nodes[source])


@form(unseen=1)
class SampledValues(Loose):
    """Deformable attention: a layer tells where, and how much."""

    def extra(self):
        self.where, self.weights = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 3)

    def forward(self, x):
        values = self.value(x).transpose(1, 2).reshape(BATCH, WIDTH, 2, 3)
        sampled = F.grid_sample(values, self.where(x).view(BATCH, LENGTH, 3, 2).tanh(), align_corners=False)
        return (sampled * self.weights(x).softmax(-1).unsqueeze(1)).sum(-1).transpose(1, 2)


@form()
class Segmentation(Loose):
    def extra(self):
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return F.interpolate(self.second(F.relu(self.first(x[:, None]))), scale_factor=2.0, mode='bilinear').softmax(1)


@form()
class Variational(Loose):
    def forward(self, x):
        return self.out(self.query(x) + torch.exp(0.5 * self.key(x)) * torch.tanh(x))


@form()
class SelectedKernels(Loose):
    def extra(self):
        self.first, self.second = nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 5, padding=2)
        self.choice = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        y = x.transpose(1, 2)
        both = torch.stack([self.first(y), self.second(y)], 1)
        share = self.choice(both.sum(1).mean(-1)).view(BATCH, 2, WIDTH).softmax(1)
        return (both * share.unsqueeze(-1)).sum(1)


# ---- heads where other dimensions are beside them -------------------------------------------------------------------


@form()
class OneQueryOfEachHead(Attention):
    """Pooling by the mean of all queries: no dimension of queries is left."""

    def forward(self, x):
        q = self.query(x.mean(1)).view(-1, 4, 4)
        k, v = self.key(x).view(-1, LENGTH, 4, 4), self.value(x).view(-1, LENGTH, 4, 4)
        weights = torch.einsum('bhd,bthd->bht', q, k).softmax(-1)
        seen(weights[:, :, None])
        return torch.einsum('bht,bthd->bhd', weights, v)


@form()
class HeadsBehindPositions(Attention):
    """One key for all heads, which stand behind the positions: heads are rows of the product."""

    def extra(self):
        self.key, self.value = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)

    def forward(self, x):
        weights = torch.einsum('bqhd,bkd->bqhk', self.query(x).view(-1, LENGTH, 4, 4), self.key(x)).softmax(-1)
        seen(weights.transpose(1, 2))
        return torch.einsum('bqhk,bkd->bqhd', weights, self.value(x))


@form()
class AbsorbedLatent(Attention):
    """Latent attention as it decodes: the keys' projection is part of the queries', keys and values are one tensor."""

    def extra(self):
        self.down = nn.Linear(WIDTH, 5)
        self.up, self.back = nn.Parameter(torch.randn(4, 4, 5)), nn.Parameter(torch.randn(4, 5, 4))

    def forward(self, x):
        latent = self.down(x)
        q = torch.einsum('bqhd,hdc->bqhc', self.query(x).view(-1, LENGTH, 4, 4), self.up)
        weights = torch.einsum('bqhc,bkc->bqhk', q, latent).softmax(-1)
        seen(weights.transpose(1, 2))
        mixed = torch.einsum('bqhk,bkc->bqhc', weights, latent)
        return torch.einsum('bqhc,hcd->bqhd', mixed, self.back).flatten(2)


@form()
class JointFlatHeads(Attention):
    """One projection, and batch times heads by a copy."""

    def extra(self):
        self.joint = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        q, k, v = self.joint(x).view(-1, LENGTH, 3, 4, 4).permute(2, 0, 3, 1, 4).reshape(3, -1, LENGTH, 4).unbind(0)
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        seen(weights.view(-1, 4, LENGTH, LENGTH))
        return torch.bmm(weights, v).view(-1, 4, LENGTH, 4)


@form()
class ZeroAttention(Attention):
    def extra(self):
        self.attention = nn.MultiheadAttention(WIDTH, 4, add_zero_attn=True, batch_first=True)

    def forward(self, x):
        out, weights = self.attention(x, x, x, average_attn_weights=False)
        seen(weights, name='attention.attention')
        return out


@form()
class GroupsOfHeads(Attention):
    """Grouped queries in a dimension of their own."""

    def extra(self):
        self.key, self.value = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)

    def grouped(self, x):
        q = self.query(x).view(-1, LENGTH, 2, 4, 2).permute(0, 2, 3, 1, 4)
        k, v = (y.view(-1, LENGTH, 2, 1, 2).permute(0, 2, 3, 1, 4) for y in (self.key(x), self.value(x)))
        return q, k, v

    def forward(self, x):
        q, k, v = self.grouped(x)
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        seen(weights.flatten(1, 2))
        return (weights @ v).permute(0, 3, 1, 2, 4).reshape(-1, LENGTH, WIDTH)


@form()
class GroupsOfHeadsFused(GroupsOfHeads):
    def forward(self, x):
        q, k, v = self.grouped(x)
        seen((q @ k.transpose(-1, -2) / math.sqrt(2)).softmax(-1).flatten(1, 2), operator='scaled_dot_product_attention')
        return F.scaled_dot_product_attention(q, k.expand(-1, -1, 4, -1, -1), v.expand(-1, -1, 4, -1, -1))


@form()
class GroupsFlattenedAhead(GroupsOfHeads):
    """Heads are one dimension in the softmax, and two in both products."""

    def forward(self, x):
        q = self.query(x).view(-1, LENGTH, 2, 4, 2)
        k, v = self.key(x).view(-1, LENGTH, 2, 2), self.value(x).view(-1, LENGTH, 2, 2)
        weights = torch.einsum('bqhgd,bkhd->bhgqk', q, k).reshape(-1, 8, LENGTH, LENGTH).softmax(-1)
        seen(weights)
        grouped = weights.view(-1, 2, 4, LENGTH, LENGTH)
        return torch.einsum('bhgqk,bkhd->bqhgd', grouped, v).reshape(-1, LENGTH, WIDTH)


@form()
class PooledByVector(Attention):
    """A learned query without heads: the batch is no dimension of queries."""

    def extra(self):
        self.pooling = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x):
        weights = torch.einsum('btd,d->bt', self.key(x), self.pooling).softmax(1)
        seen(weights[:, None, None])
        return torch.einsum('bt,btd->bd', weights, self.value(x))


@form()
class LearnedSlots(Attention):
    """Slots that depend on no input compete for the positions."""

    def extra(self):
        self.slots = nn.Parameter(torch.randn(1, 3, WIDTH))

    def forward(self, x):
        slots = self.query(self.slots.expand(x.size(0), 3, WIDTH))
        weights = torch.einsum('bid,bjd->bij', slots, self.key(x)).softmax(1) + 1e-8
        weights = weights / weights.sum(-1, keepdim=True)
        seen(weights[:, None])
        return torch.einsum('bij,bjd->bid', weights, self.value(x))


@form()
class WrittenOutSink(Attention):
    """A sink that has no column, only a share of the sum."""

    def extra(self):
        self.sink = nn.Parameter(torch.randn(1, HEADS, 1, 1))

    def mix(self, scores, v):
        most = torch.maximum(scores.amax(-1, keepdim=True), self.sink)
        raised = (scores - most).exp()
        weights = raised / (raised.sum(-1, keepdim=True) + (self.sink - most).exp())
        seen(weights, 'unnormalized', 'exp')
        return weights @ v


@form()
class OverAllPairs(Attention):
    """The softmax runs over queries and keys at once."""

    def mix(self, scores, v):
        weights = scores.flatten(2).softmax(-1).view_as(scores)
        seen(weights, 'unnormalized')
        return weights @ v


@form()
class TimesWaves(Between):
    """Scaled by what has both signs."""

    kind = 'signed'

    def between(self, w):
        return w * torch.arange(LENGTH * LENGTH).view(LENGTH, LENGTH).sin()


@form()
class TimesCurves(Between):
    """Scaled by what nobody knows, and has one sign."""

    def between(self, w):
        return w * (1.5 + torch.arange(LENGTH * LENGTH).view(LENGTH, LENGTH).sin())


@form()
class CosineMemory(Attention):
    def extra(self):
        self.memory = nn.Parameter(torch.randn(7, WIDTH))

    def forward(self, x):
        weights = (2 * F.cosine_similarity(self.memory[None, None], self.key(x)[:, :, None], dim=-1)).softmax(-1)
        seen(weights[:, None])
        return weights @ self.memory


@form()
class AddressedMemory(Attention):
    """One key of each sample, compared with a memory, then shifted and sharpened (neural Turing machines)."""

    def extra(self):
        self.memory, self.shift = nn.Parameter(torch.randn(7, WIDTH)), nn.Linear(WIDTH, 2)

    def forward(self, x):
        h = x.mean(1)
        w = (2 * F.cosine_similarity(self.memory[None], self.key(h)[:, None], dim=-1)).softmax(-1)
        s = self.shift(h).softmax(-1)
        w = (w * s[:, :1] + w.roll(1, -1) * s[:, 1:]) ** 2
        w = w / w.sum(-1, keepdim=True)
        seen(w[:, None, None])
        return w @ self.memory


@form()
class SigmoidOfProductsWrittenOut(Attention):
    """Scores that are multiplied and summed, and no softmax."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        w = torch.sigmoid((q.unsqueeze(3) * k.unsqueeze(2)).sum(-1))
        seen(w, 'sigmoid', 'sigmoid')
        return self.together(w @ v)


@form()
class OnlyKeySummed(Loose):
    """The only key's weights and values are multiplied and summed."""

    def forward(self, x):
        k = x[:, :1]
        w = self.out(torch.tanh(self.query(x)[:, :, None] + self.key(k)[:, None])).sum(-1).softmax(-1)
        seen(w[:, None])
        return (w[..., None] * self.value(k)[:, None]).sum(-2)


@form()
class PooledSteps(Loose):
    """Positions are the steps of a recurrence, which were stacked."""

    def extra(self):
        self.recurrence, self.score = nn.GRU(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, 1)

    def forward(self, x):
        h = self.recurrence(x)[0]
        w = self.score(torch.tanh(self.key(h))).softmax(1)
        seen(w.transpose(1, 2)[:, None])
        return (w * h).sum(1)


@form()
class WeightsOfChannels(Loose):
    """Each channel has weights of its own: rows are channels."""

    def forward(self, x):
        w = self.key(x).softmax(1)
        seen(w.transpose(1, 2)[:, None])
        return self.out(self.query(x).sigmoid() * (w * self.value(x)).sum(1, keepdim=True))


@form()
class SortedBuckets(Attention):
    """Positions are sorted by bucket, and attend within chunks of the sorted order."""

    def forward(self, x):
        q, _, v = self.qkv(x)
        order = (q[..., 0] * 3).argsort(-1)
        places = order.unsqueeze(-1).expand(-1, -1, -1, DEPTH)
        qs, vs = (t.gather(2, places).view(BATCH, HEADS, 3, 2, DEPTH) for t in (q, v))
        ks = F.normalize(qs, dim=-1)
        w = self.scores(qs, ks).softmax(-1)
        seen(w.transpose(1, 2).reshape(-1, HEADS, 2, 2), shape=[BATCH, 3, HEADS, 2, 2])
        mixed = (w @ vs).view(BATCH, HEADS, LENGTH, DEPTH)
        return self.together(mixed.gather(2, order.argsort(-1).unsqueeze(-1).expand(-1, -1, -1, DEPTH)))


# ---- no matrix of queries and keys ---------------------------------------------------------------------------------


@form(unseen=1)
class LinearAttentionPlusTensor(Attention):
    """As exported programs have it: the number that is added is a tensor."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        one = torch.ones(())
        q, k = F.elu(q) + one, F.elu(k) + one
        return self.together((q @ (k.transpose(-1, -2) @ v)) / (q @ k.sum(2).unsqueeze(-1)))


@form(unseen=1)
class DeltaRule(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        k = F.normalize(k, dim=-1)
        beta = self.out(x)[..., :HEADS].sigmoid().transpose(1, 2)
        state, mixed = torch.zeros(BATCH, HEADS, DEPTH, DEPTH), []
        for t in range(LENGTH):
            old = (state @ k[:, :, t].unsqueeze(-1)).squeeze(-1)
            state = state + beta[:, :, t, None, None] * (v[:, :, t] - old).unsqueeze(-1) * k[:, :, t].unsqueeze(-2)
            mixed.append((state @ q[:, :, t].unsqueeze(-1)).squeeze(-1))
        return self.together(torch.stack(mixed, 2))


@form(unseen=1)
class AveragedRecurrence(Attention):
    """Each channel is averaged by exponentials that decay (RWKV)."""

    def extra(self):
        self.decay, self.first = nn.Parameter(torch.rand(WIDTH)), nn.Parameter(torch.rand(WIDTH))

    def forward(self, x):
        k, v = self.key(x), self.value(x)
        total, mixed, steps = torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0]), []
        for t in range(LENGTH):
            now = torch.exp(self.first + k[:, t])
            steps.append((mixed + now * v[:, t]) / (total + now))
            shrink, more = torch.exp(-self.decay), torch.exp(k[:, t])
            mixed, total = shrink * mixed + more * v[:, t], shrink * total + more
        return self.out(self.query(x).sigmoid() * torch.stack(steps, 1))


class AttentionFree(Attention):
    """Each channel is averaged by exponentials, which positions scale (attention-free transformers)."""

    def forward(self, x):
        k = self.key(x).exp()
        return self.out(self.query(x).sigmoid() * self.over(k * self.value(x)) / self.over(k))


@form(unseen=1)
class AttentionFreePositions(AttentionFree):
    def extra(self):
        self.positions = nn.Parameter(torch.randn(LENGTH, LENGTH))

    def over(self, y):
        return self.positions.exp() @ y


@form(unseen=1)
class AttentionFreeConvolution(AttentionFree):
    def extra(self):
        self.kernel = nn.Parameter(torch.randn(WIDTH, 1, 3))

    def over(self, y):
        y = y.transpose(1, 2)
        return (F.conv1d(y, self.kernel.exp(), padding=1, groups=WIDTH) + y.sum(2, keepdim=True)).transpose(1, 2)


@form(unseen=1)
class PooledByNorm(Attention):
    """One query out of all, by weights that a norm made (SwiftFormer)."""

    def extra(self):
        self.weight = nn.Parameter(torch.randn(WIDTH, 1))

    def forward(self, x):
        q, k = F.normalize(self.query(x), dim=-1), F.normalize(self.key(x), dim=-1)
        a = F.normalize(q @ self.weight * 0.25, dim=1)
        return self.out(self.value((a * q).sum(1, keepdim=True) * k) + q)


@form(unseen=1)
class PooledBySigmoid(Scored):
    def forward(self, x):
        a = self.score(torch.tanh(self.query(x)) * self.key(x).sigmoid()).sigmoid()
        return self.out((a.transpose(1, 2) @ x).squeeze(1) / a.sum(1))


@form(unseen=1)
class PooledByMaps(Loose):
    """Maps of an image, each with a mean of its own (TokenLearner)."""

    def extra(self):
        self.maps = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, x):
        maps = self.maps(x.transpose(1, 2).reshape(BATCH, WIDTH, 2, 3)).sigmoid().flatten(2)
        return (maps.unsqueeze(-1) * x.unsqueeze(1)).mean(2)


@form(unseen=1)
class SpectralConvolution(Loose):
    """As exported programs have it, made of the transforms themselves."""

    def extra(self):
        self.filter = nn.Parameter(torch.randn(LENGTH, WIDTH))

    def forward(self, x):
        spectrum = torch.ops.aten._fft_r2c(self.key(x) * self.value(x), [1], 0, True)
        filtered = spectrum * torch.fft.rfft(self.filter, dim=0)
        return self.query(x) * torch.ops.aten._fft_c2r(filtered, [1], 2, LENGTH)


# ---- no attention --------------------------------------------------------------------------------------------------


@form()
class ChannelGates(Loose):
    """Squeeze and excitation, of images and of sequences."""

    def extra(self):
        self.less, self.more = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(4, WIDTH, 1)
        self.spatial = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, x):
        y = self.value(x) * self.key(x.mean(1)).sigmoid()[:, None]
        image = x.transpose(1, 2).reshape(BATCH, WIDTH, 2, 3)
        image = image * self.more(F.relu(self.less(image.mean((2, 3), keepdim=True)))).sigmoid()
        gated = F.relu(image * self.spatial(image).sigmoid() + image)
        return F.adaptive_avg_pool2d(image, 1).flatten(1) + gated.mean((2, 3)) + y.mean(1)


@form()
class Mixers(Loose):
    """Positions are mixed by constants: MLP-Mixer, gMLP, and Fourier transforms."""

    def extra(self):
        self.tokens, self.spatial = nn.Linear(LENGTH, LENGTH), nn.Conv1d(LENGTH, LENGTH, 1)

    def forward(self, x):
        x = x + self.tokens(F.gelu(x.transpose(1, 2))).transpose(1, 2)
        x = x + self.query(x) * self.spatial(self.key(x))
        return self.out(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real).mean(1)


@form()
class MadeSpectrum(Loose):
    """What a vocoder's last layer makes is a spectrum, and waves are features."""

    def forward(self, x):
        waves = self.query(x)
        size, phase = self.out(torch.cat([waves.sin(), waves.cos()], -1)[..., ::2]).chunk(2, -1)
        return torch.fft.irfft(torch.complex(size.exp() * phase.cos(), size.exp() * phase.sin()), dim=-1)


@form()
class Recurrences(Loose):
    """Gates of cells, whose steps are stacked."""

    def extra(self):
        self.long = nn.LSTM(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.gated = nn.GRUCell(WIDTH, WIDTH)

    def forward(self, x):
        x = self.long(x)[0]
        state, minimal, steps = torch.zeros(BATCH, WIDTH), torch.zeros(BATCH, WIDTH), []
        keep, new = self.query(x).sigmoid(), self.key(x).tanh()
        for t in range(LENGTH):
            state = self.gated(x[:, t], state)
            minimal = (1 - keep[:, t]) * minimal + keep[:, t] * new[:, t]
            steps.append(state + minimal)
        return self.out(torch.stack(steps, 1)).mean(1).softmax(-1)


@form()
class Covariances(Loose):
    """Gram matrices in a loss, and normalization by statistics."""

    def forward(self, x):
        y = self.value(x) - self.value(x).mean(1, keepdim=True)
        covariance = y.transpose(1, 2) @ y / (LENGTH - 1)
        off = covariance - torch.diag_embed(torch.diagonal(covariance, dim1=1, dim2=2))
        z = (self.key(x) - self.key(x).mean((0, 1))) / (self.key(x).var((0, 1)) + 1e-5).sqrt()
        return off.pow(2).sum((1, 2)) + self.out(z).mean((1, 2))


@form()
class MaskedMeans(Loose):
    """The mean over what a mask of the input leaves, and a mixture of densities."""

    def forward(self, x):
        mask = (x[..., :1] > -0.5).float()
        pooled = (self.value(x) * mask).sum(1) / mask.sum(1).clamp(min=1)
        spread = self.key(pooled).exp()
        density = (-((pooled - self.query(pooled)) / spread) ** 2).exp() / spread
        return (self.out(pooled).softmax(-1) * density).sum(-1).log()


# ---- further ones of the kinds above -------------------------------------------------------------------------------


@form()
class SlidingWindow(Attention):
    """Each position is a query of its own beside the keys of a window: a dimension of size one is no query."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        k, v = (F.pad(each, (0, 0, 1, 1)).unfold(2, 3, 1) for each in (k, v))
        w = (q.unsqueeze(-2) @ k).softmax(-1)
        seen(w.squeeze(-2))
        return self.together((w @ v.transpose(-1, -2)).squeeze(-2))


@form(unseen=1)
class GatedDeltaRule(Attention):
    """The delta rule by einsum, with a decay and a rate of each head."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        k = F.normalize(k, dim=-1)
        decay, rate = self.out(x)[..., : 2 * HEADS].sigmoid().transpose(1, 2).chunk(2, 1)
        state, mixed = torch.zeros(BATCH, HEADS, DEPTH, DEPTH), []
        for t in range(LENGTH):
            state = state * decay[:, :, t, None, None]
            old = torch.einsum('bhkv,bhk->bhv', state, k[:, :, t])
            state = state + torch.einsum('bhk,bhv->bhkv', k[:, :, t], (v[:, :, t] - old) * rate[:, :, t, None])
            mixed.append(torch.einsum('bhkv,bhk->bhv', state, q[:, :, t]))
        return self.together(torch.stack(mixed, 2))


@form(unseen=1)
class StabilizedRecurrence(AveragedRecurrence):
    """The same averages, with the largest exponent so far taken off (RWKV as it is run)."""

    def forward(self, x):
        k, v, decay = self.key(x), self.value(x), -self.decay.exp()
        mixed, total, largest, steps = torch.zeros(BATCH, WIDTH), torch.zeros(BATCH, WIDTH), torch.full((BATCH, WIDTH), -1e30), []
        for t in range(LENGTH):
            first = self.first + k[:, t]
            now = torch.maximum(largest, first)
            before, more = (largest - now).exp(), (first - now).exp()
            steps.append((before * mixed + more * v[:, t]) / (before * total + more))
            next_largest = torch.maximum(largest + decay, k[:, t])
            before, more = (largest + decay - next_largest).exp(), (k[:, t] - next_largest).exp()
            mixed, total, largest = before * mixed + more * v[:, t], before * total + more, next_largest
        return self.out(self.query(x).sigmoid() * torch.stack(steps, 1))


@form(unseen=1)
class AveragedSoFar(AttentionFree):
    """Sums over all earlier positions."""

    def over(self, k):
        return k.cumsum(1)


@form()
class BlocksOverOneSum(Loose):
    """Exponentials of two blocks of keys, over the sum of both."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        first, second = (self.scores(q, k[:, :, :2]).exp(), self.scores(q, k[:, :, 2:]).exp())
        total = first.sum(-1, keepdim=True) + second.sum(-1, keepdim=True)
        first, second = first / total, second / total
        seen(first, 'unnormalized', 'exp')
        seen(second, 'unnormalized', 'exp')
        return self.together(first @ v[:, :, :2] + second @ v[:, :, 2:])


@form(unseen=2)
class TwoAxes(Loose):
    """Rows and columns of a grid attend at once: the product of two softmaxes."""

    def forward(self, x):
        q, k = self.query(x), self.key(x)
        rows = (q[:, :2] @ k[:, :2].transpose(1, 2)).softmax(-1)
        columns = (q[:, 3:] @ k[:, 3:].transpose(1, 2)).softmax(-1)
        both = torch.einsum('bij,bkl->bikjl', rows, columns).flatten(1, 2).flatten(2)
        return both @ self.value(x)


@form()
class CrissCross(Loose):
    """A pixel attends to its column and its row, in one softmax and two products (CCNet)."""

    def forward(self, x):
        grid = (BATCH, 2, LENGTH // 2)
        q, k, v = (p(x).view(*grid, WIDTH) for p in (self.query, self.key, self.value))

        def columns(t):
            return t.transpose(1, 2).reshape(BATCH * grid[2], 2, WIDTH)

        def rows(t):
            return t.reshape(BATCH * 2, grid[2], WIDTH)

        over_columns = torch.bmm(columns(q), columns(k).transpose(1, 2)).view(BATCH, grid[2], 2, 2).transpose(1, 2)
        over_rows = torch.bmm(rows(q), rows(k).transpose(1, 2)).view(BATCH, 2, grid[2], grid[2])
        weights = torch.cat([over_columns, over_rows], 3).softmax(3)
        seen(weights.reshape(BATCH, 1, LENGTH, 2 + grid[2]), 'softmax')
        first = weights[..., :2].transpose(1, 2).reshape(BATCH * grid[2], 2, 2)
        second = weights[..., 2:].reshape(BATCH * 2, grid[2], grid[2])
        mixed = torch.bmm(first, columns(v)).view(BATCH, grid[2], 2, WIDTH).transpose(1, 2)
        return self.out(mixed + torch.bmm(second, rows(v)).view(*grid, WIDTH))


@form()
class SoftPick(Attention):
    """What divides is the sum of something else than what is divided."""

    def mix(self, scores, v):
        largest = scores.amax(-1, keepdim=True)
        raised = (scores - largest).exp() - (-largest).exp()
        weights = F.relu(raised) / (raised.abs().sum(-1, keepdim=True) + 1e-6)
        seen(weights, 'unnormalized', 'exp')
        return weights @ v


@form()
class OverTheirSum(Attention):
    """Scores of either sign, over the sum of their absolute values."""

    def mix(self, scores, v):
        weights = scores / (scores.abs().sum(-1, keepdim=True) + 1e-6)
        seen(weights, 'signed', 'matmul')
        return weights @ v


@form()
class SoftmaxOverHeads(Attention):
    """Heads stay heads, whatever the softmax runs over."""

    def mix(self, scores, v):
        weights = scores.softmax(1)
        seen(weights, 'unnormalized')
        return weights @ v


@form()
class DropoutInPlace(Between):
    kind = 'softmax'

    def extra(self):
        self.dropout = nn.Dropout(0.1, inplace=True)

    def between(self, w):
        return self.dropout(w)


@form()
class PooledGlobally(Attention):
    """One query of each head, whose scores a layer makes (Fastformer)."""

    def extra(self):
        self.score = nn.Linear(WIDTH, HEADS)

    def forward(self, x):
        weights = self.score(self.query(x)).transpose(1, 2).softmax(-1).unsqueeze(2)
        seen(weights)
        return self.out((weights @ self.apart(self.value(x))).transpose(1, 2).reshape(BATCH, 1, WIDTH))


@form()
class UnfoldedWindows(Attention):
    """Windows of a feature map by unfold, positions behind their keys."""

    def extra(self):
        self.maps = nn.Conv2d(WIDTH, 3 * WIDTH, 1)

    def windows(self, t):
        return F.unfold(t, 3, padding=1).view(BATCH, HEADS, DEPTH, 9, LENGTH)

    def forward(self, x):
        q, k, v = self.maps(x.transpose(1, 2).reshape(BATCH, WIDTH, 2, LENGTH // 2)).chunk(3, 1)
        scores = torch.einsum('bhdn,bhdkn->bhkn', q.reshape(BATCH, HEADS, DEPTH, LENGTH), self.windows(k))
        weights = scores.softmax(2)
        seen(weights.transpose(2, 3))
        return torch.einsum('bhkn,bhdkn->bhdn', weights, self.windows(v))


@form()
class IndexedWindows(UnfoldedWindows):
    """The same as exported programs write it: padded, and indexed by rows and columns at once."""

    def windows(self, t):
        rows = torch.arange(3)[:, None] + torch.arange(2)[None]
        columns = torch.arange(3)[:, None] + torch.arange(LENGTH // 2)[None]
        windows = F.pad(t, (1, 1, 1, 1))[:, :, rows[:, :, None, None], columns]
        return windows.permute(0, 1, 2, 4, 3, 5).reshape(BATCH, HEADS, DEPTH, 9, LENGTH)


@form()
class ConvolvedHeads(Attention):
    """Keys and values of each head are pooled by a convolution, heads in the batch (MViT)."""

    def extra(self):
        self.pool = nn.Conv1d(DEPTH, DEPTH, 2, stride=2)

    def pooled(self, t):
        return self.pool(t.reshape(BATCH * HEADS, LENGTH, DEPTH).transpose(1, 2)).transpose(1, 2).reshape(BATCH, HEADS, -1, DEPTH)

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = (self.pooled(q) @ self.pooled(k).transpose(-2, -1)).softmax(-1)
        seen(weights)
        return weights @ self.pooled(v)


@form()
class WindowsWithoutSoftmax(Attention):
    """Windows of one head, in a product of matrices: nothing tells that they aren't heads (GAU)."""

    def forward(self, x):
        q, k, v = (p(x).view(BATCH, 3, 2, WIDTH) for p in (self.query, self.key, self.value))
        weights = F.relu(torch.einsum('bgnd,bgmd->bgnm', q, k)) ** 2
        seen(weights, 'relu', 'relu')
        return torch.einsum('bgnm,bgmd->bgnd', weights, v)


@form(unseen=1)
class MixtureOfGaussians(Loose):
    """Weights of positions are a mixture of exponentials, of no scores (Graves)."""

    def extra(self):
        self.mixture = nn.Linear(WIDTH, 9)

    def forward(self, x):
        height, width, place = self.mixture(x[:, 0]).exp().view(BATCH, 3, 3).unbind(1)
        distance = (place.unsqueeze(-1) - torch.arange(LENGTH, dtype=x.dtype)) ** 2
        weights = (height.unsqueeze(-1) * torch.exp(-width.unsqueeze(-1) * distance)).sum(1)
        return torch.bmm(weights.unsqueeze(1), x)


@form(unseen=1)
class ProductKeys(Loose):
    """A memory: the best of many keys weigh rows of a table, summed by an embedding bag."""

    def extra(self):
        self.keys = nn.Parameter(torch.randn(5, WIDTH))
        self.values = nn.EmbeddingBag(5, WIDTH, mode='sum')

    def forward(self, x):
        best, index = (self.query(x).reshape(-1, WIDTH) @ self.keys.t()).topk(3, -1)
        return self.values(index, per_sample_weights=best.softmax(-1))


@form(unseen=1)
class SparseMatrix(Loose):
    """Scores become a sparse matrix."""

    def forward(self, x):
        scores = self.query(x)[0] @ self.key(x)[0].t()
        kept = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), 0.0).to_sparse()
        return torch.sparse.mm(torch.sparse.softmax(kept, 1), self.value(x)[0])


@form(unseen=1, decomposed=True)
class Pointer(Loose):
    """Scores of a vector of parameters, whose softmax is returned."""

    def extra(self):
        self.vector = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x):
        return (torch.tanh(self.query(x[:, :1]) + self.key(x)) @ self.vector).softmax(-1)


@form(unseen=1)
class PointerWrittenOut(Pointer):
    def forward(self, x):
        return (torch.tanh(self.key(x)) * self.vector).sum(-1).softmax(-1)


@form(unseen=1)
class MixtureOfOutputs(Loose):
    """A layer without bias, as a product, weighs outputs that another layer made."""

    def extra(self):
        self.gate = nn.Parameter(torch.randn(WIDTH, 3))
        self.outputs = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        gates = torch.mm(x.reshape(-1, WIDTH), self.gate).view(BATCH, LENGTH, 3).softmax(-1)
        return torch.einsum('btn,btnd->btd', gates, self.outputs(x).view(BATCH, LENGTH, 3, WIDTH))


# ---- heads, states and mixtures that other things tell ---------------------------------------------------------------


@form()
class FoldedGroups(Attention):
    """Queries of heads that share keys stand one after the other; the weights still have their heads."""

    def extra(self):
        self.key, self.value = nn.Linear(WIDTH, DEPTH), nn.Linear(WIDTH, DEPTH)

    def forward(self, x):
        q = self.apart(self.query(x)).reshape(BATCH, 1, HEADS * LENGTH, DEPTH)
        k, v = self.key(x).unsqueeze(1), self.value(x).unsqueeze(1)
        w = (q @ k.transpose(-2, -1)).softmax(-1)
        seen(w.view(BATCH, HEADS, LENGTH, LENGTH), shape=[BATCH, 1, HEADS, LENGTH, LENGTH])
        return self.together((w @ v).view(BATCH, HEADS, LENGTH, DEPTH))


@form()
class ComplexRotation(Attention):
    """Rotary positions as complex numbers."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        turns = torch.polar(torch.ones(LENGTH, DEPTH // 2), torch.arange(LENGTH)[:, None] * 0.3 ** torch.arange(DEPTH // 2))

        def turned(t):
            return torch.view_as_real(torch.view_as_complex(t.reshape(*t.shape[:-1], -1, 2)) * turns).flatten(3)

        w = self.scores(turned(q), turned(k)).softmax(-1)
        seen(w)
        return self.together(w @ v)


@form()
class ChunksAheadOfBatch(Attention):
    """Heads are chunked off and put side by side ahead of the batch (Set Transformer)."""

    def forward(self, x):
        q, k, v = (torch.cat(each.split(DEPTH, 2), 0) for each in (self.query(x), self.key(x), self.value(x)))
        w = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        seen(w.view(HEADS, BATCH, LENGTH, LENGTH).transpose(0, 1))
        return self.out(torch.cat(torch.bmm(w, v).split(BATCH, 0), 2))


@form(decomposed=True)
class ChunksStacked(Attention):
    def forward(self, x):
        q, k, v = (torch.stack(each.chunk(HEADS, -1), 1).flatten(0, 1) for each in (self.query(x), self.key(x), self.value(x)))
        w = (q @ k.transpose(1, 2)).softmax(-1)
        seen(w.view(BATCH, HEADS, LENGTH, LENGTH))
        return self.out(torch.cat((w @ v).view(BATCH, HEADS, LENGTH, DEPTH).unbind(1), -1))


@form()
class HeadsOfValues(Attention):
    """Weights are parameters (a random synthesizer): the values tell heads."""

    def extra(self):
        self.weights = nn.Parameter(torch.randn(HEADS, LENGTH, LENGTH))

    def forward(self, x):
        w = self.weights.softmax(-1)
        seen(w[None])
        return self.together(w @ self.apart(self.value(x)))


@form()
class PairsOfHeads(Attention):
    """Scores of all pairs by a linear layer, heads last (GATv2)."""

    def extra(self):
        self.score = nn.Linear(DEPTH, 1, bias=False)

    def forward(self, x):
        left, right = (p(x[0]).view(LENGTH, HEADS, DEPTH) for p in (self.query, self.key))
        pairs = F.leaky_relu(left.repeat(LENGTH, 1, 1) + right.repeat_interleave(LENGTH, 0), 0.2)
        w = self.score(pairs).view(LENGTH, LENGTH, HEADS).softmax(1)
        seen(w.permute(2, 0, 1)[None])
        return torch.einsum('ijh,jhf->ihf', w, right).reshape(LENGTH, WIDTH)


@form(unseen=1, decomposed=True)
class LinearAttentionOfFeatures(Loose):
    """As many heads as features: keys times values, added up over positions, which queries multiply."""

    def forward(self, x):
        q, k = F.normalize(self.query(x), dim=-1), F.normalize(self.key(x), dim=-1)
        return self.out(q * (k * self.value(x)).sum(1, keepdim=True))


@form(unseen=1)
class CausalLinearAttentionOfFeatures(Loose):
    def forward(self, x):
        return self.out(self.query(x) * (self.key(x) * self.value(x)).cumsum(1))


@form(decomposed=True)
class MixtureOfSoftmaxes(Loose):
    def extra(self):
        self.prior, self.latent = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3 * WIDTH)
        self.words = nn.Linear(WIDTH, 5)

    def forward(self, x):
        words = self.words(torch.tanh(self.latent(x)).view(BATCH, LENGTH, 3, WIDTH)).softmax(-1)
        return torch.einsum('btk,btkv->btv', self.prior(x).softmax(-1), words).log()


class Layers(Loose):
    def layers(self, x):
        layers = []
        for layer in (self.query, self.key, self.value):
            x = x + F.gelu(layer(x))
            layers.append(x)
        return torch.stack(layers)


@form(decomposed=True)
class LayersMixed(Layers):
    """Numbers of the model weigh its layers."""

    def extra(self):
        self.shares = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return (self.layers(x) * self.shares.softmax(0).view(3, 1, 1, 1)).sum(0)


@form(decomposed=True)
class LayersRouted(Layers):
    """Each position weighs the layers' outputs by itself."""

    def extra(self):
        self.shares = nn.Linear(WIDTH, 3, bias=False)

    def forward(self, x):
        return torch.einsum('btl,lbtd->btd', self.shares(x).softmax(-1), self.layers(x))


@form()
class LayersScored(Layers):
    """Each layer's output is scored by one layer: attention over the layers."""

    def extra(self):
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x):
        layers = self.layers(x).permute(1, 2, 0, 3)
        w = self.score(layers).squeeze(-1).softmax(-1)
        seen(w[:, None])
        return (w.unsqueeze(-2) @ layers).squeeze(-2)


# ---- layers of eight bits --------------------------------------------------------------------------------------------


@form(int8=True)
class Int8(Attention):
    def mix(self, scores, v):
        w = scores.softmax(-1)
        seen(w)
        return w @ v


@form(int8=True)
class Int8Pooled(Attention):
    def extra(self):
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x):
        w = self.score(torch.tanh(self.key(x))).softmax(1)
        seen(w.transpose(1, 2)[:, None])
        return (w * self.value(x)).sum(1)


@form(int8=True)
class Int8Experts(StackedExperts):
    """A router and experts of eight bits."""


# ---- recurrences and choices written out -----------------------------------------------------------------------------


@form(decomposed=True)
class AttendedRecurrence(Attention):
    """A recurrence of two layers, step by step; its last state weighs its states."""

    def extra(self):
        self.recurrent, self.score = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x):
        state = torch.zeros(BATCH, WIDTH)
        states = []
        for step in range(LENGTH):
            state = torch.tanh(self.query(x[:, step]) + self.recurrent(state))
            states.append(state)
        all_states = torch.stack(states, 1)
        w = self.score(torch.tanh(self.key(all_states) + self.value(state)[:, None])).softmax(1)
        seen(w.transpose(1, 2)[:, None])
        return (w * all_states).sum(1)


@form()
class WindowsOfJoined(Attention):
    """Positions of two layers side by side, which a view splits into windows as long as each."""

    def forward(self, x):
        def windows(first, second):
            joined = torch.cat([first(x[:, :3]), second(x[:, 3:])], 1)
            return joined.view(BATCH, 2, 3, HEADS, DEPTH).transpose(2, 3)

        q, k, v = windows(self.query, self.key), windows(self.key, self.value), windows(self.value, self.query)
        w = (q @ k.transpose(-2, -1)).softmax(-1)
        seen(w.flatten(0, 1), shape=list(w.shape))
        return self.out((w @ v).transpose(2, 3).reshape(BATCH, LENGTH, WIDTH))


@form(unseen=1)
class ChosenByScatter(Loose):
    def mix(self, s, v):
        return torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1.0) @ v


@form(unseen=1)
class ChosenByComparison(Loose):
    def mix(self, s, v):
        return (s >= s.amax(-1, keepdim=True)).float() @ v


@form(unseen=1)
class ChosenByGather(Loose):
    def mix(self, s, v):
        return v.gather(2, s.argmax(-1, keepdim=True).expand(-1, -1, -1, DEPTH))


# ---- weights of layers that each sample has its own of, which are no keys -------------------------------------------


class Routed(Attention):
    """Experts, two of which a router without bias chooses for each token."""

    def extra(self):
        self.router = nn.Linear(WIDTH, 4, bias=False)
        self.into, self.back = (nn.Parameter(torch.randn(4, WIDTH, WIDTH) / 4) for _ in range(2))

    def chosen(self, x):
        weights, experts = self.router(x).softmax(-1).topk(2, -1)
        return weights / weights.sum(-1, keepdim=True), experts


@form(decomposed=True)
class PickedExperts(Routed):
    """The experts' matrices are picked for each token and choice, and multiplied in one batch."""

    def forward(self, x):
        tokens = x.reshape(-1, WIDTH)
        weights, experts = self.chosen(tokens)
        experts = experts.reshape(-1)
        inner = torch.bmm(self.into[experts], tokens.repeat_interleave(2, 0).unsqueeze(-1)).squeeze(-1)
        outputs = torch.bmm(self.back[experts], F.silu(inner).unsqueeze(-1)).squeeze(-1)
        return (outputs.view(-1, 2, WIDTH) * weights[..., None]).sum(1).view_as(x)


@form(decomposed=True)
class PickedExpertsEinsum(Routed):
    def forward(self, x):
        weights, experts = self.chosen(x)
        inner = torch.relu(torch.einsum('btd,btkdh->btkh', x, self.into[experts]))
        outputs = torch.einsum('btkh,btkhd->btkd', inner, self.back[experts])
        return (outputs * weights[..., None]).sum(2)


@form(decomposed=True)
class GatheredExperts(Routed):
    """One expert a sample, gathered from tables that were expanded."""

    def forward(self, x):
        expert = self.router(x.mean(1)).argmax(-1).view(-1, 1, 1, 1).expand(-1, 1, WIDTH, WIDTH)
        into, back = (
            table.expand(BATCH, -1, -1, -1).gather(1, expert).squeeze(1) for table in (self.into, self.back)
        )
        return torch.bmm(F.gelu(torch.bmm(x, into)), back)


@form(decomposed=True)
class MergedExperts(Routed):
    """Experts are mixed into one for each sample."""

    def forward(self, x):
        gates = self.router(x.mean(1)).softmax(-1)[:, :, None, None]
        into, back = (gates * self.into).sum(1), (gates * self.back).sum(1)
        return torch.relu(x @ into) @ back


@form(decomposed=True)
class MergedExpertsAsProduct(Routed):
    def forward(self, x):
        gates = self.router(x.mean(1)).sigmoid()
        into, back = ((gates @ table.view(4, -1)).view(-1, WIDTH, WIDTH) for table in (self.into, self.back))
        return torch.bmm(F.silu(torch.bmm(x, into)), back)


@form(decomposed=True)
class EmbeddedAdapters(Attention):
    """Matrices that are rows of an embedding, as a layer of low rank for each task."""

    def extra(self):
        self.down, self.up = nn.Embedding(5, WIDTH * 3), nn.Embedding(5, 3 * WIDTH)

    def forward(self, x):
        task = self.query(x.mean(1)).argmax(-1) % 5
        return x + torch.relu(x @ self.down(task).view(-1, WIDTH, 3)) @ self.up(task).view(-1, 3, WIDTH)


@form(decomposed=True)
class Hypernetwork(Attention):
    """Two layers whose weights other layers make of each sample."""

    def extra(self):
        self.first, self.second = nn.Linear(WIDTH, WIDTH * 5), nn.Linear(WIDTH, 5 * WIDTH)

    def forward(self, x):
        z = x.mean(1)
        first, second = self.first(z).view(-1, WIDTH, 5) / 4, self.second(z).view(-1, 5, WIDTH)
        return torch.bmm(torch.tanh(torch.bmm(x, first)), second)


@form(decomposed=True)
class HypernetworkOfSlots(Attention):
    """Slots that a layer makes of each sample: a softmax over them is attention."""

    def extra(self):
        self.slots = nn.Linear(WIDTH, 5 * WIDTH)

    def forward(self, x):
        slots = self.slots(x.mean(1)).view(-1, 5, WIDTH)
        w = (self.query(x) @ slots.transpose(1, 2)).softmax(-1)
        seen(w[:, None])
        return w @ slots


@form(decomposed=True)
class PickedMemory(Routed):
    """One of several memories is picked for each sample."""

    def forward(self, x):
        memory = self.into[self.router(x.mean(1)).argmax(-1)]
        w = (self.query(x) @ memory.transpose(1, 2)).softmax(-1)
        seen(w[:, None])
        return w @ memory


@form(decomposed=True)
class ChosenSlots(Loose):
    """A softmax over slots of constants, of which the best are read."""

    def extra(self):
        self.keys, self.slots = (nn.Parameter(torch.randn(7, WIDTH) / 4) for _ in range(2))

    def forward(self, x):
        w, chosen = (self.query(x) @ self.keys.t()).softmax(-1).topk(3, -1)
        w = w / w.sum(-1, keepdim=True)
        seen(w[:, None])
        return (w.unsqueeze(-1) * self.slots[chosen]).sum(-2)


@form(decomposed=True)
class PickedProjections(Routed):
    """Queries and keys of projections that were picked for each sample."""

    def forward(self, x):
        expert = self.router(x.mean(1)).argmax(-1)
        q, k = self.apart(x @ self.into[expert]), self.apart(x @ self.back[expert])
        w = self.scores(q, k).sigmoid()
        seen(w, 'sigmoid', 'sigmoid')
        return self.together(w @ self.apart(self.value(x)))


# ---- neighbourhoods of a picture, sums beside a maximum --------------------------------------------------------------


class Neighbourhoods(Loose):
    """Each place of a picture attends to the nine around it."""

    def around(self, x):
        return F.pad(x.view(BATCH, 2, 3, WIDTH).permute(0, 3, 1, 2), (1, 1, 1, 1))


@form(decomposed=True)
class NeighbourhoodsOfGrid(Neighbourhoods):
    """A grid of queries behind the heads."""

    def forward(self, x):
        q = self.query(x).view(BATCH, 2, 3, HEADS, DEPTH).permute(0, 3, 1, 2, 4)
        k, v = (
            self.around(layer(x)).unfold(2, 3, 1).unfold(3, 3, 1).reshape(BATCH, HEADS, DEPTH, 2, 3, 9)
            for layer in (self.key, self.value)
        )
        w = torch.einsum('bhxyd,bhdxyn->bhxyn', q, k).softmax(-1)
        seen(w.flatten(2, 3))
        return self.out(torch.einsum('bhxyn,bhdxyn->bxyhd', w, v).reshape(BATCH, LENGTH, WIDTH))


@form(decomposed=True)
class NeighbourhoodsSummed(Neighbourhoods):
    """Multiplied and summed, with the features ahead of the places."""

    def forward(self, x):
        q = self.query(x).transpose(1, 2).reshape(BATCH, HEADS, DEPTH, LENGTH, 1)
        k, v = (
            F.unfold(layer(x).view(BATCH, 2, 3, WIDTH).permute(0, 3, 1, 2), 3, padding=1)
            .view(BATCH, HEADS, DEPTH, 9, LENGTH)
            .transpose(3, 4)
            for layer in (self.key, self.value)
        )
        w = (q * k).sum(2).softmax(-1)
        seen(w)
        return (w.unsqueeze(2) * v).sum(-1).reshape(BATCH, WIDTH, LENGTH)


@form(decomposed=True)
class OffByOneShifted(Loose):
    """One more in the sum, which the largest of the scores had been subtracted from."""

    def mix(self, s, v):
        largest = s.amax(-1, keepdim=True).clamp(min=0)
        e = (s - largest).exp()
        w = e / ((-largest).exp() + e.sum(-1, keepdim=True))
        seen(w, 'unnormalized', 'exp')
        return w @ v


# ---- scores that pick ------------------------------------------------------------------------------------------------


@form(decomposed=True)
class PickedByScores(Attention):
    """Scores of several heads, added up with weights of their own for each query, pick the keys of an attention (an indexer)."""

    def extra(self):
        self.index_key, self.weights = nn.Linear(WIDTH, DEPTH), nn.Linear(WIDTH, HEADS)

    def index(self, x):
        scores = torch.relu(self.out(x).view(BATCH, LENGTH, HEADS, DEPTH) @ self.index_key(x).transpose(-2, -1)[:, None])
        return (self.weights(x)[:, :, None] @ scores)[:, :, 0]

    def forward(self, x):
        picked = self.index(x).topk(3, -1).indices
        mask = torch.full((BATCH, LENGTH, LENGTH), -math.inf).scatter(-1, picked, 0.0)
        w = (self.query(x) @ self.key(x).transpose(-2, -1) + mask).softmax(-1)
        seen(w[:, None])
        return w @ self.value(x)


@form()
class PickedByEinsum(PickedByScores):
    def index(self, x):
        queries = self.out(x).view(BATCH, LENGTH, HEADS, DEPTH)
        scores = torch.relu(torch.einsum('bqhd,bkd->bqhk', queries, self.index_key(x)))
        return torch.einsum('bqhk,bqh->bqk', scores, self.weights(x))


@form()
class HeadsMixedByQuery(Attention):
    """Each query mixes the weights of its heads by numbers of its own."""

    def extra(self):
        self.mixing = nn.Linear(WIDTH, HEADS)

    def forward(self, x):
        q, k = (layer(x).view(BATCH, LENGTH, HEADS, DEPTH).transpose(1, 2) for layer in (self.query, self.key))
        w = torch.einsum('bhqk,bqh->bqk', (q @ k.transpose(-2, -1)).softmax(-1), self.mixing(x))
        seen(w[:, None], kind='signed')
        return w @ self.value(x)


@form(decomposed=True)
class ExpertsChosenAhead(Routed):
    """The softmax runs over the chosen experts alone, of a router that is written as a product."""

    def forward(self, x):
        tokens = x.reshape(-1, WIDTH)
        weights, experts = (tokens @ self.router.weight.t()).topk(2, -1)
        experts = experts.reshape(-1)
        inner = torch.bmm(self.into[experts], tokens.repeat_interleave(2, 0).unsqueeze(-1)).squeeze(-1)
        outputs = torch.bmm(self.back[experts], F.silu(inner).unsqueeze(-1)).squeeze(-1)
        return (outputs.view(-1, 2, WIDTH) * weights.softmax(-1)[..., None]).sum(1).view_as(x)


# ---- routers and what looks like them ------------------------------------------------------------------------------


class Logits(Attention):
    """Experts chosen by the logits of a layer; a softmax over those follows."""

    bias = True

    def extra(self):
        self.router = nn.Linear(WIDTH, 4, bias=self.bias)
        self.into, self.back = (nn.Parameter(torch.randn(4, WIDTH, WIDTH) / 4) for _ in range(2))
        self.first, self.second = (nn.Parameter(torch.randn(4, WIDTH)) for _ in range(2))

    def chosen(self, x):
        logits, experts = self.router(x).topk(2, -1)
        return logits.softmax(-1), experts


@form(decomposed=True)
class ChosenLogits(Logits):
    """The experts' matrices are picked by einsum, with biases."""

    def forward(self, x):
        w, chosen = self.chosen(x)
        hidden = F.silu(torch.einsum('btkoi,bti->btko', self.into[chosen], x) + self.first[chosen])
        y = torch.einsum('btkoi,btki->btko', self.back[chosen], hidden) + self.second[chosen]
        return torch.einsum('btko,btk->bto', y, w)


@form(decomposed=True)
class ChosenLogitsByBmm(Logits):
    """The same in one batch of matrices, without biases."""

    bias = False

    def forward(self, x):
        w, chosen = self.chosen(x.reshape(-1, WIDTH))
        picked = chosen.reshape(-1)
        hidden = torch.bmm(self.into[picked], x.reshape(-1, WIDTH).repeat_interleave(2, 0).unsqueeze(-1)).relu()
        y = torch.bmm(self.back[picked], hidden).squeeze(-1)
        return (y * w.reshape(-1, 1)).view(-1, 2, WIDTH).sum(1).view_as(x)


@form(decomposed=True)
class ChosenLogitsByOnes(Logits):
    """Ones put the weights of the chosen experts to their places."""

    bias = False

    def forward(self, x):
        w, chosen = self.chosen(x)
        placed = (F.one_hot(chosen, 4).to(x.dtype) * w.unsqueeze(-1)).sum(-2)
        y = torch.einsum('bti,eoi->bteo', x, self.into).relu()
        return torch.einsum('bte,bteo->bto', placed, y)


@form(decomposed=True)
class HiddenLogits(Logits):
    """All logits but the largest are minus infinity ahead of the softmax."""

    def forward(self, x):
        logits = self.router(x)
        best, chosen = logits.topk(2, -1)
        w = torch.full_like(logits, float('-inf')).scatter(-1, chosen, best).softmax(-1)
        y = torch.stack([F.linear(x, matrix) for matrix in self.into], 2)
        return torch.einsum('bte,bteo->bto', w, y)


@form(decomposed=True)
class ExponentsOfLogits(Logits):
    """Their softmax is written out."""

    bias = False

    def forward(self, x):
        logits, chosen = self.router(x).topk(2, -1)
        raised = (logits - logits.amax(-1, keepdim=True)).exp()
        w = raised / raised.sum(-1, keepdim=True)
        y = torch.stack([F.linear(x, matrix) for matrix in self.into], 2)
        picked = y.gather(2, chosen.unsqueeze(-1).expand(-1, -1, -1, WIDTH))
        return (picked * w.unsqueeze(-1)).sum(2)


@form(decomposed=True)
class ChosenSlotsThroughALayer(Loose):
    """The best slots of a memory, whose values go through a layer."""

    def extra(self):
        self.keys, self.slots = (nn.Parameter(torch.randn(7, WIDTH) / 4) for _ in range(2))

    def forward(self, x):
        best, chosen = (self.query(x) @ self.keys.t()).topk(3, -1)
        w = best.softmax(-1)
        seen(w[:, None])
        return (w.unsqueeze(-1) * self.value(self.slots[chosen])).sum(-2)


@form(decomposed=True)
class ChosenSlotsOfEachSample(ChosenSlotsThroughALayer):
    """Their values go through a matrix that is picked for each sample."""

    def extra(self):
        super().extra()
        self.router, self.matrices = nn.Linear(WIDTH, 3), nn.Parameter(torch.randn(3, WIDTH, WIDTH) / 4)

    def forward(self, x):
        best, chosen = (self.query(x) @ self.keys.t()).topk(3, -1)
        w = best.softmax(-1)
        seen(w[:, None])
        picked = self.matrices[self.router(x.mean(1)).argmax(-1)]
        return (w.unsqueeze(-1) * torch.einsum('btkd,bde->btke', self.slots[chosen], picked)).sum(2)


@form(unseen=1, decomposed=True)
class ChosenKeysByOnes(Loose):
    """Ones put the weights of the best keys to their places."""

    def forward(self, x):
        best, chosen = (self.query(x) @ self.key(x).transpose(1, 2)).topk(3, -1)
        placed = (F.one_hot(chosen, LENGTH).to(x.dtype) * best.softmax(-1).unsqueeze(-1)).sum(2)
        return placed @ self.value(x)


@form(decomposed=True)
class OnesForValues(Loose):
    """What is summed up are labels, as ones."""

    def forward(self, x):
        w = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        seen(w[:, None])
        return w @ F.one_hot((x[..., 0] > 0).long(), 3).to(x.dtype)


@form(decomposed=True)
class SigmoidOfMadeSlots(Loose):
    """Slots that a layer makes of each sample, weighed by a sigmoid."""

    def extra(self):
        self.slots = nn.Linear(WIDTH, 5 * WIDTH)

    def forward(self, x):
        slots = self.slots(x.mean(1)).view(-1, 5, WIDTH)
        w = self.weights(self.query(x) @ slots.transpose(1, 2) / 4)
        return w @ slots

    def weights(self, scores):
        w = scores.sigmoid()
        seen(w[:, None], 'sigmoid', 'sigmoid')
        return w


@form(decomposed=True)
class ExponentsOfMadeSlots(SigmoidOfMadeSlots):
    """A softmax over them that is written out."""

    def weights(self, scores):
        raised = scores.exp()
        w = raised / raised.sum(-1, keepdim=True)
        seen(w[:, None], 'softmax', 'exp')
        return w


@form(unseen=1, decomposed=True)
class SigmoidOfMadeMatrices(Loose):
    """Keys and values are matrices that two layers make of each sample: weights, or what a hypernetwork's layer activates."""

    def extra(self):
        self.first, self.second = (nn.Linear(WIDTH, 5 * WIDTH) for _ in range(2))

    def forward(self, x):
        keys, values = (layer(x.mean(1)).view(-1, 5, WIDTH) for layer in (self.first, self.second))
        return (self.query(x) @ keys.transpose(1, 2) / 4).sigmoid() @ values


@form(decomposed=True)
class QueriesOfAHypernetwork(Attention):
    """Queries and keys are what it makes and activates."""

    def extra(self):
        self.first, self.second = (nn.Linear(WIDTH, WIDTH * WIDTH) for _ in range(2))

    def forward(self, x):
        q, k = (self.apart(torch.tanh(x @ layer(x.mean(1)).view(-1, WIDTH, WIDTH))) for layer in (self.first, self.second))
        w = self.scores(q, k).softmax(-1)
        seen(w)
        return self.together(w @ self.apart(self.value(x)))


@form(decomposed=True)
class PartsOfQueriesPickKeys(Loose):
    """Scores of several heads pick the keys; queries are put together of parts, without biases."""

    def extra(self):
        self.several, self.one, self.each = (nn.Linear(WIDTH, size, bias=False) for size in (WIDTH, DEPTH, HEADS))

    def forward(self, x):
        q, k = self.several(x).view(BATCH, LENGTH, HEADS, DEPTH), self.one(x)
        q, k = (torch.cat([part[..., :2] * 1.5, part[..., 2:]], -1) for part in (q, k))
        scores = (q @ k.transpose(-1, -2).unsqueeze(1)).relu()
        best = (self.each(x).unsqueeze(-2) @ scores).squeeze(-2).topk(3, -1).indices
        hidden = torch.full((BATCH, LENGTH, LENGTH), float('-inf')).scatter(-1, best, 0.0)
        w = (self.query(x) @ self.key(x).transpose(1, 2) + hidden).softmax(-1)
        seen(w[:, None])
        return w @ self.value(x)


@form(decomposed=True)
class SinkBehindTheProduct(Attention):
    """The logarithm of the sum, less a constant, scales what the values gave: a sink's share."""

    def extra(self):
        self.sink = nn.Parameter(torch.randn(HEADS))

    def mix(self, scores, v):
        share = (scores.logsumexp(-1) - self.sink.view(1, -1, 1)).sigmoid()
        w = scores.softmax(-1)
        seen(w)
        return (w @ v) * share.unsqueeze(-1)


@form(decomposed=True)
class GlimpsesOfPairs(Loose):
    """Bilinear attention: two glimpses, each a softmax over all pairs of positions."""

    def extra(self):
        self.scales = nn.Parameter(torch.randn(1, 2, 1, WIDTH))

    def forward(self, x):
        v, q = self.value(x).relu(), self.query(x).relu()
        scores = torch.einsum('xhyk,bvk,bqk->bhvq', self.scales, v, q) + 0.5
        w = scores.view(-1, 2, LENGTH * LENGTH).softmax(2)
        pairs = w.view(-1, 2, LENGTH, LENGTH)
        seen(pairs, 'unnormalized')
        return torch.stack([torch.einsum('bvk,bvq,bqk->bk', v, pairs[:, each], q) for each in range(2)], 1)


# ---- as scripts write it: loops, conditions, lists and dictionaries of tensors, functions beside modules -----------


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    return torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    scores = scores_of(q, k)
    if mask is not None:
        scores = scores.masked_fill(mask, float('-inf'))
    weights = F.softmax(scores, dim=-1)
    return torch.matmul(weights, v), weights


class Result(NamedTuple):
    out: Tensor
    weights: List[Tensor]


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.heads = WIDTH, HEADS
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.extra()

    def extra(self):
        pass

    def apart(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def together(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(1, 2).reshape(x.size(0), x.size(2), self.width))


@form(script=True)
class ScriptedHeads(Scripted):
    """A softmax and a product for each head, in a loop."""

    def forward(self, x):
        q, k, v = self.apart(self.query(x)), self.apart(self.key(x)), self.apart(self.value(x))
        outs: List[Tensor] = []
        for head in range(self.heads):
            y, w = attend(q[:, head], k[:, head], v[:, head])
            outs.append(y)
            if not torch.jit.is_scripting():
                seen(w[:, None])
        return self.out(torch.cat(outs, -1))


@form(script=True)
class ScriptedSamples(Scripted):
    """One softmax; a product for each sample, written into the result."""

    def forward(self, x):
        w = scores_of(self.apart(self.query(x)), self.apart(self.key(x))).softmax(-1)
        if not torch.jit.is_scripting():
            seen(w)
        v = self.apart(self.value(x))
        y = torch.zeros_like(v)
        for sample in range(x.size(0)):
            y[sample] = torch.matmul(w[sample], v[sample])
        return self.together(y)


@form(script=True)
class ScriptedMask(Scripted):
    """A mask that may be missing, dropout that training decides, a tuple with the weights."""

    def attend(self, x: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        y, w = attend(self.apart(self.query(x)), self.apart(self.key(x)), self.apart(self.value(x)), mask)
        if not torch.jit.is_scripting():
            seen(w)
        return self.together(F.dropout(y, 0.5, self.training)), {'weights': w}

    def forward(self, x) -> Dict[str, Tensor]:
        first, _ = self.attend(x, None)
        second, told = self.attend(first, torch.triu(torch.ones(x.size(1), x.size(1)), 1) > 0)
        return {'out': second, 'weights': told['weights']}


class ScriptedBlock(Scripted):
    def forward(self, x: Tensor, causal: bool, index: int) -> Result:
        q, k, v = torch.chunk(torch.cat([self.query(x), self.key(x), self.value(x)], dim=2), chunks=3, dim=-1)
        scores = torch.einsum('bihd,bjhd->bhij', q.unflatten(-1, [self.heads, -1]), k.unflatten(-1, [self.heads, -1]))
        if causal:
            scores = scores + torch.triu(torch.full((x.size(1), x.size(1)), float('-inf')), 1)
        w = scores.softmax(-1)
        if not torch.jit.is_scripting():
            seen(w, name=f'attention.blocks.{index}')
        y = torch.einsum('bhij,bjhd->bihd', w, v.unflatten(-1, [self.heads, -1])).flatten(2)
        return Result(x + self.out(y), [w])


@form(script=True)
class ScriptedBlocks(nn.Module):
    """Modules of a list, called in a loop, that return named tuples."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(ScriptedBlock() for _ in range(3))

    def forward(self, x):
        for index, block in enumerate(self.blocks):
            x = block(x, index % 2 == 1, index).out
        return x


@form(script=True)
class ScriptedCache(Scripted):
    """Keys and values of earlier steps, in lists."""

    def forward(self, x):
        keys: List[Tensor] = []
        values: List[Tensor] = []
        outs: List[Tensor] = []
        step = 0
        while step < 4:
            now = x[:, step : step + 1]
            keys.append(self.apart(self.key(now)))
            values.append(self.apart(self.value(now)))
            y, w = attend(self.apart(self.query(now)), torch.cat(keys, 2), torch.cat(values, 2))
            if not torch.jit.is_scripting():
                seen(w)
            outs.append(self.together(y))
            step += 1
        return torch.cat(outs, 1)


@form(script=True)
class ScriptedSlots(Scripted):
    """Slots that compete for positions, refined by a recurrent cell."""

    def extra(self):
        self.slots, self.cell = nn.Parameter(torch.randn(1, 3, WIDTH)), nn.GRUCell(WIDTH, WIDTH)

    def forward(self, x):
        k, v = self.key(x), self.value(x)
        slots = self.slots.expand(x.size(0), -1, -1)
        for _ in range(2):
            w = torch.einsum('bid,bjd->bij', self.query(slots), k).softmax(1) + 1e-8
            w = w / w.sum(-1, keepdim=True)
            if not torch.jit.is_scripting():
                seen(w[:, None])
            read = torch.einsum('bij,bjd->bid', w, v)
            slots = self.cell(read.reshape(-1, self.width), slots.reshape(-1, self.width)).view(x.size(0), 3, self.width)
        return slots


@form(script=True)
class ScriptedDecoder(Scripted):
    """Additive attention of each step of a decoder."""

    def extra(self):
        self.cell, self.score = nn.LSTMCell(2 * WIDTH, WIDTH), nn.Linear(WIDTH, 1, bias=False)

    def forward(self, x):
        hidden, cell = torch.zeros(x.size(0), self.width), torch.zeros(x.size(0), self.width)
        keys = self.key(x)
        outs: List[Tensor] = []
        for step in range(3):
            w = F.softmax(self.score(torch.tanh(self.query(hidden).unsqueeze(1) + keys)).squeeze(-1), dim=1)
            if not torch.jit.is_scripting():
                seen(w[:, None, None])
            context = torch.bmm(w.unsqueeze(1), x).squeeze(1)
            hidden, cell = self.cell(torch.cat([x[:, step], context], -1), (hidden, cell))
            outs.append(hidden)
        return torch.stack(outs, 1)


@form(script=True, unseen=2)
class ScriptedBlocksOfKeys(Scripted):
    """A softmax that is accumulated over blocks of keys."""

    def forward(self, x):
        q, k, v = self.apart(self.query(x)), self.apart(self.key(x)), self.apart(self.value(x))
        largest = torch.full([x.size(0), self.heads, x.size(1), 1], float('-inf'))
        total, y = torch.zeros_like(largest), torch.zeros_like(q)
        for begin in range(0, x.size(1), 3):
            scores = scores_of(q, k[:, :, begin : begin + 3])
            now = torch.maximum(largest, scores.amax(-1, keepdim=True))
            raised, shrinks = torch.exp(scores - now), torch.exp(largest - now)
            total = total * shrinks + raised.sum(-1, keepdim=True)
            y = y * shrinks + raised @ v[:, :, begin : begin + 3]
            largest = now
        return self.together(y / total)


@form(script=True)
class ScriptedExperts(Scripted):
    """Experts in a loop, over the tokens that chose them."""

    def extra(self):
        self.router = nn.Linear(WIDTH, 4, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(4))

    def forward(self, x):
        tokens = x.view(-1, self.width)
        best, chosen = torch.topk(self.router(tokens), 2, -1)
        w = best.softmax(-1)
        y = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            token, choice = torch.where(chosen == index)
            if token.numel() > 0:
                y.index_add_(0, token, expert(tokens[token]) * w[token, choice, None])
        return y.view(x.shape)


@form(unseen=1, decomposed=True)
class SigmoidOfPairs(Attention):
    """A layer makes a number of each two positions, whose sigmoid multiplies the values."""

    def extra(self):
        self.score = nn.Linear(WIDTH, HEADS)

    def forward(self, x):
        pairs = torch.tanh(self.query(x).unsqueeze(2) + self.key(x).unsqueeze(1))
        return self.together(torch.sigmoid(self.score(pairs)).permute(0, 3, 1, 2) @ self.apart(self.value(x)))


@form(unseen=1, decomposed=True)
class ConvolvedPairs(Attention):
    """Pairs that were put side by side and convolved, without a function (non-local blocks by concatenation)."""

    def extra(self):
        self.score = nn.Conv2d(2 * WIDTH, 1, 1, bias=False)

    def forward(self, x):
        q, k = self.query(x).transpose(1, 2), self.key(x).transpose(1, 2)
        length = x.size(1)
        pairs = torch.cat([q.unsqueeze(3).expand(-1, -1, -1, length), k.unsqueeze(2).expand(-1, -1, length, -1)], 1)
        return self.out(torch.relu(self.score(pairs)).view(x.size(0), length, length) / length @ self.value(x))


@form(unseen=1, decomposed=True)
class WindowsOfDiagonals(Attention):
    """Weights of bands that are padded and cut so that each row begins one key later (sliding windows in chunks)."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        rows, band = 2, 3
        chunks = LENGTH // rows
        keys, values = (F.pad(each, (0, 0, rows, 0)).unfold(2, rows + band - 1, rows).transpose(-1, -2) for each in (k, v))
        q = q.view(BATCH, HEADS, chunks, rows, DEPTH)
        scores = self.scores(q, keys[:, :, :chunks])
        weights = torch.stack([scores[..., row, row : row + band] for row in range(rows)], -2).softmax(-1)
        whole = F.pad(weights, (0, rows)).flatten(-2)[..., :-rows].view(BATCH, HEADS, chunks, rows, -1)
        y = whole @ values[:, :, :chunks, : whole.size(-1)]
        return self.together(y.reshape(BATCH, HEADS, LENGTH, DEPTH))


class GlobalQuery(Attention):
    """Efficient additive attention (SwiftFormer): weights of the queries, which are summed to one that multiplies the keys."""

    def extra(self):
        self.weigh = nn.Parameter(torch.randn(WIDTH, 1))

    def forward(self, x):
        q = F.normalize(self.query(x), dim=-1)
        query = self.weighed(q @ self.weigh, q)
        return self.out(query * F.normalize(self.key(x), dim=-1)) + q


@form(unseen=1, decomposed=True)
class GlobalQueryByNorm(GlobalQuery):
    def weighed(self, scores, q):
        return (F.normalize(scores, dim=1) * q).sum(1, keepdim=True)


@form(unseen=1, decomposed=True)
class GlobalQueryExpanded(GlobalQuery):
    def weighed(self, scores, q):
        scores = scores / torch.linalg.vector_norm(scores, dim=1, keepdim=True)
        return (scores.expand(-1, -1, WIDTH) * q).sum(1, keepdim=True)


@form(unseen=1, decomposed=True)
class GlobalQueryOfOnes(GlobalQuery):
    """The softmax runs over the only number of each position: it is one."""

    def weighed(self, scores, q):
        return (scores.softmax(-1) * q).sum(1, keepdim=True)


@form(unseen=1, decomposed=True)
class GlobalQueryOfOnesAsProduct(GlobalQuery):
    def weighed(self, scores, q):
        return scores.softmax(-1).transpose(1, 2) @ q


@form(decomposed=True)
class HeadsIntoABuffer(Attention):
    """The softmax of each head is written into its part of a buffer, which multiplies the values."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        weights = torch.zeros(BATCH, HEADS, LENGTH, LENGTH)
        for head in range(HEADS):
            weights[:, head] = self.scores(q[:, head], k[:, head]).softmax(-1)
        seen(weights, 'unnormalized')
        return self.together(weights @ v)


@form(decomposed=True)
class RowsIntoABuffer(Attention):
    """The same of halves of the queries, over the keys of each half."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        half = LENGTH // 2
        weights = torch.zeros(BATCH, HEADS, LENGTH, LENGTH)
        weights[:, :, :half, :half] = self.scores(q[:, :, :half], k[:, :, :half]).softmax(-1)
        weights[:, :, half:, half:] = self.scores(q[:, :, half:], k[:, :, half:]).softmax(-1)
        seen(weights, 'unnormalized')
        return self.together(weights @ v)


@form(decomposed=True)
class HardAssignment(Attention):
    """Each key is assigned to one query (GroupViT): ones where the softmax is largest, passed straight through."""

    def forward(self, x):
        scores = self.scores(self.query(x), self.key(x))
        soft = scores.softmax(-2)
        hard = torch.zeros_like(soft).scatter_(-2, soft.max(-2, keepdim=True)[1], 1.0)
        weights = hard - soft.detach() + soft
        weights = weights / (weights.sum(-1, keepdim=True) + 1.0)
        seen(weights.unsqueeze(1), 'signed')
        return self.out(weights @ self.value(x))


# ---- what can't be followed ----------------------------------------------------------------------------------------


@form(unseen=1, decomposed=True)
class SlidingChunks(Attention):
    """Scores of overlapping chunks, shifted by padding and a view, are written into the bands of a buffer (Longformer)."""

    band = 2

    def weights(self, scores):
        scores = (scores - scores.amax(-1, keepdim=True)).exp()
        return scores / scores.sum(-1, keepdim=True)

    def chunks(self, x, rows):
        step = self.band
        return x.as_strided((x.size(0), x.size(1) // step - rows + 1, rows * step, DEPTH), (x.size(1) * DEPTH, step * DEPTH, DEPTH, 1))

    def forward(self, x):
        q, k, v = (each.reshape(BATCH * HEADS, LENGTH, DEPTH) for each in self.qkv(x))
        band, count = self.band, LENGTH // self.band
        scores = F.pad(torch.einsum('bcxd,bcyd->bcxy', self.chunks(q, 2), self.chunks(k, 2)), (0, 0, 0, 1))
        scores = scores.view(*scores.shape[:-2], scores.size(-1), scores.size(-2))
        bands = scores.new_zeros(BATCH * HEADS, count, band, 2 * band + 1)
        bands[:, :-1, :, band:] = scores[:, :, :band, : band + 1]
        bands[:, -1, :, band:] = scores[:, -1, band:, : band + 1]
        bands[:, 1:, :, :band] = scores[:, :, -(band + 1) : -1, band + 1 :]
        weights = F.pad(self.weights(bands), (0, band + 1)).view(BATCH * HEADS, count, -1)[:, :, :-band]
        weights = weights.view(BATCH * HEADS, count, band, 3 * band + 1)[..., :-1]
        values = self.chunks(F.pad(v, (0, 0, band, band)), 3)
        y = torch.einsum('bcxy,bcyd->bcxd', weights, values)
        return self.together(y.reshape(BATCH, HEADS, LENGTH, DEPTH))


@form(unseen=1, decomposed=True)
class SlidingChunksOfRelu(SlidingChunks):
    def weights(self, scores):
        return scores.relu()


@form(unseen=1)
class StackedDiagonals(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x)
        scores = torch.cat([self.scores(q, k)] * 2, -1)
        weights = torch.stack([scores.diagonal(i, -2, -1) for i in range(3)], -1).softmax(-1)
        values = torch.cat([v, v], 2).unfold(2, 3, 1)[:, :, :LENGTH]
        return self.together(torch.einsum('bhqk,bhqdk->bhqd', weights.cummax(-1)[0], values))


@form(unseen=1, decomposed=True)
class UnknownFunction(Attention):
    """A function that isn't followed between scores and sigmoid."""

    def forward(self, x):
        q, k, v = self.qkv(x)
        return self.together(torch.xlogy(self.scores(q, k), torch.full((1,), 2.0)).cummax(-1)[0].sigmoid() @ v)


@form(unseen=1, decomposed=True)
class PooledByTheUnknown(Attention):
    """Weights of positions whose origin, and what becomes of them, can't be followed."""

    def forward(self, x):
        weights = F.max_pool1d(self.query(x), WIDTH).squeeze(-1).softmax(-1).cummax(-1)[0]
        return self.out((weights.unsqueeze(-1) * x).sum(1))


@form(unseen=1, decomposed=True)
class ChannelsPooledByTheUnknown(Attention):
    def forward(self, x):
        weights = F.max_pool1d(self.query(x).transpose(1, 2), 3, 1, 1).transpose(1, 2).softmax(1)
        return self.out((weights * x).sum(1))


@form(decomposed=True)
class DetectedClasses(Loose):
    """Softmaxes of which nothing tells what they run over, and which weigh nothing."""

    def extra(self):
        self.register_buffer('places', torch.arange(8.0))

    def forward(self, x):
        classes = F.max_pool1d(self.query(x), 2).softmax(-1)
        entropy = -(classes * classes.log()).sum(-1, keepdim=True)
        return classes * self.key(x)[..., :1].sigmoid() + entropy + (classes * self.places).sum(-1, keepdim=True)


@form(decomposed=True)
class FixedQueries(Attention):
    """Queries, keys and values that layers make of constants, as the first layer of DETR's decoder does."""

    def extra(self):
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH))

    def forward(self, x):
        places = self.places.unsqueeze(0).repeat(x.size(0), 1, 1)
        start = torch.zeros_like(places)
        weights = self.scores(self.apart(self.query(start + places)), self.apart(self.key(start + places))).softmax(-1)
        seen(weights)
        fixed = self.together(weights @ self.apart(self.value(start)))
        return self.out(x + fixed + places)


@form()
class FixedQueriesFlat(FixedQueries):
    """The same of batch times heads."""

    def apart(self, x):
        return super().apart(x).reshape(BATCH * HEADS, LENGTH, DEPTH)

    def forward(self, x):
        places = self.places.unsqueeze(0).repeat(x.size(0), 1, 1)
        weights = torch.bmm(self.apart(self.query(places)), self.apart(self.key(places)).transpose(1, 2)).softmax(-1)
        seen(weights.view(BATCH, HEADS, LENGTH, LENGTH))
        y = torch.bmm(weights, self.apart(self.value(torch.zeros_like(places)))).view(BATCH, HEADS, LENGTH, DEPTH)
        return self.out(x + self.together(y) + places)


@form()
class OutlookThenAttention(Attention):
    """Weights of windows by a layer, whose sums are folded into a picture (VOLO), ahead of attention by products."""

    def extra(self):
        self.outlook = nn.Linear(WIDTH, HEADS * 81)

    def forward(self, x):
        picture = self.value(x).transpose(1, 2).reshape(BATCH, WIDTH, 2, LENGTH // 2)
        values = F.unfold(picture, 3, padding=1).view(BATCH, HEADS, DEPTH, 9, LENGTH).permute(0, 1, 4, 3, 2)
        weights = self.outlook(x).view(BATCH, LENGTH, HEADS, 9, 9).transpose(1, 2).softmax(-1)
        seen(weights.transpose(1, 2).flatten(0, 1), shape=[BATCH, LENGTH, HEADS, 9, 9])
        y = (weights @ values).permute(0, 1, 4, 3, 2).reshape(BATCH, WIDTH * 9, LENGTH)
        y = F.fold(y, (2, LENGTH // 2), 3, padding=1).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x + y)
        attended = self.scores(q, k).softmax(-1)
        seen(attended)
        return self.together(attended @ v)


class Memory(nn.Module):
    """A memory of slots that each sample writes into, by an outer product, before it is read by weights."""

    def __init__(self):
        super().__init__()
        self.write, self.add = nn.Linear(WIDTH, LENGTH), nn.Linear(WIDTH, WIDTH)

    def written(self, x):
        first = x[:, 0]
        where = torch.softmax(self.write(first), -1)
        return x * (1 - where.unsqueeze(-1) @ torch.sigmoid(self.add(first)).unsqueeze(1))


@form(decomposed=True)
class WrittenMemory(Memory):
    def forward(self, x):
        return self.written(x)


@form(decomposed=True)
class WrittenMemoryRead(Memory):
    """What is read is the memory, and what reads it the weights."""

    def forward(self, x):
        memory = self.written(x)
        weights = torch.softmax(memory @ self.add(x[:, 1]).unsqueeze(-1), 1).transpose(1, 2)
        seen(weights.unsqueeze(1))
        return weights @ memory


@form(decomposed=True)
class HebbianState(Attention):
    """Keys times values, of features alone, in a state with a function."""

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        state, all = torch.zeros(BATCH, WIDTH, WIDTH), []
        for step in range(LENGTH):
            all.append((state @ q[:, step].unsqueeze(-1)).squeeze(-1))
            state = torch.tanh(state + v[:, step].unsqueeze(-1) @ k[:, step].unsqueeze(1))
        return self.out(torch.stack(all, 1))


class KeyByKey(nn.Module):
    """One query of a sample, whose weight of each key multiplies that key's value by itself."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        weights = torch.softmax((x * self.query(x[:, :1])).sum(-1), 1)
        return self.added(weights, x)


@form(unseen=1, decomposed=True)
class KeysAddedUp(KeyByKey):
    def added(self, weights, x):
        y = torch.zeros(BATCH, WIDTH)
        for key in range(LENGTH):
            y = y + weights[:, key].unsqueeze(1) * x[:, key]
        return y


@form(unseen=1, decomposed=True)
class KeysStackedUp(KeyByKey):
    def added(self, weights, x):
        return torch.stack([weights[:, key : key + 1] * x[:, key] for key in range(LENGTH)]).sum(0)


@form(unseen=1)
class KeysOfUnbind(KeyByKey):
    """In place, by one operator for both."""

    def added(self, weights, x):
        y = torch.zeros(BATCH, WIDTH)
        for weight, value in zip(weights.unsqueeze(-1).unbind(1), x.unbind(1)):
            y.addcmul_(weight, value)
        return y


@form(decomposed=True)
class ScaledBranches(nn.Module):
    """Features of two branches, mixed channel by channel, are no keys (selective kernels)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.squeeze, self.select = nn.Linear(WIDTH, 4), nn.Linear(4, 2 * WIDTH)

    def forward(self, x):
        a, b = self.first(x), self.second(x)
        weights = self.select(torch.relu(self.squeeze((a + b).mean(1)))).view(BATCH, 2, WIDTH).softmax(1)
        return weights[:, :1] * a + weights[:, 1:] * b


class Clusters(nn.Module):
    """Each position is shared out among clusters, which sum over the positions."""

    def __init__(self):
        super().__init__()
        self.assign, self.centers = nn.Linear(WIDTH, 3), nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, x):
        return self.pooled(torch.softmax(self.assign(x), -1), x)


@form(unseen=1, decomposed=True)
class ClustersByProduct(Clusters):
    def pooled(self, weights, x):
        return weights.transpose(1, 2) @ x


@form(unseen=1, decomposed=True)
class ClusterResiduals(Clusters):
    """NetVLAD: what differs from the center of each cluster, all at once."""

    def pooled(self, weights, x):
        return ((x.unsqueeze(2) - self.centers) * weights.unsqueeze(-1)).sum(1)


@form(unseen=1, decomposed=True)
class ClusterAfterCluster(Clusters):
    def pooled(self, weights, x):
        y = torch.zeros(BATCH, 3, WIDTH)
        for cluster in range(3):
            y[:, cluster] = ((x - self.centers[cluster]) * weights[:, :, cluster : cluster + 1]).sum(1)
        return y


@form(unseen=1, decomposed=True)
class RoutedCapsules(nn.Module):
    """Softmax over the capsules above, each of which has predictions of its own from those below."""

    def __init__(self):
        super().__init__()
        self.predict, self.prior = nn.Linear(WIDTH, 3 * 4), nn.Linear(WIDTH, 3)

    def forward(self, x):
        predicted = self.predict(x).view(BATCH, LENGTH, 3, 4)
        return (self.prior(x).softmax(2).unsqueeze(-1) * predicted).sum(1)


class Degrees(Attention):
    """A diagonal matrix scales weights: what multiplies the values is their product."""

    kind = 'unnormalized'

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        degrees = torch.diag_embed((weights.sum(-2) + 1).pow(-0.5))
        weights = self.scaled(weights, degrees)
        seen(weights, self.kind)
        return weights @ v


@form(decomposed=True)
class DegreesAhead(Degrees):
    def scaled(self, weights, degrees):
        return degrees @ weights


@form(decomposed=True)
class DegreesBehind(Degrees):
    def scaled(self, weights, degrees):
        return weights @ degrees


@form(decomposed=True)
class DegreesAround(Degrees):
    def scaled(self, weights, degrees):
        return degrees @ weights @ degrees


@form()
class TableOfALayer(nn.Module):
    """Rows of one table are compared with the queries by a layer, and are the values."""

    def __init__(self):
        super().__init__()
        self.table = nn.Linear(WIDTH, 5, bias=False)

    def forward(self, x):
        weights = self.table(x).softmax(-1)
        seen(weights.unsqueeze(1))
        return weights @ self.table.weight


@form(unseen=1, decomposed=True)
class LearnedGraphShared(nn.Module):
    """A table of weights between nodes, which add up to one along the other dimension than the one that is summed over."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(LENGTH, 4)), nn.Parameter(torch.randn(4, LENGTH))

    def forward(self, x):
        return torch.softmax(torch.relu(self.first @ self.second), 0) @ x


@form(decomposed=True)
class SlicesOfBatchTimesHeads(Attention):
    """A slice across the heads of two samples (sliced attention of diffusion models): nothing tells what is batch there."""

    def forward(self, x):
        q, k, v = (each.reshape(-1, LENGTH, DEPTH) for each in self.qkv(x))
        y = torch.zeros(BATCH * HEADS, LENGTH, DEPTH)
        weights = self.scores(q[1:3], k[1:3]).softmax(-1)
        seen(weights.unsqueeze(1))
        y[1:3] = weights @ v[1:3]
        return self.together(y.view(BATCH, HEADS, LENGTH, DEPTH))


class WrittenOutProduct(Attention):
    """Weights times values as a multiplication and a sum, of weights that are no softmax's result."""

    def mix(self, scores, v):
        return (self.weights(scores).unsqueeze(-1) * v.unsqueeze(2)).sum(3)


@form(decomposed=True)
class SigmoidWrittenOut(WrittenOutProduct):
    def weights(self, scores):
        weights = torch.sigmoid(scores)
        seen(weights, 'sigmoid', 'sigmoid')
        return weights


@form(decomposed=True)
class ReluWrittenOut(WrittenOutProduct):
    def weights(self, scores):
        weights = torch.relu(scores) / LENGTH
        seen(weights, 'relu', 'relu')
        return weights


@form(decomposed=True)
class ExponentialsWrittenOut(WrittenOutProduct):
    def weights(self, scores):
        exponentials = torch.exp(scores - scores.amax(-1, keepdim=True))
        weights = exponentials / exponentials.sum(-1, keepdim=True)
        seen(weights, 'softmax', 'exp')
        return weights


@form(decomposed=True)
class OverlappingParts(Attention):
    """Windows of keys that have some in common, of one softmax."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return weights[..., :4] @ v[:, :, :4] + weights[..., 2:] @ v[:, :, 2:]


@form(decomposed=True)
class PartsOfRows(Attention):
    """The first key is for the first query alone."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        taken = weights.clone()
        taken[:, :, 1:, 0] = 0
        seen(taken, 'unnormalized')
        return torch.cat([weights[:, :, :1] @ v, weights[:, :, 1:, 1:] @ v[:, :, 1:]], 2)


@form(unseen=1)
class OverItsOwnPast(nn.Module):
    """A recurrence whose state is added up of all states so far: its steps have as many ways back as there are subsets."""

    def __init__(self):
        super().__init__()
        self.cell, self.score = nn.GRUCell(2 * WIDTH, WIDTH), nn.Linear(2 * WIDTH, 1)

    def forward(self, x):
        past = [x[:, 0]]
        for step in range(LENGTH):
            scores = [self.score(torch.cat([past[-1], each], -1)) for each in past]
            weights = torch.softmax(torch.cat(scores, -1), -1)
            context = torch.zeros(BATCH, WIDTH)
            for key, value in enumerate(past):
                context = context + weights[:, key : key + 1] * value
            past.append(self.cell(torch.cat([x[:, step], context], -1), past[-1]))
        return torch.stack(past, 1)


class OfPairs(nn.Module):
    """Scores of what no layer made, position by position, and weights that no softmax makes of them."""

    def forward(self, x):
        weights = self.weights(self.compared(x.unsqueeze(2), x.unsqueeze(1)))
        return weights @ x

    def compared(self, a, b):
        return F.cosine_similarity(a, b, dim=-1)

    def weights(self, scores):
        weights = torch.sigmoid(scores)
        seen(weights.unsqueeze(1), 'sigmoid', 'sigmoid')
        return weights


@form(decomposed=True)
class CosinesOfTheUnknown(OfPairs):
    def weights(self, scores):
        weights = F.relu(scores)
        weights = weights / weights.sum(-1, keepdim=True)
        seen(weights.unsqueeze(1), 'softmax', 'relu')
        return weights


@form(decomposed=True)
class ProductsOfTheUnknown(OfPairs):
    def compared(self, a, b):
        return (a * b).sum(-1)


@form(decomposed=True)
class SumsOfDifferences(OfPairs):
    def compared(self, a, b):
        return 3 - (a - b).abs().sum(-1)


@form(decomposed=True)
class SquaresOfDifferences(OfPairs):
    """Multiplication and sum instead of the second product."""

    def compared(self, a, b):
        return 3 - ((a - b) / 2).pow(2).mean(-1)

    def forward(self, x):
        weights = self.weights(self.compared(x.unsqueeze(2), x.unsqueeze(1)))
        return (weights.unsqueeze(-1) * x.unsqueeze(1)).sum(2)


@form(decomposed=True)
class LengthsOfDifferences(OfPairs):
    def compared(self, a, b):
        return 3 - torch.linalg.vector_norm(a - b, dim=-1)


class Plain(Attention):
    """Attention, beside which there is something that is none."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return weights @ v


class Compared(Plain):
    """Distances and similarities that are no attention."""

    def forward(self, x):
        return super().forward(x) + self.compared(x)


@form(decomposed=True)
class PrototypesCompared(Compared):
    """Classes of samples by their distances to means of others."""

    def compared(self, x):
        keys = self.key(x)
        near = (-(keys.unsqueeze(2) - keys.mean(0)[:3]).pow(2).sum(-1)).softmax(-1)
        return near.mean() + F.log_softmax(F.cosine_similarity(x[:, :, None], x[:, None], dim=-1), -1).mean()


@form(decomposed=True)
class KernelsCompared(Compared):
    """The mean of a kernel of distances, and products of each two features."""

    def compared(self, x):
        distances = (x.unsqueeze(2) - x.unsqueeze(1)).pow(2).sum(-1)
        return torch.exp(-distances).mean() + (x.unsqueeze(1) * x.unsqueeze(2)).sum(-1).flatten(1).mean()


class AdditiveOfTheUnknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.score = nn.Linear(WIDTH, 1)


@form(unseen=1, decomposed=True)
class SigmoidOfPairsOfTheUnknown(AdditiveOfTheUnknown):
    """Additive scores, whose sigmoid multiplies values that no layer made."""

    def forward(self, x):
        scores = self.score(torch.tanh(self.a(x).unsqueeze(2) + self.b(x).unsqueeze(1))).squeeze(-1)
        return torch.sigmoid(scores) @ x


@form(unseen=1, decomposed=True)
class SlotsBySigmoid(nn.Module):
    """Gates of each position for each slot, by a product over the positions."""

    def __init__(self):
        super().__init__()
        self.slots = nn.Linear(WIDTH, 3)

    def forward(self, x):
        gates = torch.sigmoid(self.slots(x))
        return gates.transpose(1, 2) @ x


@form(unseen=1, decomposed=True)
class SigmoidFeatures(Attention):
    """Linear attention whose features are sigmoids: it is told of once."""

    def forward(self, x):
        q, k = torch.sigmoid(self.query(x)), torch.sigmoid(self.key(x))
        return (q @ (k.transpose(1, 2) @ x)) / (q @ k.sum(1).unsqueeze(-1))


@form(decomposed=True)
class SigmoidsPooled(Plain):
    """Beside attention, bilinear pooling of sigmoids."""

    def extra(self):
        self.first, self.second = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 4)

    def forward(self, x):
        pooled = torch.sigmoid(self.first(x)).transpose(1, 2) @ torch.sigmoid(self.second(x))
        return super().forward(x) + pooled.mean()


@form(unseen=1)
class SlotsOfSamples(nn.Module):
    """A table between two layers, for each sample."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Linear(WIDTH, 5, bias=False), nn.Linear(5, WIDTH, bias=False)

    def forward(self, x):
        return self.values(self.keys(x[:, 0]).softmax(-1))


@form()
class RoutedKernels(Plain):
    """Beside attention, kernels of a convolution that a router mixes, and a softmax for an activation."""

    def extra(self):
        self.route = nn.Linear(WIDTH, 3, bias=False)
        self.kernels = nn.Parameter(torch.randn(3, WIDTH * WIDTH * 3))
        self.hidden, self.out2 = nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH)

    def forward(self, x):
        routes = self.route(x.mean(1)).softmax(-1)
        kernels = (routes @ self.kernels).view(BATCH * WIDTH, WIDTH, 3)
        mixed = F.conv1d(x.transpose(1, 2).reshape(1, BATCH * WIDTH, LENGTH), kernels, padding=1, groups=BATCH)
        return super().forward(x + mixed.view(BATCH, WIDTH, LENGTH).transpose(1, 2)) + self.out2(
            self.hidden(x[:, 0]).softmax(-1)
        ).unsqueeze(1)


@form(unseen=1)
class DotOfEachFeature(nn.Module):
    """One dot product with the weights for each feature of the values."""

    def forward(self, x):
        weights = x[0, :, 0].softmax(0)
        return torch.stack([torch.dot(weights, x[0, :, feature]) for feature in range(WIDTH)])


@form(unseen=1, decomposed=True)
class KeysIntoRowsOfABuffer(nn.Module):
    """Weight times value is added to a row of a buffer, key by key."""

    def forward(self, x):
        weights = x[..., :3].softmax(1)
        out = torch.zeros(BATCH, 3, WIDTH)
        for row in range(3):
            for key in range(LENGTH):
                out[:, row] += weights[:, key, row].unsqueeze(-1) * x[:, key]
        return out


@form(unseen=1, decomposed=True)
class PositionsOfALayer(nn.Module):
    """A layer over the positions gives each channel weights of its own."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(LENGTH, LENGTH)

    def forward(self, x):
        weights = self.mix(x.transpose(1, 2)).softmax(-1).transpose(1, 2)
        return (x * weights).sum(1)


@form(decomposed=True)
class ClassesMarked(Plain):
    """Beside attention, the probability of the class that is marked."""

    def extra(self):
        self.classes = nn.Linear(WIDTH, 5)

    def forward(self, x):
        marks = F.one_hot(x[..., :5].argmax(-1), 5).to(x.dtype)
        return super().forward(x) + (self.classes(x).softmax(-1) * marks).sum(-1, keepdim=True)


@form()
class WrittenOverItsScores(Attention):
    def mix(self, scores, v):
        scores.copy_(scores.softmax(-1))
        scores[:, 1].mul_(0.5)
        seen(scores, 'unnormalized')
        return scores @ v


@form(decomposed=True)
class DensitiesOverWidths(nn.Module):
    """Gaussians whose widths a layer makes, divided by them and by their sum."""

    def __init__(self):
        super().__init__()
        self.width = nn.Linear(WIDTH, 1)

    def forward(self, x):
        width = F.softplus(self.width(x)).transpose(1, 2) + 0.5
        centres = x[..., :1].transpose(1, 2)
        places = torch.arange(4.0)[None, :, None]
        densities = torch.exp(-0.5 * ((places - centres) / width) ** 2) / width
        weights = densities / (densities.sum(2, keepdim=True) + 1e-6)
        seen(weights.unsqueeze(1), 'softmax', 'exp')
        return torch.bmm(weights, x)


class LastKeyAlone(Attention):
    """Blocks of keys, of which the last is a single one."""

    def mix(self, scores, v):
        weights = self.weights(scores)
        return weights[..., :-1] @ v[:, :, :-1] + weights[..., -1:] @ v[:, :, -1:]


@form(decomposed=True)
class ExponentialsLastKeyAlone(LastKeyAlone):
    weights = ExponentialsWrittenOut.weights


@form(decomposed=True)
class SigmoidLastKeyAlone(LastKeyAlone):
    weights = SigmoidWrittenOut.weights


@form(decomposed=True)
class FoldedWithoutLayers(nn.Module):
    """An einsum puts a dimension of size one behind what batch and heads were folded to."""

    def forward(self, x):
        folded = x.view(BATCH, LENGTH, HEADS, DEPTH).transpose(1, 2).reshape(BATCH * HEADS, LENGTH, DEPTH)
        exponentials = torch.exp(folded @ folded.mT - (folded * folded).sum(-1, keepdim=True))
        weights = exponentials / exponentials.sum(dim=-1, keepdim=True)
        seen(weights.view(BATCH, HEADS, LENGTH, LENGTH), 'softmax', 'exp')
        mixed = torch.einsum('...ij,...jd->...id', weights, folded)
        return mixed.view(BATCH, HEADS, LENGTH, DEPTH).transpose(1, 2).reshape(BATCH, LENGTH, WIDTH)


@form()
class HeadsAheadOfBatchWithoutLayers(nn.Module):
    """Nothing but the order in memory tells which of two dimensions is the batch."""

    def forward(self, x):
        apart = x.view(BATCH, LENGTH, HEADS, DEPTH).permute(2, 0, 1, 3)
        weights = torch.softmax(apart @ apart.transpose(-1, -2), -1)
        seen(weights)
        return (weights @ apart).permute(1, 2, 0, 3).reshape(BATCH, LENGTH, WIDTH)


@form()
class HeadsAheadOfBatchInParts(HeadsAheadOfBatchWithoutLayers):
    def forward(self, x):
        apart = x.view(BATCH, LENGTH, HEADS, DEPTH).permute(2, 0, 1, 3)
        weights = torch.softmax(apart @ apart.transpose(-1, -2), -1)
        seen(weights)
        mixed = [weights[:, :, row : row + 1] @ apart for row in range(LENGTH)]
        return torch.cat(mixed, 2).permute(1, 2, 0, 3).reshape(BATCH, LENGTH, WIDTH)


@form(decomposed=True)
class HeadLastOfOneQuery(Attention):
    """A single query, whose dimension leaves no trace in strides, and heads behind the keys."""

    def forward(self, x):
        q, k, v = (layer(each).view(BATCH, -1, HEADS, DEPTH) for layer, each in ((self.query, x[:, :1]), (self.key, x), (self.value, x)))
        weights = torch.einsum('bihd,bjhd->bijh', q, k).softmax(2)
        seen(weights.permute(0, 3, 1, 2))
        return self.out(torch.einsum('bijh,bjhd->bihd', weights, v).reshape(BATCH, 1, WIDTH))


@form(decomposed=True)
class SummedHeads(Attention):
    """Heads that only the values tell: queries and keys are sums, which decompositions multiply as one batch."""

    def mix(self, scores, v):
        raise NotImplementedError

    def forward(self, x):
        q, k, v = (each.reshape(BATCH, HEADS, LENGTH // 2, 2, DEPTH) for each in self.qkv(x))
        weights = torch.relu(q.sum(3) @ k.sum(3).transpose(-2, -1))
        seen(weights, 'relu', 'relu')
        return self.out(torch.einsum('bhij,bhjtd->bhitd', weights, v).permute(0, 2, 3, 1, 4).reshape(BATCH, LENGTH, WIDTH))


class OfPicture(nn.Module):
    """Of features of a picture, which linear algebra takes in another order than memory has them."""

    height, width = 2, 3

    def picture(self, x):
        return x.transpose(1, 2).reshape(BATCH, WIDTH, self.height, self.width).permute(0, 2, 3, 1)


@form(decomposed=True)
class OutlookOfPicture(OfPicture):
    """Each place weighs its window for each of the window's places; a layer without a bias makes the weights."""

    def __init__(self):
        super().__init__()
        self.attend, self.value = nn.Linear(WIDTH, HEADS * 81, bias=False), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        picture = self.picture(x)
        v = F.unfold(self.value(picture).permute(0, 3, 1, 2), 3, padding=1)
        v = v.reshape(BATCH, HEADS, DEPTH, 9, LENGTH).permute(0, 1, 4, 3, 2)
        weights = self.attend(picture).reshape(BATCH, LENGTH, HEADS, 9, 9).permute(0, 2, 1, 3, 4).softmax(-1)
        seen(weights.transpose(1, 2).flatten(0, 1), shape=[BATCH, LENGTH, HEADS, 9, 9])
        return (weights @ v).flatten(3)


@form(decomposed=True)
class SlotsOfPicture(OfPicture):
    """A memory of slots that every place of a picture reads."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Parameter(torch.randn(WIDTH, 5)), nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x):
        weights = (self.picture(x) @ self.keys).reshape(BATCH, LENGTH, 5).softmax(-1)
        seen(weights.unsqueeze(1))
        return weights @ self.values


@form(decomposed=True)
class SlotsOfHeads(nn.Module):
    """A memory of slots for each head, the heads ahead of the slots."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Parameter(torch.randn(WIDTH, HEADS * 5)), nn.Parameter(torch.randn(5, DEPTH))

    def forward(self, x):
        weights = (x @ self.keys).view(BATCH, LENGTH, HEADS, 5).softmax(-1)
        seen(weights.permute(0, 2, 1, 3))
        return weights @ self.values


@form(decomposed=True)
class FactorsUpdated(nn.Module):
    """Bases and codes of a matrix, each multiplied by one product and divided by another, element by element."""

    def __init__(self):
        super().__init__()
        self.bases = nn.Parameter(torch.rand(1, WIDTH, 3))

    def forward(self, x):
        x = x.abs().transpose(1, 2)
        bases = self.bases.repeat(BATCH, 1, 1)
        codes = torch.bmm(x.transpose(1, 2), bases).softmax(-1)
        seen(codes.unsqueeze(1))
        for _ in range(2):
            codes = codes * torch.bmm(x.transpose(1, 2), bases) / (codes.bmm(bases.transpose(1, 2).bmm(bases)) + 1e-6)
            seen(codes.transpose(1, 2).unsqueeze(1), 'signed')
            seen(codes.unsqueeze(1), 'signed')
            bases = bases * torch.bmm(x, codes) / (bases.bmm(codes.transpose(1, 2).bmm(codes)) + 1e-6)
        return torch.bmm(bases, codes.transpose(1, 2))


@form(unseen=1, decomposed=True)
class HebbianOfInputs(nn.Module):
    """Inputs times inputs, and a function of that: no layer says that these are features."""

    def forward(self, x):
        state = torch.tanh(torch.bmm(x[:, 0].unsqueeze(2), x[:, 1].unsqueeze(1)))
        return torch.bmm(state, x[:, 2].unsqueeze(2)).squeeze(2)


@form(decomposed=True)
class ModesOfReading(nn.Module):
    """Heads that each read by content and by a place of their own, as two gates say, which one softmax makes."""

    def __init__(self):
        super().__init__()
        self.key, self.place, self.gates = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 6)

    def forward(self, x):
        content = torch.softmax(self.key(x[:, :1]) @ x.transpose(1, 2), -1)
        place = torch.softmax(self.place(x).transpose(1, 2), -1)
        gates = torch.softmax(self.gates(x[:, 0]).view(BATCH, 3, 2), -1)
        weights = gates[:, :, :1] * content + gates[:, :, 1:] * place
        seen(weights.unsqueeze(2), 'unnormalized')
        return weights @ x


@form(decomposed=True)
class OneOfAll(Compared):
    """Numbers for each position that one vector gives, and none of them weighs values."""

    def compared(self, x):
        shifted = x - x.mean(1, keepdim=True)
        near = torch.sigmoid((x[:, :1] * x).sum(-1)) + shifted.pow(2).sum(-1).sqrt()
        return near.unsqueeze(-1) * x - (x * x[:, :1]).sum(-1, keepdim=True) * x[:, :1]


@form(unseen=1)
class ScoresOfBothLayers(Attention):
    """A second layer adds to the scores of the first, and its weights are used key by key."""

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        first = weights @ v
        more = (scores + first @ v.transpose(2, 3)).softmax(-1)
        second = torch.zeros_like(v)
        for key in range(LENGTH):
            second = second + more[..., key : key + 1] * v[:, :, key : key + 1]
        return second


@form(script=True)
class NormedSlots(nn.Module):
    """Keys and values that layers make of a table: constants, once a program is optimized."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, WIDTH))
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        queries, keys = F.normalize(self.query(x), dim=-1), F.normalize(self.key(self.table), dim=-1)
        weights = (queries @ keys.t() * 5).softmax(-1)
        if not torch.jit.is_scripting():
            seen(weights.unsqueeze(1))
        return weights @ self.value(self.table)


@form(decomposed=True)
class TokensOfTwoLayers(Attention):
    """What two layers made of each step, interleaved (Decision Transformer): tokens, none of which is a head."""

    def extra(self):
        self.states, self.actions = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        tokens = torch.stack([self.states(x), self.actions(x)], 1).permute(0, 2, 1, 3)
        return super().forward(tokens.reshape(x.size(0), 2 * x.size(1), WIDTH))

    def mix(self, scores, v):
        weights = scores.softmax(-1)
        seen(weights)
        return weights @ v


@form(decomposed=True)
class BothWays(nn.Module):
    """The same weights sum one sequence for the other, and the other for the one."""

    def __init__(self):
        super().__init__()
        self.compared = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        question, image = x[:, :4], x[:, 4:]
        weights = (self.compared(question) @ image.transpose(1, 2)).softmax(-1)
        seen(weights.unsqueeze(1))
        seen(weights.transpose(1, 2).unsqueeze(1), 'unnormalized')
        return torch.cat([weights @ image, weights.transpose(1, 2) @ question], 1)


@form(decomposed=True)
class BothWaysByTanh(nn.Module):
    """An affinity of two sequences without a softmax (hierarchical co-attention)."""

    def __init__(self):
        super().__init__()
        self.compared, self.ofQuestion, self.ofImage = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        question, image = x[:, :4], x[:, 4:]
        weights = torch.tanh(question @ self.compared(image).transpose(1, 2))
        seen(weights.transpose(1, 2).unsqueeze(1), 'signed', 'tanh')
        seen(weights.unsqueeze(1), 'signed', 'tanh')
        ofImage = torch.tanh(self.ofImage(image) + weights.transpose(1, 2) @ self.ofQuestion(question))
        ofQuestion = torch.tanh(self.ofQuestion(question) + weights @ self.ofImage(image))
        return torch.cat([ofQuestion, ofImage], 1)


@form(decomposed=True)
class ScoresOfThreeTerms(nn.Module):
    """One term of each side and one of both (question answering), then attention in one step and in two."""

    def __init__(self):
        super().__init__()
        self.ofContext, self.ofQuestion = nn.Parameter(torch.randn(WIDTH, 1)), nn.Parameter(torch.randn(WIDTH, 1))
        self.ofBoth = nn.Parameter(torch.randn(1, 1, WIDTH))

    def forward(self, x):
        context, question = x[:, :4], x[:, 4:]
        scores = torch.matmul(context, self.ofContext).expand(-1, -1, 2)
        scores = scores + torch.matmul(question, self.ofQuestion).transpose(1, 2).expand(-1, 4, -1)
        scores = scores + torch.matmul(context * self.ofBoth, question.transpose(1, 2))
        toQuestion, toContext = scores.softmax(2), scores.softmax(1)
        seen(toQuestion.unsqueeze(1))
        twoSteps = torch.bmm(toQuestion, toContext.transpose(1, 2))
        seen(twoSteps.unsqueeze(1))
        return torch.cat([torch.bmm(toQuestion, question), torch.bmm(twoSteps, context)], -1)


@form(decomposed=True)
class ClassesOfAGraph(nn.Module):
    """A graph convolution: the matrix of neighbours is an input."""

    def __init__(self):
        super().__init__()
        self.hidden, self.classes = nn.Linear(WIDTH, 8), nn.Linear(8, 5)

    def forward(self, x):
        neighbours = x[..., :LENGTH].abs()
        hidden = torch.relu(neighbours @ self.hidden(x))
        return F.log_softmax(neighbours @ self.classes(hidden), -1)


@form()
class ClassesOfPairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes = nn.Bilinear(WIDTH, WIDTH, 5)

    def forward(self, x):
        return self.classes(x[:, 0].contiguous(), x[:, 1].contiguous()).softmax(-1)


@form(unseen=1, decomposed=True)
class SimilarityOfLinearAttention(Attention):
    """Linear attention divided by its sums in one step, added to its queries, which are compared with the keys."""

    def forward(self, x):
        q, k, v = (F.elu(each(x)).view(BATCH, LENGTH, HEADS, DEPTH) + 1 for each in (self.query, self.key, self.value))
        context = torch.einsum('nshd,nshv->nhdv', k, v)
        sums = 1 / (torch.einsum('nlhd,nhd->nlh', q, k.sum(1)) + 1e-6)
        given = x + torch.einsum('nlhd,nhdv,nlh->nlhv', q, context, sums).reshape(BATCH, LENGTH, WIDTH)
        return given @ x.transpose(1, 2)


@form(unseen=1, decomposed=True)
class RegionsOfWeighedKeys(Attention):
    """Keys and values of each region are multiplied by the weight that a router's softmax has for it (BiFormer)."""

    def forward(self, x):
        regions = x.view(BATCH, 3, 2, WIDTH)
        q, k, v = self.query(regions), self.key(regions), self.value(regions)
        route = (q.mean(2) @ k.mean(2).transpose(1, 2)).softmax(-1)
        pairs = route.view(BATCH, 3, 3, 1, 1) * torch.cat([k, v], -1).unsqueeze(1)
        k, v = (self.apart(each.reshape(3 * BATCH, LENGTH, WIDTH)) for each in pairs.chunk(2, -1))
        weights = self.scores(self.apart(q.reshape(3 * BATCH, 2, WIDTH)), k).softmax(-1)
        seen(weights)
        return self.together(weights @ v)


@form(decomposed=True)
class GivenBack(nn.Module):
    """What maps of a layer pooled goes back to the positions by the same maps."""

    def __init__(self):
        super().__init__()
        self.maps, self.pooled = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        weights = self.maps(x).softmax(1)
        seen(weights.transpose(1, 2).unsqueeze(1))
        seen(weights.unsqueeze(1), 'unnormalized')
        return x + weights @ self.pooled(weights.transpose(1, 2) @ x)


@form(decomposed=True)
class LabelsOfPairs(nn.Module):
    """Labels of each two positions, as a parser has them."""

    def __init__(self):
        super().__init__()
        self.head, self.tail = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.labels = nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, x):
        scores = torch.einsum('bxi,oij,byj->bxyo', self.head(x), self.labels, self.tail(x))
        return F.log_softmax(scores, -1)


@form(decomposed=True)
class ExpertsSideBySide(nn.Module):
    """A layer weighs what layers gave, side by side: a mixture of experts."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.weigh = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x):
        weights = self.weigh(x).softmax(-1)
        return torch.einsum('lbnd,bnl->bnd', torch.stack([self.first(x).relu(), self.second(x).relu()]), weights)


@form(unseen=1)
class AdditiveWithABias(nn.Module):
    """Scores of a layer for each two positions, and a bias that the forward computes of numbers alone."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.score = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4), nn.Linear(4, 1)

    def forward(self, x):
        scores = self.score(torch.tanh(self.query(x).unsqueeze(2) + self.key(x).unsqueeze(1))).squeeze(-1)
        places = torch.arange(LENGTH)
        distances = (places.unsqueeze(1) - places).abs().float()
        weights = torch.relu(scores - 0.3 * distances) ** 2 / LENGTH
        return weights @ x


@form(decomposed=True)
class BranchesSelected(nn.Module):
    """A layer for each branch says how much of it is taken: selective kernels, whose branches are unsqueezed and joined."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1 + each, dilation=1 + each) for each in range(2))
        self.shares = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x):
        given = torch.cat([branch(x.transpose(1, 2)).relu().unsqueeze(1) for branch in self.branches], 1)
        pooled = given.sum(1).mean(-1)
        shares = torch.cat([share(pooled).unsqueeze(1) for share in self.shares], 1).softmax(1)
        return (given * shares.unsqueeze(-1)).sum(1)


@form(decomposed=True)
class ResidualExperts(nn.Module):
    """Experts that add to what they are given, which a router weighs."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.router = nn.Linear(WIDTH, 3)

    def forward(self, x):
        given = torch.stack([x + expert(x).relu() for expert in self.experts], 2)
        return (given * self.router(x).softmax(-1).unsqueeze(-1)).sum(2)


@form(decomposed=True)
class TriangleAttention(nn.Module):
    """Attention along the rows of what a triangle multiplication told of pairs, twice, as in structure prediction."""

    def __init__(self):
        super().__init__()
        self.pair, self.factors, self.product = nn.Linear(WIDTH, 8), nn.Linear(8, 16), nn.Linear(8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.joint = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x):
        pair = self.pair(x[:, :3]).unsqueeze(1) + self.pair(x[:, 3:]).unsqueeze(2)
        a, b = self.factors(pair).chunk(2, -1)
        pair = pair + self.product(torch.einsum('bikc,bjkc->bijc', a, b))
        for norm, joint, gate, out in zip(self.norms, self.joint, self.gates, self.outs):
            normed = norm(pair)
            q, k, v = (each.unflatten(-1, (HEADS, 4)).transpose(-2, -3) for each in joint(normed).chunk(3, -1))
            weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
            seen(weights.flatten(0, 1), shape=list(weights.shape))
            mixed = (weights @ v).transpose(-2, -3).flatten(-2)
            pair = (pair + out(mixed * gate(normed).sigmoid())).transpose(1, 2)
        return pair


@form()
class BlocksWithoutLayers(nn.Module):
    """Blocks behind the heads, of what no layer made."""

    def forward(self, x):
        blocks = x.view(BATCH, LENGTH, HEADS, DEPTH).transpose(1, 2).unflatten(2, (3, 2))
        weights = (blocks @ blocks.transpose(-1, -2)).softmax(-1)
        seen(weights.flatten(0, 1), shape=list(weights.shape))
        return (weights @ blocks).flatten(2, 3).transpose(1, 2).flatten(2)
