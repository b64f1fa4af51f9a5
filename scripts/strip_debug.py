"""Smaller archives."""

import io
import json
import zipfile
from pathlib import Path
from typing import Callable, Optional


def rewrite(
    path: Path, change: Callable[[str, bytes], Optional[bytes]], compress: Callable[[str], bool] = lambda name: False
) -> None:
    """Write an archive again with each record as `change` gives it, without those for which it gives None.

    Records stay compressed or stored, and aligned, as PyTorch writes them; those for which `compress` says so are compressed.
    """
    source = zipfile.ZipFile(path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            content = change(info.filename, source.read(info.filename))
            if content is None:
                continue
            entry = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
            start = out.tell() + 30 + len(info.filename)
            missing = -(start + 4) % 64  # an extra field of 4 + missing bytes puts the data on a multiple of 64
            entry.compress_type = zipfile.ZIP_DEFLATED if compress(info.filename) else info.compress_type
            entry.extra = b'FB' + missing.to_bytes(2, 'little') + b'Z' * missing
            target.writestr(entry, content)
    source.close()
    path.write_bytes(out.getvalue())


def strip_debug(path: Path) -> None:
    """Leave out the source positions of a TorchScript archive: most of a small one, and they name paths of this machine."""
    rewrite(path, lambda name, content: None if name.endswith('.debug_pkl') else content)


def strip_program(path: Path) -> None:
    """The same for a program of torch.export: nodes keep the modules that they came from alone, sample inputs go, JSON is compressed."""

    def strip(value):
        if isinstance(value, list):
            return [strip(item) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {key: strip(item) for key, item in value.items()}
        if 'target' in kept and 'metadata' in kept:
            kept['metadata'] = {key: text for key, text in kept['metadata'].items() if key == 'nn_module_stack'}
        return kept

    def change(name: str, content: bytes) -> Optional[bytes]:
        if '/data/sample_inputs/' in name:
            return None
        if name == 'serialized_exported_program.json' or ('/models/' in name and name.endswith('.json')):
            return json.dumps(strip(json.loads(content)), separators=(',', ':')).encode()
        return content

    rewrite(path, change, lambda name: name.endswith('.json'))
