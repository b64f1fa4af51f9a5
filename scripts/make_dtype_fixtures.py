"""Writes test/fixtures/dtypes: tensors of the types that few models have, in every format, and models that take and give
them, with what Python computes.

Needs numpy, safetensors and torch. Run from anywhere: python3 scripts/make_dtype_fixtures.py
"""

from pathlib import Path
from typing import List, Tuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from strip_debug import strip_debug

FOLDER = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "dtypes"

COMPLEX = [[1.5 - 2j, complex(-0.0, 0.1)], [complex(float("inf"), float("nan")), 3e-3 + 1j]]
TENSORS = {
    "uint16": torch.tensor([[0, 1], [255, 65535]], dtype=torch.uint16),
    "uint32": torch.tensor([[0, 1], [65536, 2**32 - 1]], dtype=torch.uint32),
    "uint64": torch.tensor([[0, 1], [2**53 + 1, 2**64 - 1]], dtype=torch.uint64),
    "complex64": torch.tensor(COMPLEX, dtype=torch.complex64),
    "complex128": torch.tensor(COMPLEX, dtype=torch.complex128),
}


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Dtypes(nn.Module):
    """Has buffers of each type, and squares what it is given in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in TENSORS.items():
            self.register_buffer(name, tensor)
        self.square = Square()

    def forward(self, tensors: List[Tensor]) -> List[Tensor]:
        squares: List[Tensor] = []
        for each in tensors:
            squares.append(self.square(each))
        return squares

    @torch.jit.export
    def lazily(self) -> Tuple[Tensor, Tensor, Tensor]:
        """Views of other elements than those in memory: conjugate, negated, strided."""
        return self.complex64.conj(), self.complex64.conj().imag, self.uint16.t()


class Unrolled(nn.Module):
    """The same without a loop, for torch.export."""

    def __init__(self) -> None:
        super().__init__()
        self.square = Square()
        for name, tensor in TENSORS.items():
            self.register_buffer(name, tensor)

    def forward(self, uint16, uint32, uint64, complex64, complex128):
        given = (uint16, uint32, uint64, complex64, complex128)
        return tuple(self.square(each) for each in given) + (self.complex64 + self.complex64, self.uint64 * self.uint64)


class Quantize(nn.Module):
    """Gives tensors of each quantization."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scales", torch.tensor([0.013, 0.2, 1.7], dtype=torch.float64))
        self.register_buffer("points", torch.tensor([0, -3, 5]))
        self.register_buffer("float_scales", torch.tensor([0.013, 0.2, 1.7]))
        self.register_buffer("float_points", torch.tensor([0.5, 1.25, 3.0]))

    def forward(self, x: Tensor) -> List[Tensor]:
        return [
            torch.quantize_per_tensor(x, 0.0371, 7, torch.quint8),
            torch.quantize_per_tensor(x, 0.0371, -5, torch.qint8),
            torch.quantize_per_tensor(x, 1e-5, 123, torch.qint32),
            torch.quantize_per_channel(x, self.scales, self.points, 0, torch.qint8),
            torch.quantize_per_channel(x.t().contiguous(), self.scales, self.points, 1, torch.qint8),
            torch.quantize_per_channel(x, self.scales, self.points, 0, torch.qint32),
            torch.quantize_per_channel(x, self.float_scales, self.float_points, 0, torch.quint8),
            torch.quantize_per_tensor(x, 0.0371, 7, torch.quint8).t(),
            # Two and four elements in a byte, of rows that fill their last byte in part.
            torch.quantize_per_channel(x, self.float_scales, self.float_points, 0, torch.quint4x2),
            torch.quantize_per_channel(x, self.float_scales, self.float_points, 0, torch.quint2x4),
        ]


class Quantized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantize = Quantize()

    def forward(self, x: Tensor) -> List[Tensor]:
        return self.quantize(x)


class Mixed(nn.Module):
    """Gives types that a .safetensors file has no name for, and attention beside them."""

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        quantized = torch.quantize_per_tensor(x, 0.0371, 7, torch.quint8)
        attended = torch.matmul(torch.softmax(torch.matmul(x, x.t()), -1), x)
        return quantized, torch.complex(x, x).to(torch.complex128), x.to(torch.float8_e5m2), attended


class Promotion(nn.Module):
    """Numbers, and tensors without dimensions: types are promoted differently beside the two."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(1, 4))
        self.register_buffer("wide", torch.tensor(0.5, dtype=torch.float64))
        self.register_buffer("narrow", torch.tensor(0.5, dtype=torch.float16))
        self.register_buffer("yes", torch.tensor(True))

    def forward(self, x: Tensor) -> List[Tensor]:
        steps = torch.arange(3) * 0.05 + torch.ones(3) * 0.1
        beside: List[Tensor] = [steps, steps * x, self.steps * 0.5, self.steps / 2, self.steps + 1.5]
        for scalar in [self.wide, self.narrow, self.yes, self.wide * 2, self.steps[1]]:
            beside += [x * scalar, scalar * x, x + scalar, x / scalar, self.steps * scalar, self.steps[0] * scalar]
        return beside + [x - self.wide, self.steps - self.narrow, x.sum() * self.wide, self.steps * True, x * 2 - 1]


def save_promotion() -> None:
    given = {"float32": torch.arange(1.0, 4.0), "int64": torch.arange(1, 4), "scalar": torch.tensor(3.0)}
    model = Promotion().eval()
    made = {"script": torch.jit.script(model), "trace": torch.jit.trace(model, given["float32"], check_trace=False)}
    for name, each in made.items():
        each.save(str(FOLDER / f"promotion_{name}.pt"))
        strip_debug(FOLDER / f"promotion_{name}.pt")
    outputs = {f"{name}.{i:02}": each.clone() for name, x in given.items() for i, each in enumerate(model(x))}
    save_file(given | outputs, FOLDER / "promotion.safetensors")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    squares = {f"square.{name}": tensor * tensor for name, tensor in TENSORS.items()}
    tensors = TENSORS | squares
    torch.save(tensors, FOLDER / "tensors.pth")
    save_file({k: v for k, v in tensors.items() if v.dtype != torch.complex128}, FOLDER / "tensors.safetensors")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    swapped = {f"swapped.{k}": v.astype(v.dtype.newbyteorder(">")) for k, v in arrays.items() if "square" not in k}
    np.savez_compressed(FOLDER / "tensors.npz", **arrays, **swapped)

    torch.jit.script(Dtypes().eval()).save(str(FOLDER / "dtypes.pt"))
    exported = torch.export.export(Unrolled().eval(), tuple(TENSORS.values()))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of the machine that made it
    torch.export.save(exported, FOLDER / "dtypes.pt2")

    save_promotion()

    torch.manual_seed(0)
    x = torch.randn(3, 5) * 3
    model = torch.jit.script(Quantized().eval())
    model.save(str(FOLDER / "quantized.pt"))
    torch.jit.script(Mixed().eval()).save(str(FOLDER / "mixed.pt"))
    outputs = model(x)
    save_file(
        {"x": x} | {f"dequantized.{i}": each.dequantize().contiguous() for i, each in enumerate(outputs)},
        FOLDER / "quantized.safetensors",
    )


if __name__ == "__main__":
    main()
