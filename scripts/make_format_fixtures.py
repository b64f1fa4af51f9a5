"""Writes test/fixtures/formats: files by safetensors, numpy and torch themselves, for the readers in lib/formats.

Needs numpy, safetensors and torch. Run from anywhere: python3 scripts/make_format_fixtures.py
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "formats"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "float32": torch.tensor([[1.5, -2.25, 3.0], [0.1, float("inf"), -0.0]]),
            "float64": torch.tensor([0.1, 1e300], dtype=torch.float64),
            "float16": torch.tensor([1.0, -2.5, 65504.0, 6e-8], dtype=torch.float16),
            "bfloat16": torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16),
            "int64": torch.tensor([[-(2**63), 2**63 - 1]]),
            "int32": torch.tensor([-(2**31), 7], dtype=torch.int32),
            "int16": torch.tensor([-(2**15), 7], dtype=torch.int16),
            "int8": torch.tensor([-128, 127, 5], dtype=torch.int8),
            "uint8": torch.tensor([0, 255, 5], dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "scalar": torch.tensor(42.0),
            "empty": torch.zeros(0, 3),
        },
        FOLDER / "every_dtype.safetensors",
        metadata={"made by": "safetensors", "text": 'quotes " and é'},
    )
    save_file({"t": torch.zeros(2, dtype=torch.float8_e5m2)}, FOLDER / "float8.safetensors")

    matrix = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "float32": matrix,
        "fortran": np.asfortranarray(matrix),
        "float64": np.array([0.1, 1e300]),
        "float16": np.array([1.0, -2.5, 65504.0, 6e-8], dtype=np.float16),
        "int64": np.array([[-(2**63), 2**63 - 1]]),
        "int32": np.array([-(2**31), 7], dtype=np.int32),
        "int16": np.array([-(2**15), 7], dtype=np.int16),
        "int8": np.array([-128, 127, 5], dtype=np.int8),
        "uint8": np.array([0, 255, 5], dtype=np.uint8),
        "bool": np.array([True, False, True]),
        "big_endian": np.array([1.5, -2.25], dtype=">f8"),
        "big_endian_fortran": np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=">i4")),
        "scalar": np.array(42.0, dtype=np.float32),
        "empty": np.zeros((0, 3), dtype=np.float32),
    }
    np.savez(FOLDER / "stored.npz", **arrays)
    np.savez_compressed(FOLDER / "deflated.npz", **arrays)
    np.savez(FOLDER / "texts.npz", z=np.array(["text"]))

    torch.manual_seed(0)
    exported = torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.ones(1, 4),))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of the machine that made it
    torch.export.save(exported, FOLDER / "exported.pt2")


if __name__ == "__main__":
    main()
