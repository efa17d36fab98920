"""Noise levels that a guidance visits, as a function of progress in [0, 1]; beyond it, progress is clamped."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import checks
from splatdistill.priors.schedule import TableSchedule

Schedule = Literal["uniform", "linear", "sqrt", "dreamtime", "dreamtime_v1"]
@dataclass(frozen=True)
class Times:
    """Noise levels of a step. uniform: t ~ U[t_min, t_max] per view; the bounds move linearly to t_min_end and t_max_end, or
    at once after `switch`.

    The others are the same for the whole batch and fall from t_max to t_min with progress p:
    linear: t = (t_max - t_min) (1 - p) + t_min (SDI, arXiv:2405.15891).
    sqrt: t = (t_max - t_min) (1 - sqrt(p)) + t_min (HiFA, arXiv:2305.18766).
    dreamtime: t falls so that the share of the weight W above it is p (DreamTime, arXiv:2306.12422), W = W_d W_p with
    W_d = sigma / alpha of Stable Diffusion's schedule and W_p flat on [0.5, 0.8] with Gaussian sides; dreamtime_v1,
    the preprint's: W = W_p.
    """

    schedule: Schedule = "uniform"
    """Drawn at random, or walked from t_max to t_min: in a line (SDI), as a square root (HiFA), or where the weight of
    DreamTime lies.
    """
    t_min: float | None = 0.02
    """Least noise; None is the guidance's own."""
    t_max: float | None = 0.98
    """Most noise; None is the guidance's own."""
    t_max_end: float | None = None
    """Most noise at the end of the run (uniform only); the same as `t_max` if not given."""
    switch: float | None = None
    """Progress after which `t_max` is `t_max_end`, in two stages (ProlificDreamer, arXiv:2305.16213), and `t_min` is
    `t_min_end`; by default they move there linearly.
    """
    t_min_end: float | None = None
    """Least noise at the end of the run (uniform only); the same as `t_min` if not given."""
    until: float = 1.0
    """Progress at which bounds that move linearly have arrived."""
    shared: bool = False
    """One time for the whole batch (uniform only; the other schedules always have)."""
    integer: bool | None = None
    """Whole steps t/1000 only: of a uniform range both ends included, of a walk rounded down, as threestudio's. By default
    they are in a guidance's form of its code, and are not in that of its paper.
    """

    def __post_init__(self) -> None:
        """Raise UserError for levels outside of [0, 1] or in the wrong order."""
        checks.types(self)
        checks.within(self, 0, 1, "t_min", "t_max", "t_min_end", "t_max_end", "switch", "until")
        if self.t_min is None or self.t_max is None:  # the guidance's own, which checks again with it
            return
        checks.need(self, "t_max", self.t_min <= self.t_max, f"must not be below t-min, {self.t_min}")
        if self.schedule == "uniform":
            least = self.t_min if self.t_min_end is None else self.t_min_end
            if self.t_max_end is not None:
                checks.need(self, "t_max_end", least <= self.t_max_end, f"must not be below the least noise at the end, {least}")
            else:
                checks.need(self, "t_min_end", least <= self.t_max, f"must not be above t-max, {self.t_max}")

    def begin(self) -> tuple[float, float]:
        """Return least and most noise at the start of the run."""
        return 0.02 if self.t_min is None else self.t_min, 0.98 if self.t_max is None else self.t_max

    def ends(self, progress: float) -> tuple[float, float]:
        """Return least and most noise at this progress."""
        p = min(max(progress, 0.0), 1.0)
        if self.switch is not None:
            moved = float(p > self.switch)
        else:
            moved = min(p / self.until, 1.0) if self.until > 0 else 1.0
        low, high = self.begin()
        low = low if self.t_min_end is None else low + (self.t_min_end - low) * moved
        high = high if self.t_max_end is None else high + (self.t_max_end - high) * moved
        return low, high

    def draw(self, batch: int, progress: float, rng: torch.Generator, views: int = 1) -> Float[Tensor, " b"]:
        """Draw `batch` times in [t_min, t_max], float64 so that t = i/1000 stays exact; the same for each set of `views`."""
        p = min(max(progress, 0.0), 1.0)
        if self.schedule != "uniform":
            return torch.full((batch,), self.walk(p), dtype=torch.float64)
        low, high = self.ends(p)
        count = 1 if self.shared else batch // views
        u = torch.rand(count, generator=rng, dtype=torch.float64)
        if self.integer:
            first, last = int(1000 * low + 1e-6), int(1000 * high + 1e-6)
            t = (first + (u * (last - first + 1)).floor()) / 1000
        else:
            t = low + (high - low) * u
        return t.repeat_interleave(batch // count)

    def walk(self, p: float) -> float:
        """Return t at progress p of a schedule that is not random.

        Whole steps are int(1000 t) with t in the codes' own order of operations, whose round-off decides where 1000 t is
        whole: step 8000 of SDI's 10,000 is at 395, though 980 - 730 * 0.8 = 396.
        """
        low, high = self.begin()
        match self.schedule:
            case "linear":
                t = (high - low) * (1 - p) + low
            case "sqrt":
                t = (high - low) * (1 - p**0.5) + low
            case _:
                return dreamtime(low, high, p, self.schedule == "dreamtime")
        return int(1000 * t) / 1000 if self.integer else t


M1, M2, S1, S2 = 800, 500, 300, 100  # DreamTime's, of 1000 steps


@cache
def dreamtime_weights(low: int, high: int, data: bool) -> Float[Tensor, " steps"]:
    """Return W of the steps low..high, normalised."""
    i = torch.arange(low, high + 1, dtype=torch.float64)
    w = torch.where(i > M1, (-((i - M1) ** 2) / (2 * S1**2)).exp(), torch.ones_like(i))
    w = torch.where(i < M2, (-((i - M2) ** 2) / (2 * S2**2)).exp(), w)
    if data:
        alpha, sigma = TableSchedule.scaled_linear().at(i / 1000)
        w = w * sigma / alpha
    return w / w.sum()


def dreamtime(low: float, high: float, progress: float, data: bool) -> float:
    """Return t(p) = argmin_t |sum_{t' >= t} W(t') - p| over whole steps of [low, high] (arXiv:2306.12422)."""
    first, last = math.ceil(1000 * low - 1e-6), math.floor(1000 * high + 1e-6)
    above = dreamtime_weights(first, last, data).flip(0).cumsum(0)  # from the top down
    return (last - int((above - progress).abs().argmin())) / 1000
