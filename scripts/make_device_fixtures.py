"""Writes test/fixtures/devices: checkpoints as they are made on a CUDA device, and what Python computes of the same on the CPU.

Made on the CPU, with the device's name replaced in what names it: code, pickles, graphs. Run from anywhere:
python3 scripts/make_device_fixtures.py
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Callable, List

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "devices"


class Attention(nn.Module):
    """Creates positions and a mask, as traces of Hugging Face's models do, and casts to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(8, 8)
        self.positions = nn.Embedding(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        length = x.size(1)
        x = x + self.positions(torch.arange(length, device=x.device))
        mask = torch.full((length, length), -1e9, device=x.device).triu(1)
        scores = self.query(x) @ x.transpose(1, 2) / torch.tensor(8.0, device=x.device).sqrt()
        weights = torch.softmax(scores + mask.to(x.device), -1)
        return weights @ x + torch.zeros_like(x, device=x.device)


class Traced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.register_buffer("shift", torch.linspace(-1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x) + self.shift.to(x.device) + torch.ones(1, device=x.device)


class Scripted(nn.Module):
    """Names the device in an attribute, in loops, conditions and other methods, and moves tensors there and back."""

    device: torch.device

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, times: int) -> Tensor:
        y = x.cpu()  # becomes x.cuda()
        for i in range(times):
            if y.device == torch.device("cpu"):
                y = self.linear(y) + torch.full([8], float(i), device="cpu")
        return y + torch.zeros([8], device=self.device)

    @torch.jit.export
    def other(self, x: Tensor) -> List[Tensor]:
        future = torch.jit.fork(created, x)
        return [torch.jit.wait(future), x.to("cpu"), torch.eye(8, device=torch.device("cpu"))]


def created(x: Tensor) -> Tensor:
    return x + torch.arange(8, device="cpu")


class Weightless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.size(-1), device=x.device)


def rewrite(path: Path, replace: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(".debug_pkl")]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records:
            archive.writestr(zipfile.ZipInfo(name), replace(name, data))


def on_cuda(name: str, data: bytes) -> bytes:
    """A record of TorchScript's, as it is where the checkpoint is made on a GPU."""
    if name.endswith(".py"):
        return data.replace(b'torch.device("cpu")', b'torch.device("cuda:0")').replace(b"torch.cpu(", b"torch.cuda(")
    if name.endswith(".pkl"):
        return data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    return data


def exported_on_cuda(name: str, data: bytes) -> bytes:
    """The same of torch.export's."""

    def replaced(value):
        if isinstance(value, list):
            return [replaced(each) for each in value]
        if isinstance(value, dict):
            if value == {"type": "cpu", "index": None}:
                return {"type": "cuda", "index": 0}
            return {key: replaced(each) for key, each in value.items()}
        return value

    return json.dumps(replaced(json.loads(data))).encode() if name.endswith(".json") else data


def export(module: nn.Module, x: Tensor, name: str) -> None:
    exported = torch.export.export(module, (x,))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of the machine that made it
    torch.export.save(exported, FOLDER / name)
    rewrite(FOLDER / name, exported_on_cuda)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    traced, scripted = Traced().eval(), torch.jit.script(Scripted().eval())
    tensors = {"x": x, "traced": traced(x), "scripted": scripted(x, 3)}
    tensors |= {f"other.{i}": each for i, each in enumerate(scripted.other(x))}
    tensors["weightless"] = Weightless()(x)

    trace = torch.jit.trace(traced, x)
    trace.save(str(FOLDER / "traced.pt"))
    torch.jit.freeze(trace).save(str(FOLDER / "frozen.pt"))
    scripted.save(str(FOLDER / "scripted.pt"))
    for name in ("traced", "frozen", "scripted"):
        rewrite(FOLDER / f"{name}.pt", on_cuda)
    export(traced, x, "exported.pt2")
    export(Weightless(), x, "weightless.pt2")
    save_file({name: each.detach().contiguous().clone() for name, each in tensors.items()}, FOLDER / "tensors.safetensors")


if __name__ == "__main__":
    main()
