"""Which noise levels a guidance visits, as a function of progress in [0, 1]; beyond it, progress is clamped."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Times:
    """uniform: t ~ U[low, high] per view, with `high` moving linearly to `high_end`, or at once after `switch`.
    linear: t = high + (low - high) progress, the same for the whole batch (SDI, arXiv:2405.15891).
    """

    schedule: Literal["uniform", "linear"] = "uniform"
    """Drawn at random, or walked from high to low."""
    low: float = 0.02
    """Least noise."""
    high: float = 0.98
    """Most noise."""
    high_end: float | None = None
    """Most noise at the end of the run (uniform only); the same as `high` if not given."""
    switch: float | None = None
    """Progress after which `high` is `high_end`, in two stages (ProlificDreamer, arXiv:2305.16213); by default it
    moves there linearly.
    """

    def draw(self, batch: int, progress: float, rng: torch.Generator) -> Float[Tensor, " b"]:
        """`batch` times in [low, high], float64 so that t = i/1000 stays exact."""
        p = min(max(progress, 0.0), 1.0)
        if self.schedule == "linear":
            return torch.full((batch,), self.high + (self.low - self.high) * p, dtype=torch.float64)
        moved = p if self.switch is None else float(p > self.switch)
        high = self.high if self.high_end is None else self.high + (self.high_end - self.high) * moved
        return self.low + (high - self.low) * torch.rand(batch, generator=rng, dtype=torch.float64)
