"""Weights of several networks in one safetensors file, as the package carries its own.

A component's folder then holds, in place of weights, a `weights.json` beside its configuration:

    {"file": "../../weights.safetensors", "prefix": "unet."}

with the path from that folder, and the prefix that its tensors have in the file, which may keep them in eight bits
(eight_bits.py).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from splatdistill.weight_files.bounded_json import Unreadable, read_object
from splatdistill.weight_files.eight_bits import as_numbers, unpacked
from splatdistill.weight_files.headers import BYTES, Entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

POINTER = "weights.json"


@dataclass(frozen=True)
class SharedWeights:
    """Weights of a component in a file that it shares with others."""

    file: Path
    prefix: str

    @classmethod
    def of(cls, folder: Path) -> "SharedWeights | None":
        """Return the file that a component's folder points to; None when it holds weights of its own, or no readable pointer."""
        try:
            said = read_object(folder / POINTER)
        except Unreadable:
            return None
        file, prefix = said.get("file"), said.get("prefix")
        return cls(folder / file, prefix) if isinstance(file, str) and isinstance(prefix, str) else None

    @classmethod
    def write(cls, folder: Path, file: Path, prefix: str) -> None:
        """Write a pointer from a component's folder to its tensors in a file."""
        path = Path(os.path.relpath(file, folder)).as_posix()
        (folder / POINTER).write_text(json.dumps({"file": path, "prefix": prefix}) + "\n", encoding="utf-8")

    def header(self) -> dict[str, Entry]:
        """Return the entries of the component's tensors by their names without the prefix. Raises Unreadable."""
        return as_numbers(self._stored())

    def size(self) -> int:
        """Return the bytes of the component's tensors in the file. Raises Unreadable."""
        return sum(BYTES[e.dtype] * e.count for e in self._stored().values())

    def _stored(self) -> dict[str, Entry]:
        return {k.removeprefix(self.prefix): e for k, e in read_header(self.file).items() if k.startswith(self.prefix)}

    def tensors(self) -> "dict[str, Tensor]":
        """Return the component's state_dict, without the prefix; empty when the file has none of it."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as stored:
            own = [k for k in stored.keys() if k.startswith(self.prefix)]  # noqa: SIM118
            return unpacked({k.removeprefix(self.prefix): stored.get_tensor(k) for k in own})
