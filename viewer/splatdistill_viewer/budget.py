"""A share of the wall-clock time, and no more."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE, SHARE_ALONE = 0.02, 0.0025  # of the wall-clock time, with a page open and for the film alone; threads in each other's way double it
LEAST = 0.2  # seconds between frames


class Budget:
    """Scheduler that lets work take at most a share of the time.

    After work of d seconds the next is due (1 - share) / share * d later, and at least `least` seconds after the last one
    began.
    """

    def __init__(self, share: float, least: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a share of the time lies within 0 and 1, got {share}")
        self.share, self.least, self.clock = share, least, clock
        self.spent = 0.0  # seconds in all
        self.next = self.earliest = -float("inf")

    def due(self) -> bool:
        """Return whether the next work may start."""
        return self.clock() >= max(self.next, self.earliest)

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Measure work that is done inside the context, on this thread."""
        began = self.clock()
        self.earliest = began + self.least
        try:
            yield
        finally:
            seconds = self.clock() - began
            self._rest(seconds, seconds * (1 - self.share) / self.share)

    def charge(self, seconds: float) -> None:
        """Record seconds of work that was done on another thread while this one went on."""
        self._rest(seconds, seconds / self.share)

    def _rest(self, seconds: float, rest: float) -> None:
        self.spent += seconds
        self.next = max(self.next, self.clock()) + rest
