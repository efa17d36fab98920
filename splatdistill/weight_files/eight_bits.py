"""Weights in eight bits: of each row of a tensor whole numbers from -127 to 127, and one scale.

A file half as large as float16, off by at most half a step of its row's scale. A tensor `name` of more than one dimension is
kept as int8, its scales (the first dimension many) as float32 under `name@scale`; the others are float16. So are the convolutions
through which everything passes, a U-Net's first and last one and those around its residual blocks: few numbers, whose rounding
would make most of the error of a prediction.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from splatdistill.weight_files.bounded_json import Unreadable, shown
from splatdistill.weight_files.headers import Entry

if TYPE_CHECKING:
    from torch import Tensor

SCALE = "@scale"
STEPS = 127
EXACT = ("conv_in.", "conv_out.", "conv_shortcut.")  # in the names of what stays float16


def packed(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return tensors as they are kept."""
    import torch

    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.ndim < 2 or any(part in name for part in EXACT):
            stored[name] = value.half().contiguous()
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-8) / STEPS
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape).contiguous()
        stored[f"{name}{SCALE}"] = scale
    return stored


def unpacked(stored: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return kept tensors as numbers: those with scales in float32, the others as they are."""
    tensors = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(f"{name}{SCALE}")
        tensors[name] = value if scale is None else value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    return tensors


def as_numbers(header: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries of a header as `unpacked` will give them. Raises Unreadable for scales that are not of their tensor."""
    entries = {}
    for name, entry in header.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in header:
                raise Unreadable(f"holds {shown(name)} without the tensor that it scales")
            continue
        scale = header.get(f"{name}{SCALE}")
        if scale is not None:
            if entry.dtype != "I8" or scale.dtype != "F32" or scale.shape != entry.shape[:1]:
                raise Unreadable(f"scales {shown(name)}, {entry.dtype} {list(entry.shape)}, by {scale.dtype} {list(scale.shape)}; expected F32 for I8, one a row")
            entry = Entry("F32", entry.shape)
        entries[name] = entry
    return entries
