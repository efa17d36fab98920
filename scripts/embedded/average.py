"""Averaged weights: in pieces, and in a file half as large as float16, to go on from: 8 bits a number, one scale a row.

Such a file is kept beside the scripts (scripts/embedded/unfinished.safetensors) as long as the network is not good enough for the package.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PIECE = 15 * 2**20 - 4096  # bytes of tensors in a file, its header left room for


def write(path: Path, tensors: dict[str, Tensor], told: dict[str, object]) -> None:
    """Write tensors, those of more than one dimension in 8 bits, and what is told of them as JSON."""
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.ndim < 2:
            stored[name] = value.half().contiguous()
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-8) / 127
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape).contiguous()
        stored[f"{name}@scale"] = scale
    save_file(stored, path, {"told": json.dumps(told)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return the tensors in float32, to half a step of their scale, and what was told of them."""
    with safe_open(path, "pt") as file:
        stored, told = {k: file.get_tensor(k) for k in file.keys()}, json.loads((file.metadata() or {}).get("told", "{}"))  # noqa: SIM118
    tensors = {}
    for name, value in stored.items():
        if name.endswith("@scale"):
            continue
        scale = stored.get(f"{name}@scale")
        tensors[name] = value.float() if scale is None else value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    return tensors, told


def in_pieces(tensors: dict[str, Tensor], most: int = PIECE) -> list[dict[str, Tensor]]:
    """The tensors in groups of at most so many bytes, in their order."""
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
