"""Weights of several networks in one safetensors file, as the package carries its own.

A component's folder then holds, in place of weights, a `weights.json` beside its configuration:

    {"file": "../../weights.safetensors", "prefix": "unet."}

with the path from that folder, and the prefix that its tensors have in the file.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

POINTER = "weights.json"


@dataclass(frozen=True)
class Bundled:
    """Where a component's weights are."""

    file: Path
    prefix: str

    @classmethod
    def of(cls, folder: Path) -> "Bundled | None":
        """What a component's folder points to; None when it holds weights of its own, or no readable pointer."""
        try:
            said = json.loads((folder / POINTER).read_text())
            return cls(folder / str(said["file"]), str(said["prefix"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def write(cls, folder: Path, file: Path, prefix: str) -> None:
        """Point from a component's folder to its tensors in a file."""
        path = Path(os.path.relpath(file, folder)).as_posix()
        (folder / POINTER).write_text(json.dumps({"file": path, "prefix": prefix}) + "\n")

    def tensors(self) -> dict[str, Tensor]:
        """The component's state_dict, without the prefix; empty when the file has none of it."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as stored:
            return {k.removeprefix(self.prefix): stored.get_tensor(k) for k in list(stored.keys()) if k.startswith(self.prefix)}
