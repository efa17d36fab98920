"""The curves of a run."""

import numpy as np

from splatdistill.train.events import StepDone

MOST = 400  # points of a curve that are sent
STAGES = ("render", "guidance", "backward", "rest")


class History:
    """What every step told, as columns. Adding costs a microsecond."""

    COLUMNS = ("step", "grad_norm", "spread", "loss", "gaussians", "t", "coverage", *STAGES)

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.terms: dict[str, list[tuple[int, float]]] = {}  # of the regularisers, where they were looked at

    def add(self, e: StepDone, spread: float = float("nan")) -> None:
        """One step; spread: the variance of the elements of its gradient."""
        s = e.timing
        self.rows.append(
            (e.step, e.grad_norm, spread, e.loss, e.gaussians, e.t, e.coverage, s.render, s.guidance, s.backward, s.rest)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, *names: str) -> tuple[np.ndarray, ...]:
        """Columns for a plot, at most MOST points spread evenly, always with the newest."""
        rows = self.rows
        if len(rows) > MOST:
            rows = [rows[i] for i in np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
        table = np.array(rows, dtype=np.float64).reshape(-1, len(self.COLUMNS))
        return tuple(table[:, self.COLUMNS.index(n)] for n in names)

    def speed(self, last: int = 20) -> float:
        """Steps a second over the last steps; 0 before the first."""
        seconds = sum(sum(row[-len(STAGES) :]) for row in self.rows[-last:])
        return min(last, len(self.rows)) / seconds if seconds else 0.0
