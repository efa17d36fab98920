"""Whether methods differ beyond chance: paired bootstrap intervals, and Holm's correction for asking many times."""

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
    """How much one method's metric is above another's."""

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
        """better or worse at 5 % after the correction, else undecided; nothing is decided by a handful of prompts."""
        if self.prompts < FEW:
            return "too few prompts"
        if self.holm is None or self.holm >= 0.05 or not METRICS[self.metric].better:
            return "undecided"
        return "better" if (self.difference > 0) == (METRICS[self.metric].better == "higher") else "worse"


def compare(metric: str, arm: str, mine: Values, against: str, theirs: Values, seed: int = 0) -> Comparison | None:
    """Paired by prompt and seed; None where they share no pair.

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
    resampled = resample(gaps, np.random.default_rng(seed))
    low, high = np.percentile(resampled, [2.5, 97.5])
    sides = min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
    return replace(blank, low=float(low), high=float(high), p=min(1.0, max(2 * sides, 1 / RESAMPLES)))


def resample(gaps: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Means of prompts drawn with replacement, each the mean of as many of its seeds drawn with replacement."""
    counts = np.array([len(g) for g in gaps])
    padded = np.zeros((len(gaps), counts.max()))
    for row, g in zip(padded, gaps, strict=True):
        row[: len(g)] = g
    found = []
    for _ in range(RESAMPLES // CHUNK):
        drawn = rng.integers(len(gaps), size=(CHUNK, len(gaps)))
        own = counts[drawn][..., None]
        seeds = np.floor(rng.random((*drawn.shape, counts.max())) * own).astype(int)
        counted = np.arange(counts.max()) < own
        found.append(((padded[drawn[..., None], seeds] * counted).sum(2) / own[..., 0]).mean(1))
    return np.concatenate(found)


def holm(found: Sequence[Comparison]) -> list[Comparison]:
    """p-values of one family corrected by Holm's step-down procedure ("A Simple Sequentially Rejective Multiple Test
    Procedure", 1979): the k-th smallest of m times m - k + 1, never below the one before, at most 1.
    """
    order = sorted((i for i, c in enumerate(found) if c.p is not None), key=lambda i: found[i].p or 0.0)
    corrected, before = list(found), 0.0
    for k, i in enumerate(order):
        before = min(1.0, max(before, (found[i].p or 0.0) * (len(order) - k)))
        corrected[i] = replace(found[i], holm=before)
    return corrected


def comparisons(values: Mapping[str, Mapping[str, Values]], against: str) -> list[Comparison]:
    """Every metric with a better side, of every method against one; corrected within each metric. values: by metric, method."""
    found: list[Comparison] = []
    for metric, by_arm in values.items():
        if not METRICS[metric].better or against not in by_arm:
            continue
        own = [compare(metric, arm, mine, against, by_arm[against]) for arm, mine in by_arm.items() if arm != against]
        found += holm([c for c in own if c is not None])
    return found


def mean_and_spread(values: Values) -> tuple[float, float, int]:
    """Mean over prompts of the mean over seeds, the standard deviation over prompts (nan of one), and the prompts."""
    prompts = list(dict.fromkeys(prompt for prompt, _ in values))
    means = [np.mean([v for (p, _), v in values.items() if p == prompt]) for prompt in prompts]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return float(np.mean(means)), spread, len(prompts)
