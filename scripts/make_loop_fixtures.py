#!/usr/bin/env python3
"""Write test/fixtures/loops/: small TorchScript files whose forwards go round for ever, or for very long.

    python3 scripts/make_loop_fixtures.py [--out FOLDER]

All take one float32 tensor. With torch 2.13.0.
"""

import argparse
from pathlib import Path
from typing import List, Tuple

import torch
from torch import Tensor, nn

from strip_debug import strip_debug

ROOT = Path(__file__).resolve().parent.parent


class Bare(nn.Module):
    """Calls nothing at all."""

    def forward(self, x: Tensor) -> Tensor:
        i = 0
        while True:
            i += 1
        return x + i


class Nested(nn.Module):
    """Short loops inside an endless one."""

    def forward(self, x: Tensor) -> Tensor:
        i = 0
        while i >= 0:
            for j in range(4):
                i = (i + j) % 1000
        return x + i


class Multiplied(nn.Module):
    """Fixed numbers of rounds that end, in theory."""

    def forward(self, x: Tensor) -> Tensor:
        n = 0
        for a in range(60):
            for b in range(60):
                for c in range(60):
                    for d in range(60):
                        for e in range(60):
                            for f in range(60):
                                if x.size(0) > a:
                                    n += f
        return x + n


class Huge(nn.Module):
    """A range that nobody waits for."""

    def forward(self, x: Tensor) -> Tensor:
        n = 0
        for i in range(1000000000000000):
            if i % 7 == x.size(0):
                n += 1
        return x + n


class Operators(nn.Module):
    """Operators, no modules."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() * 0 == 0):
            x = x * 0.5
        return x


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() * 0 == 0):
            x = torch.tanh(self.step(x))
        return x


class Attending(nn.Module):
    """Attention in a loop."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() * 0 == 0):
            x = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        return x


class AttendingOnce(nn.Module):
    """Attention ahead of a loop that computes none."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        i = 0
        while i >= 0:
            i = (i + 1) % 7
        return x + i


@torch.jit.script
def spin(n: int) -> int:
    while n >= 0:
        n = (n + 1) % 1000
    return n


class Called(nn.Module):
    """In a function."""

    def forward(self, x: Tensor) -> Tensor:
        return x + spin(x.size(0))


class Forked(nn.Module):
    """In a task that is awaited."""

    def forward(self, x: Tensor) -> Tensor:
        task = torch.jit.fork(spin, x.size(0))
        return x + torch.jit.wait(task)


class ForkedAlone(nn.Module):
    """In a task that nobody awaits: the run itself ends at once."""

    def forward(self, x: Tensor) -> Tensor:
        task = torch.jit.fork(spin, x.size(0))
        if x.dim() > 10:  # or the task would be none that anybody may need
            return x + torch.jit.wait(task)
        return x * 2


@torch.jit.interface
class Turning(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Turn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        while n >= 0:
            n = (n + 1) % 1000
        return x + n


class Interface(nn.Module):
    """In a method that is called through an interface whose module may change while the model runs: it stays a call."""

    which: Turning

    def __init__(self):
        super().__init__()
        self.first = Turn()
        self.second = Turn()
        self.which = self.first

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 10:
            self.which = self.second
        return self.which(x)


class Growing(nn.Module):
    """A list that grows by small tensors."""

    def forward(self, x: Tensor) -> Tensor:
        kept: List[Tensor] = []
        while len(kept) >= 0:
            kept.append(x + 1)
        return kept[0]


class Doubling(nn.Module):
    """A tensor that doubles."""

    def forward(self, x: Tensor) -> Tensor:
        while x.dim() > 0:
            x = torch.cat([x, x])
        return x


class Counted(nn.Module):
    """Loops that end: a fixed number of rounds, and one that the input decides."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor, times: int) -> Tensor:
        for i in range(3):
            x = torch.relu(self.step(x)) + i
        for i in range(times):
            x = torch.tanh(x * 0.5 + x.sigmoid())
        return x


class Row(nn.Module):
    """Long operators in a row, no loop."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        x = torch.tanh(x @ x)
        return x


class Restoring(nn.Module):
    """Never comes out of its own loading."""

    def __init__(self):
        super().__init__()
        self.kept = torch.ones(2)

    @torch.jit.export
    def __getstate__(self):
        return self.kept, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, bool]):
        turns = 0
        while turns >= 0:
            turns = (turns + 1) % 7
        self.kept = state[0]
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.kept


MODELS = {
    'bare': Bare, 'nested': Nested, 'multiplied': Multiplied, 'huge': Huge, 'operators': Operators, 'modules': Linear,
    'attending': Attending, 'attending_once': AttendingOnce, 'called': Called, 'forked': Forked,
    'forked_alone': ForkedAlone, 'interface': Interface, 'growing': Growing, 'doubling': Doubling, 'counted': Counted,
    'row': Row, 'restoring': Restoring,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'test' / 'fixtures' / 'loops')
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, model in MODELS.items():
        path = out / f'{name}.pt'
        torch.jit.script(model().eval()).save(str(path))
        strip_debug(path)


if __name__ == '__main__':
    main()
