"""Models whose products resemble layers that an exporter took apart, for make_exported_fixtures.py."""

import torch
from torch import nn
from torch.nn import functional as F

ROWS, DEPTH, COLUMNS = 6, 16, 12


def parameter(*shape):
    return nn.Parameter(torch.randn(shape))


class Factors(nn.Module):
    """Products whose factors are one and aren't: a bias times zero is left out, whatever it holds."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = parameter(COLUMNS, DEPTH), parameter(COLUMNS)
        self.endless = nn.Parameter(torch.full((COLUMNS,), float('nan')))

    def forward(self, x):
        of = lambda bias, **factors: torch.addmm(bias, x, self.weight.t(), **factors).relu()
        return (of(self.bias), of(self.bias, beta=1.0, alpha=1.0), of(self.bias, beta=0.5), of(self.bias, alpha=-2),
                of(self.bias, beta=2, alpha=0.5), of(self.endless, beta=0))


class Biases(nn.Module):
    """What is added to a product has every shape that expands to the product's."""

    def __init__(self):
        super().__init__()
        self.weight = parameter(COLUMNS, DEPTH)
        self.biases = nn.ParameterList([parameter(*shape) for shape in ((COLUMNS,), (1,), (), (ROWS, 1), (1, COLUMNS), (ROWS, COLUMNS))])

    def forward(self, x):
        made = [torch.addmm(bias, x, self.weight.t()) for bias in self.biases]
        made.append(torch.addmm(made[0], x, self.weight.t()))
        return [F.gelu(each.view(2, 3, COLUMNS)) for each in made]


class Untransposed(nn.Module):
    """GPT-2's Conv1D, whose weight lies the other way around, and weights by every way of transposing them."""

    def __init__(self):
        super().__init__()
        self.weight, self.square, self.bias = parameter(DEPTH, COLUMNS), parameter(DEPTH, DEPTH), parameter(COLUMNS)
        self.wide = parameter(DEPTH)

    def forward(self, x):
        rows = x.view(-1, DEPTH)
        made = [torch.addmm(self.bias, rows, self.weight).view(*x.shape[:-1], COLUMNS)]
        for weight in (self.square, self.square.t(), self.square.transpose(0, 1), self.square.transpose(-1, -2), self.square.permute(1, 0),
                       self.square.permute(0, 1), self.square.t().t()):
            made.append(F.silu(torch.addmm(self.wide, rows, weight).view(x.shape)))
        return made


class Read(nn.Module):
    """What lies between layers is read twice, returned, of two and of four dimensions, and of shapes other than the next layer's."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.flat = nn.Linear(DEPTH, COLUMNS), nn.Linear(COLUMNS, DEPTH), nn.Linear(2 * DEPTH, COLUMNS)
        self.norm = nn.LayerNorm(DEPTH)

    def forward(self, x):
        hidden = self.up(x)
        first = self.norm(x + self.down(F.gelu(hidden)))
        second = self.down(F.relu(hidden) * hidden)
        rows = self.up(first[0])
        deep = self.down(F.gelu(self.up(x[:, None, :2])))
        joined = self.flat(first[:, :2].reshape(x.shape[0], 2 * DEPTH))
        return hidden, first, second, rows, deep, F.relu(joined), self.norm(self.down(self.up(x)) + hidden.sum())


class Written(nn.Module):
    """Inputs, weights, biases and results of products are written to between the products and what reads them."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = parameter(COLUMNS, DEPTH), parameter(COLUMNS)
        self.register_buffer('table', torch.randn(DEPTH, COLUMNS))
        self.register_buffer('shift', torch.randn(COLUMNS))

    def forward(self, x):
        x = x * 1
        shape = (2, 3, COLUMNS)
        first = torch.addmm(self.bias, x, self.weight.t())
        x.mul_(2)
        first_view = first.view(shape)
        second = torch.addmm(self.shift, x, self.table)
        self.table.add_(1)
        self.shift.mul_(3)
        second_view = second.view(shape)
        third = torch.addmm(self.shift, x, self.table).view(shape)
        fourth = torch.addmm(self.bias, x, self.weight.t())
        fourth_view = fourth.view(shape)
        fourth.clamp_(min=0)
        return F.gelu(first_view), F.gelu(second_view), F.gelu(third), fourth_view * 2, fourth


class Norms(nn.Module):
    """Layer norms whose statistics are read, over two dimensions, without parameters, and in place behind a layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.weight, self.bias = nn.Linear(DEPTH, DEPTH), parameter(DEPTH), parameter(DEPTH)

    def forward(self, x):
        of = torch.ops.aten.native_layer_norm
        made = self.layer(x) + x
        normalized, mean, deviation = of(made, [DEPTH], self.weight, self.bias, 1e-5)
        other = of(self.layer(x) + x, [DEPTH], self.weight, self.bias, 0.5)[0]
        return (normalized, mean, deviation, other, of(self.layer(x), [DEPTH], None, None, 1e-5)[0], of(self.layer(x), [DEPTH], self.weight, None, 1e-5)[0],
                of(self.layer(x), list(x.shape[-2:]), None, None, 1e-5)[0])
