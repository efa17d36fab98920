"""Reused memory for the kernels: fresh pages cost more than many a kernel, and at 512 pixels a tenth of a render."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

ALIGNMENT = 64  # bytes: one cache line, one widest vector
KEPT = 256 * 2**20  # bytes that may wait for reuse before all are let go
LARGE = 2**16  # bytes from which on a block that comes back has all of them counted


class _Block(NamedTuple):
    """Memory block: bytes from an aligned address on."""

    memory: np.ndarray
    address: int
    size: int

    @classmethod
    def new(cls, size: int) -> "_Block":
        memory = np.empty(size + ALIGNMENT, np.uint8)
        return cls(memory, -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT, size)


_free: dict[int, list[_Block]] = {}  # by size


def _size_class(size: int) -> int:
    """Return the next of four steps per power of two."""
    step = 1 << max(size.bit_length() - 3, 8)
    return -(-size // step) * step


class _Loan:
    """Block on loan. numpy keeps this as the base of the array made of it, and views and tensors keep that array, so
    that the block is given back when the last of them is gone.
    """

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: _Block, shape: tuple[int, ...], kind: np.dtype) -> None:
        self.block = block
        self.__array_interface__ = {"version": 3, "data": (block.address, False), "shape": shape, "typestr": kind.str}

    def __del__(self, free: dict[int, list[_Block]] = _free) -> None:
        """Return the block to the pool. Lists and dictionaries change in one step under Python's lock, so that this may run in
        any thread and even inside the garbage collector.
        """
        size = self.block.size
        if size >= LARGE and sum([each * len(waiting) for each, waiting in list(free.items())]) > KEPT:
            free.clear()  # sizes that nobody asks for any more would fill it for ever
        free.setdefault(size, []).append(self.block)


def empty(shape: int | Sequence[int], dtype: type | np.dtype) -> np.ndarray:
    """Return an array as numpy.empty does, with memory that begins at a multiple of 64 bytes and is used again when nothing refers to it."""
    shape, kind = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
    size = _size_class(prod(shape) * kind.itemsize)
    try:
        block = _free[size].pop()
    except (KeyError, IndexError):
        block = _Block.new(size)
    return np.asarray(_Loan(block, shape, kind))
