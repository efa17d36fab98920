"""Averaged weights: in pieces, and in eight bits as the package's prior `world` brings them, to go on from."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from splatdistill.weight_files.eight_bits import packed, unpacked

PIECE = 15 * 2**20 - 4096  # bytes of tensors in a file, its header left room for


def write(path: Path, tensors: dict[str, Tensor], told: dict[str, object]) -> None:
    """Write tensors in eight bits, and what is told of them as JSON."""
    save_file(packed(tensors), path, {"told": json.dumps(told)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in float32, to half a step of their scale, and what was told of them."""
    with safe_open(path, "pt") as file:
        stored, told = {k: file.get_tensor(k) for k in file.keys()}, json.loads((file.metadata() or {}).get("told", "{}"))  # noqa: SIM118
    return {k: v.float() for k, v in unpacked(stored).items()}, told


def in_pieces(tensors: dict[str, Tensor], most: int = PIECE) -> list[dict[str, Tensor]]:
    """Return the tensors in groups of at most so many bytes, in their order."""
    pieces: list[dict[str, Tensor]] = [{}]
    size = 0
    for k, v in tensors.items():
        own = v.numel() * v.element_size()
        if size + own > most and pieces[-1]:
            pieces.append({})
            size = 0
        pieces[-1][k] = v
        size += own + 200  # and its line of the header
    return pieces
