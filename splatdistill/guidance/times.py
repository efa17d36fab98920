"""Which noise levels a guidance visits, as a function of progress in [0, 1]; beyond it, progress is clamped."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors.schedule import TableSchedule

Schedule = Literal["uniform", "linear", "sqrt", "dreamtime", "dreamtime_v1"]


@dataclass(frozen=True)
class Times:
    """uniform: t ~ U[low, high] per view; the bounds move linearly to low_end and high_end, or at once after `switch`.

    The others are the same for the whole batch and fall from high to low with progress p:
    linear: t = high - (high - low) p (SDI, arXiv:2405.15891).
    sqrt: t = high - (high - low) sqrt(p) (HiFA, arXiv:2305.18766).
    dreamtime: t falls so that the share of the weight W above it is p (DreamTime, arXiv:2306.12422), W = W_d W_p with
    W_d = sigma / alpha of Stable Diffusion's schedule and W_p flat on [0.5, 0.8] with Gaussian sides; dreamtime_v1,
    the preprint's: W = W_p.
    """

    schedule: Schedule = "uniform"
    """Drawn at random, or walked from high to low: in a line (SDI), as a square root (HiFA), or where the weight of
    DreamTime lies.
    """
    low: float | None = 0.02
    """Least noise; None is the guidance's own."""
    high: float | None = 0.98
    """Most noise; None is the guidance's own."""
    high_end: float | None = None
    """Most noise at the end of the run (uniform only); the same as `high` if not given."""
    switch: float | None = None
    """Progress after which `high` is `high_end`, in two stages (ProlificDreamer, arXiv:2305.16213), and `low` is
    `low_end`; by default they move there linearly.
    """
    low_end: float | None = None
    """Least noise at the end of the run (uniform only); the same as `low` if not given."""
    until: float = 1.0
    """Progress at which bounds that move linearly have arrived."""
    shared: bool = False
    """One time for the whole batch (uniform only; the other schedules always have)."""

    def begin(self) -> tuple[float, float]:
        """Return least and most noise at the start of the run."""
        return 0.02 if self.low is None else self.low, 0.98 if self.high is None else self.high

    def ends(self, progress: float) -> tuple[float, float]:
        """Least and most noise at this progress."""
        p = min(max(progress, 0.0), 1.0)
        if self.switch is not None:
            moved = float(p > self.switch)
        else:
            moved = min(p / self.until, 1.0) if self.until > 0 else 1.0
        low, high = self.begin()
        low = low if self.low_end is None else low + (self.low_end - low) * moved
        high = high if self.high_end is None else high + (self.high_end - high) * moved
        return low, high

    def draw(self, batch: int, progress: float, rng: torch.Generator) -> Float[Tensor, " b"]:
        """`batch` times in [low, high], float64 so that t = i/1000 stays exact."""
        p = min(max(progress, 0.0), 1.0)
        low, high = self.begin()
        match self.schedule:
            case "uniform":
                low, high = self.ends(p)
                u = torch.rand(1 if self.shared else batch, generator=rng, dtype=torch.float64)
                return (low + (high - low) * u).expand(batch)
            case "linear":
                t = high + (low - high) * p
            case "sqrt":
                t = high + (low - high) * math.sqrt(p)
            case _:
                t = dreamtime(low, high, p, self.schedule == "dreamtime")
        return torch.full((batch,), t, dtype=torch.float64)

    def whole(self, t: Float[Tensor, " b"], progress: float) -> Float[Tensor, " b"]:
        """Drawn times as whole steps t/1000, both ends of a uniform range included, as threestudio draws them."""
        if self.schedule != "uniform":
            return (1000 * t).round() / 1000
        low, high = self.ends(progress)
        first, last = int(1000 * low + 1e-6), int(1000 * high + 1e-6)
        u = (t - low) / (high - low) if high > low else torch.zeros_like(t)
        return (first + (u * (last - first + 1)).floor()).clamp(max=last) / 1000


M1, M2, S1, S2 = 800, 500, 300, 100  # DreamTime's, of 1000 steps


@cache
def dreamtime_weights(low: int, high: int, data: bool) -> Float[Tensor, " steps"]:
    """W of the steps low..high, normalised."""
    i = torch.arange(low, high + 1, dtype=torch.float64)
    w = torch.where(i > M1, (-((i - M1) ** 2) / (2 * S1**2)).exp(), torch.ones_like(i))
    w = torch.where(i < M2, (-((i - M2) ** 2) / (2 * S2**2)).exp(), w)
    if data:
        alpha, sigma = TableSchedule.scaled_linear().at(i / 1000)
        w = w * sigma / alpha
    return w / w.sum()


def dreamtime(low: float, high: float, progress: float, data: bool) -> float:
    """t(p) = argmin_t |sum_{t' >= t} W(t') - p| over whole steps of [low, high] (arXiv:2306.12422)."""
    first, last = math.ceil(1000 * low - 1e-6), math.floor(1000 * high + 1e-6)
    above = dreamtime_weights(first, last, data).flip(0).cumsum(0)  # from the top down
    return (last - int((above - progress).abs().argmin())) / 1000
