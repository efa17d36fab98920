"""Quality over network images a prompt: methods that share a line of a preset, and where two lines cross."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splatdistill.bench.measure_jobs import Results
from splatdistill.bench.plan import Arm
from splatdistill.bench.statistics import Values
from splatdistill.bench.tables import Table, heading, notes, number

METRICS = ("iou", "psnr", "r_precision_hard")
RESAMPLES = 2000


@dataclass(frozen=True)
class Line:
    """Values of a metric at each of some numbers of network images a prompt, the fewest first."""

    name: str
    images: tuple[float, ...]
    values: tuple[Values, ...]

    def at(self, prompts: Sequence[str]) -> np.ndarray:
        """Return the mean over prompts, drawn with repetition, of the mean over seeds, at each number of images."""
        return np.array([np.mean([np.mean([v for (q, _), v in values.items() if q == p]) for p in prompts]) for values in self.values])


def images_each(arm: Arm, images: float, steps: int, polish: float) -> float:
    """Return the network images that a prompt of an arm costs: its share of a network's training, and the steps after it."""
    return images * steps / (len(arm.network.corpus) if arm.network else 1) + polish


def lines(results: Results, arms: Sequence[Arm], images: Mapping[str, float], metric: str) -> list[Line]:
    """Return the lines of a metric of which every point is known. images: a prompt's, by arm."""
    made = []
    for name in dict.fromkeys(a.line for a in arms if a.line):
        points = sorted(((images[a.name], results.values(metric, a.name)) for a in arms if a.line == name), key=lambda point: point[0])
        if all(values for _, values in points):
            made.append(Line(name, tuple(i for i, _ in points), tuple(values for _, values in points)))
    return made


def crossing(one: Line, other: Line, prompts: Sequence[str]) -> float | None:
    """Return the images from which on the other line is as good as the first, between its points straight over their logarithm; None
    where it never is, within the range of both.
    """
    low, high = max(one.images[0], other.images[0]), min(one.images[-1], other.images[-1])
    places = np.geomspace(low, high, 200) if high > low else np.array([low])
    gap = np.interp(np.log(places), np.log(other.images), other.at(prompts)) - np.interp(np.log(places), np.log(one.images), one.at(prompts))
    above = np.flatnonzero(gap < 0)
    if not len(above):
        return float(places[0])
    return float(places[above[-1] + 1]) if above[-1] + 1 < len(places) else None


def tables(results: Results, arms: Sequence[Arm], images: Mapping[str, float], seed: int = 0) -> list[Table]:
    """Return for each metric the lines, and where each crosses the first; [] where there are no two."""
    made = []
    for metric in METRICS:
        found = lines(results, arms, images, metric)
        if len(found) < 2:
            continue
        prompts = sorted(set.intersection(*({p for p, _ in values} for line in found for values in line.values)))
        if not prompts:
            continue
        points = sorted({i for line in found for i in line.images})
        rows = [
            (f"{i:,.0f}", *(number(float(line.at(prompts)[line.images.index(i)]), metric) if i in line.images else "" for line in found)) for i in points
        ]
        told = [said(found[0], line, prompts, seed) for line in found[1:]]
        made.append(Table(f"{heading(metric)}, over network images a prompt", ("images", *(line.name for line in found)), tuple(rows), (*told, *notes(results, [metric]))))
    return made


def said(one: Line, other: Line, prompts: Sequence[str], seed: int) -> str:
    """Return in words where a line crosses another, with a 95 % interval of a bootstrap over prompts."""
    rng = np.random.default_rng(seed)
    drawn = [crossing(one, other, [prompts[int(k)] for k in rng.integers(len(prompts), size=len(prompts))]) for _ in range(RESAMPLES)]
    ends = [float(np.quantile([math.inf if d is None else d for d in drawn], q, method="nearest")) for q in (0.025, 0.975)]
    words = [f"{e:,.0f}" if math.isfinite(e) else "more than was tried" for e in ends]
    at = crossing(one, other, prompts)
    where = f"from {at:,.0f} images a prompt on" if at is not None else "nowhere in the range of both"
    return f"{other.name} is as good as {one.name} {where} (95 % interval: {words[0]} to {words[1]}; {len(prompts)} prompts)."
