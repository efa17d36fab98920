"""The rasteriser's own worker threads. Kernels release Python's global lock, so threads work side by side.

(numba's own threading is left alone: its default layer aborts when two Python threads use it at once, and its OpenMP
layer keeps cores busy against torch's.)
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

import torch

from splatdistill.system import cores

Work = Callable[[int], object]


class Pool:
    """Persistent threads that wait for work, started when first needed."""

    def __init__(self) -> None:
        self._queues: list[SimpleQueue[tuple[Work, int]]] = []
        self._finished: SimpleQueue[BaseException | None] = SimpleQueue()
        self._in_use = threading.Lock()

    def _serve(self, queue: "SimpleQueue[tuple[Work, int]]") -> None:
        while True:
            work, share = queue.get()
            failure = None
            try:
                work(share)
            except BaseException as error:  # handed to the caller, who raises it
                failure = error
            del work  # and so the memory that it holds, which would else wait for the next
            self._finished.put(failure)
            del failure

    def run(self, work: Work, shares: int) -> None:
        """Run work(0), ..., work(shares - 1), side by side; the calling thread does the first.

        If another Python thread is using the workers, the caller does all shares itself: the result is the same,
        because it depends on how the work is cut and not on who does it. Raises what a share raised, after all ended.
        """
        if shares == 1 or not self._in_use.acquire(blocking=False):
            for share in range(shares):
                work(share)
            return
        try:
            while len(self._queues) < shares - 1:
                queue: SimpleQueue[tuple[Work, int]] = SimpleQueue()
                threading.Thread(target=self._serve, args=(queue,), daemon=True, name="splatdistill-cpu").start()
                self._queues.append(queue)
            for share in range(1, shares):
                self._queues[share - 1].put((work, share))
            errors: list[BaseException | None] = []
            try:
                work(0)
            except BaseException as error:
                errors.append(error)
            errors += [self._finished.get() for _ in range(1, shares)]
        finally:
            self._in_use.release()
        for error in errors:
            if error is not None:
                raise error


_pool = Pool()


def _forget_threads() -> None:
    """Reset a forked child's pool: it has none of its parent's threads, and perhaps a lock that nobody will release."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def run(work: Work, shares: int) -> None:
    """Call `Pool.run` on this process's pool."""
    _pool.run(work, shares)


def threads() -> int:
    """Return the number of threads that the user allows: torch.get_num_threads(), at most the cores this process may use."""
    return max(1, min(torch.get_num_threads(), cores()))
