"""Headers of safetensors files: names, types and shapes of all tensors, without reading one of them.

The format: eight bytes of length, a JSON object of {name: {"dtype", "shape", "data_offsets"}}, the data
(https://huggingface.co/docs/safetensors). The safetensors library checks the same when it opens a file, in words for
programmers; here a fault is a sentence.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from splatdistill.weight_files.bounded_json import Unreadable, parsed, regular_size, shown

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
LARGEST = 16 * 2**20
"""Bytes of the largest header that is read; that of Stable Diffusion's UNet has 70 KB."""


@dataclass(frozen=True)
class Entry:
    """Tensor of a file: its type, shape and span."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return the number of its elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Entry]:
    """Return the entries of all tensors of a whole safetensors file. Raises Unreadable."""
    size = regular_size(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start.startswith(b"version "):
                raise Unreadable("is a git-lfs pointer and not the weights; `git lfs pull` fetches them")
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > size - 8:
                raise Unreadable(f"is cut short ({size} bytes) or no safetensors file")
            if length > LARGEST:
                raise Unreadable(f"has a header of {length:,} bytes; expected at most {LARGEST:,}")
            header = file.read(length)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from error
    try:
        found = parsed(header)
    except Unreadable as error:
        raise Unreadable(f"is no safetensors file: its header {error}") from error
    found.pop("__metadata__", None)
    spans = {}
    entries = {name: entry(name, value, spans) for name, value in found.items()}
    end = 0
    for first, last in sorted(spans.values()):
        if first != end:
            raise Unreadable("is no safetensors file: its tensors overlap or leave gaps")
        end = last
    if size != 8 + length + end:
        raise Unreadable(f"has {size} bytes where its header says {8 + length + end}: an unfinished download?")
    return entries


def entry(name: str, value: object, spans: dict[str, tuple[int, int]]) -> Entry:
    """Return one entry of a header, its span noted in `spans`. Raises Unreadable."""
    if not isinstance(value, dict):
        raise Unreadable(f"is no safetensors file: {shown(name)} is no object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not (whole(shape) and whole(offsets) and len(offsets) == 2):
        raise Unreadable(f"is no safetensors file: {shown(name)} lacks a shape or offsets")
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise Unreadable(f"keeps {shown(name)} as {shown(dtype)}; expected {', '.join(FLOATS)}")
    if offsets[1] - offsets[0] != BYTES[dtype] * math.prod(shape):
        raise Unreadable(f"is no safetensors file: {shown(name)} has {offsets[1] - offsets[0]} bytes for shape {shown(shape)}")
    spans[name] = (offsets[0], offsets[1])
    return Entry(dtype, tuple(shape))


def whole(value: object) -> TypeGuard[list[int]]:
    """Return whether a value is a list of natural numbers."""
    return isinstance(value, list) and len(value) <= 16 and all(type(n) is int and 0 <= n < 2**63 for n in value)
