"""The curves of a run."""

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from splatdistill.train.events import StepDone

MOST = 400  # points of a curve that are sent
T = TypeVar("T")
STAGES = ("render", "guidance", "backward", "rest")


class History:
    """Columns of measurements, one row a step. Adding a row costs a microsecond."""

    COLUMNS = ("step", "grad_norm", "spread", "loss", "gaussians", "t", "coverage", *STAGES)

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.looked: list[tuple[int, dict[str, float]]] = []  # the regularisers' terms, at the steps that were looked at

    def add(self, e: StepDone, spread: float = float("nan")) -> None:
        """Append one step; spread: the variance of the elements of its gradient."""
        s = e.timing
        self.rows.append(
            (e.step, e.grad_norm, spread, e.loss, e.gaussians, e.t, e.coverage, s.render, s.guidance, s.backward, s.rest)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, *names: str) -> tuple[np.ndarray, ...]:
        """Return columns for a plot, at most MOST points spread evenly, always with the newest. Steps with a non-finite value,
        which were refused, are left out: a plot could not find its range.
        """
        table = np.array(thinned(self.rows), dtype=np.float64).reshape(-1, len(self.COLUMNS))
        table = table[np.isfinite(table).all(1)]
        return tuple(table[:, self.COLUMNS.index(n)] for n in names)

    def look(self, step: int, terms: dict[str, float]) -> None:
        """Append the regularisers' terms of one step."""
        if terms and not (self.looked and self.looked[-1][0] == step):
            self.looked.append((step, terms))

    def terms(self) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
        """Return the names of the terms, and their steps and values for a plot; a missing term counts as zero."""
        rows = thinned(self.looked)
        names = tuple(dict.fromkeys(name for _, terms in rows for name in terms))
        columns = [np.array([step for step, _ in rows], np.float64)]
        columns += [np.array([terms.get(name, 0.0) for _, terms in rows]) for name in names]
        return names, tuple(columns)

    def speed(self, last: int = 20) -> float:
        """Return the speed of the last steps in steps a second; 0 before the first."""
        seconds = sum(sum(row[-len(STAGES) :]) for row in self.rows[-last:])
        return min(last, len(self.rows)) / seconds if seconds else 0.0


class Pace:
    """Speed of runs that take turns, in steps a second by the clock, without pauses."""

    def __init__(self, last: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self.times: deque[float] = deque(maxlen=last + 1)
        self.clock, self.idle, self.seen = clock, 0.0, clock()

    def step(self) -> None:
        """Record a step."""
        self.seen = self.clock()
        self.times.append(self.seen - self.idle)

    def wait(self) -> None:
        """Record a pause: the time since the last step or pause does not count."""
        now = self.clock()
        self.idle, self.seen = self.idle + now - self.seen, now

    def speed(self) -> float:
        """Return the speed in steps a second; 0 before the second step."""
        seconds = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return (len(self.times) - 1) / seconds if seconds > 0 else 0.0


def thinned(rows: list[T]) -> list[T]:
    """Return at most MOST values, spread evenly, with both ends."""
    if len(rows) <= MOST:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
