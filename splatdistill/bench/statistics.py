"""Paired bootstrap intervals of the differences between methods, and Holm's correction for asking many times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splatdistill.evaluate.metrics import METRICS

RESAMPLES = 10_000
CHUNK = 500  # at a time, for the memory's sake
FEW = 6  # prompts: from fewer, percentile intervals are clearly too narrow, and no signs of differences reach 5 %

Values = Mapping[tuple[str, int], float]
"""A metric of one method by prompt and seed."""


@dataclass(frozen=True)
class Comparison:
    """Difference between two methods in one metric."""

    metric: str
    arm: str
    against: str
    prompts: int  # where both have values
    pairs: int  # of prompt and seed
    difference: float  # mean over prompts of the mean over seeds
    low: float | None  # 95 % interval; None where nothing can be resampled
    high: float | None
    p: float | None  # two-sided
    holm: float | None = None  # p after Holm's correction

    @property
    def verdict(self) -> str:
        """Return "better" or "worse" at 5 % after the correction, else undecided; nothing is decided by a handful of prompts."""
        if self.prompts < FEW:
            return "too few prompts"
        if self.holm is None or self.holm >= 0.05 or not METRICS[self.metric].better:
            return "undecided"
        return "better" if (self.difference > 0) == (METRICS[self.metric].better == "higher") else "worse"


def compare(metric: str, arm: str, mine: Values, against: str, theirs: Values, seed: int = 0) -> Comparison | None:
    """Compare two methods, paired by prompt and seed; None where they share no pair.

    Both levels are resampled, prompts and within each of them its seeds (Davison & Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8). The interval is of percentiles; p is twice the smaller share of resampled means on
    either side of 0, at least 1 / resamples.
    """
    pairs = sorted(set(mine) & set(theirs))
    if not pairs:
        return None
    prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
    gaps = [np.array([mine[k] - theirs[k] for k in pairs if k[0] == prompt]) for prompt in prompts]
    difference = float(np.mean([g.mean() for g in gaps]))
    blank = Comparison(metric, arm, against, len(prompts), len(pairs), difference, None, None, None)
    if len(pairs) < 2:
        return blank
    found = resampled(gaps, np.random.default_rng(seed))
    means = found.bootstrap_distribution
    sides = min(float((means <= 0).mean()), float((means >= 0).mean()))
    low, high = (float(v) for v in found.confidence_interval)
    return replace(blank, low=low, high=high, p=min(1.0, max(2 * sides, 1 / RESAMPLES)))


def resampled(gaps: Sequence[np.ndarray], rng: np.random.Generator):
    """Return scipy's bootstrap of the mean over prompts of the mean over seeds. scipy resamples one level: the prompts, and of
    each prompt that it draws the statistic draws the seeds; of a single prompt, its seeds.
    """
    from scipy.stats import bootstrap  # half a second, which nothing else here needs

    told = {"n_resamples": RESAMPLES, "batch": CHUNK, "vectorized": True, "method": "percentile", "rng": rng}
    if len(gaps) == 1:
        return bootstrap((gaps[0],), np.mean, **told)
    counts = np.array([len(g) for g in gaps])
    padded = np.zeros((len(gaps), counts.max()))
    for row, g in zip(padded, gaps, strict=True):
        row[: len(g)] = g

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        drawn = np.moveaxis(drawn, axis, -1).astype(int)
        own = counts[drawn][..., None]
        seeds = np.floor(rng.random((*drawn.shape, counts.max())) * own).astype(int)
        counted = np.arange(counts.max()) < own
        return ((padded[drawn[..., None], seeds] * counted).sum(-1) / own[..., 0]).mean(-1)

    return bootstrap((np.arange(len(gaps)),), mean, **told)


def holm(found: Sequence[Comparison]) -> list[Comparison]:
    """Return p-values of one family corrected by Holm's step-down procedure ("A Simple Sequentially Rejective Multiple Test
    Procedure", 1979), which scipy does not have: the k-th smallest of m times m - k + 1, never below the one before, at most 1.
    """
    known = [i for i, c in enumerate(found) if c.p is not None]
    order = sorted(known, key=lambda i: found[i].p or 0.0)
    p = np.array([found[i].p for i in order], dtype=float)
    corrected = np.minimum(np.maximum.accumulate(p * np.arange(len(p), 0, -1)), 1.0)
    by_place = dict(zip(order, corrected.tolist(), strict=True))
    return [replace(c, holm=by_place[i]) if i in by_place else c for i, c in enumerate(found)]


def comparisons(values: Mapping[str, Mapping[str, Values]], against: str) -> list[Comparison]:
    """Compare every metric that has a better side, of every method against one; corrected within each metric. values: by metric,
    method.
    """
    found: list[Comparison] = []
    for metric, by_arm in values.items():
        if not METRICS[metric].better or against not in by_arm:
            continue
        own = [compare(metric, arm, mine, against, by_arm[against]) for arm, mine in by_arm.items() if arm != against]
        found += holm([c for c in own if c is not None])
    return found


def mean_and_spread(values: Values) -> tuple[float, float, int]:
    """Return the mean over prompts of the mean over seeds, the standard deviation over prompts (nan of one), and the prompts."""
    prompts = list(dict.fromkeys(prompt for prompt, _ in values))
    means = [np.mean([v for (p, _), v in values.items() if p == prompt]) for prompt in prompts]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return float(np.mean(means)), spread, len(prompts)


def interval(values: Values, seed: int = 0) -> tuple[float, float | None, float | None]:
    """Return the mean over prompts of the mean over seeds, and its 95 % interval, of which there is none for a single value."""
    prompts = list(dict.fromkeys(prompt for prompt, _ in values))
    own = [np.array([v for (p, _), v in values.items() if p == prompt]) for prompt in prompts]
    mean = float(np.mean([o.mean() for o in own]))
    if len(values) < 2:
        return mean, None, None
    low, high = (float(v) for v in resampled(own, np.random.default_rng(seed)).confidence_interval)
    return mean, low, high
