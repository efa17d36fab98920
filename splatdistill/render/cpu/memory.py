"""Reused memory for the kernels: fresh pages cost more than many a kernel."""

import weakref
from collections.abc import Sequence
from math import prod

import numpy as np

ALIGNMENT = 64  # bytes: one cache line, one widest vector
KEPT = 256 * 2**20  # bytes that may wait for reuse before all are let go

_free: dict[int, list[np.ndarray]] = {}  # by size in bytes


def _size_class(size: int) -> int:
    """The next of four steps per power of two."""
    step = 1 << max(size.bit_length() - 3, 8)
    return -(-size // step) * step


def _give_back(blocks: list[np.ndarray]) -> None:
    """Lists and dictionaries change in one step under Python's lock, so that this may run in any thread and even
    inside the garbage collector.
    """
    if sum(size * len(waiting) for size, waiting in list(_free.items())) > KEPT:
        _free.clear()  # sizes that nobody asks for any more would fill it for ever
    while blocks:
        block = blocks.pop()
        _free.setdefault(block.nbytes, []).append(block)


class Arena:
    """Hands out uninitialised arrays, and takes them all back when released or forgotten.

    What an autograd graph needs for its backward pass hangs on an arena in the graph, so that it lives as long as the
    graph, however many backward passes there are.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._finalizer = weakref.finalize(self, _give_back, self._blocks)
        self._finalizer.atexit = False

    def take(self, shape: int | Sequence[int], dtype: type | np.dtype) -> np.ndarray:
        """An array that begins at a multiple of 64 bytes."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        kind = np.dtype(dtype)
        wanted = prod(shape) * kind.itemsize
        size = _size_class(wanted)
        try:
            block = _free[size].pop()
        except (KeyError, IndexError):
            raw = np.empty(size + ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            block = raw[start : start + size]
        self._blocks.append(block)
        return block[:wanted].view(kind).reshape(shape)

    def release(self) -> None:
        """Take everything back now: nothing that was handed out may be used any more."""
        _give_back(self._blocks)
