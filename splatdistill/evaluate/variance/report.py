"""Report of a variance experiment: for JSON, for the screen, and as charts."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.plots import COLOURS, chart, line, picture
from splatdistill.evaluate.variance.draws import GradientEstimator, MeasuredDraws
from splatdistill.evaluate.variance.statistics import SOURCES, SPACES, GradientStatistics, Space, gradient_statistics


@dataclass(frozen=True)
class SceneNote:
    """Scene that was held fixed."""

    run: str  # the run directory, or what the short run was
    step: int
    progress: float
    splats: int


@dataclass(frozen=True)
class MethodRow:
    """Results of one method on one scene."""

    scene: int
    name: str
    guidance: dict[str, Any]
    """Its hyperparameters, as they were measured."""
    calls: float
    """Pictures that networks were asked about, per draw."""
    alone: bool
    """Its views act on each other, which one view at a time does not show."""
    latents: GradientStatistics
    parameters: GradientStatistics

    def of(self, space: Space) -> GradientStatistics:
        """Return the statistics in one space."""
        return self.latents if space == "latents" else self.parameters


@dataclass(frozen=True)
class ErrorPoint:
    """Mean |eps_hat - eps|^2 per latent of one network at one noise level, over views, with its standard error."""

    scene: int
    network: str
    t: float
    error: float
    deviation: float


@dataclass(frozen=True)
class Report:
    """Contents of variance.json."""

    version: str
    prompt: str
    prior: str
    licence: str
    seed: int
    design: dict[str, int]
    matched: dict[str, Any] | None
    """Guidance scale, weight and times that all methods were given; None where each has its own."""
    scenes: list[SceneNote] = field(default_factory=list)
    rows: list[MethodRow] = field(default_factory=list)
    noise_errors: list[ErrorPoint] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return plain data."""
        return dataclasses.asdict(self)


def rows(scene: int, estimators: Sequence[GradientEstimator], measured: Sequence[MeasuredDraws], reference: MeasuredDraws) -> list[MethodRow]:
    """Return the statistics of every estimator on one scene."""

    def row(estimator: GradientEstimator, m: MeasuredDraws) -> MethodRow:
        found = {
            s: gradient_statistics(m.spaces[s], measured[0].spaces[s], reference.spaces[s], s, m.calls) for s in SPACES
        }
        return MethodRow(scene, estimator.name, dataclasses.asdict(estimator.guidance), m.calls, m.alone, found["latents"], found["parameters"])

    return [row(estimator, m) for estimator, m in zip(estimators, measured)]


def diagrams(report: Report) -> dict[str, Float[Tensor, "3 h w"]]:
    """Return charts by file name."""
    pictures = {f"noise-to-signal-{space}": ratios(report, space) for space in SPACES}
    pictures |= {f"sources-{space}": sources(report, space) for space in SPACES}
    if report.noise_errors:
        pictures |= {f"noise-error-{k + 1}": errors(report, k) for k in {p.scene for p in report.noise_errors}}
    return pictures


def names_of(report: Report) -> list[str]:
    """Return the methods in their order."""
    return list(dict.fromkeys(row.name for row in report.rows))


def ratios(report: Report, space: Space) -> Float[Tensor, "3 h w"]:
    """Chart tr Cov / |E g|^2 of one draw, scene by scene."""
    ticks = {float(k): f"step {scene.step}" for k, scene in enumerate(report.scenes)}
    axes = chart(f"variance / squared mean, {space}", log_y=True, names=ticks)
    names = names_of(report)
    for k, name in enumerate(names):
        mine = [row for row in report.rows if row.name == name]
        found = [row.of(space).ratio for row in mine]
        beside = (k - (len(names) - 1) / 2) * 0.5 / len(names)  # so that intervals of several methods do not cover each other
        xs = [row.scene + beside for row in mine]
        line(axes, xs, [i.value for i in found], COLOURS[k % len(COLOURS)], name, [(i.low, i.high) for i in found])
    return picture(axes)


def sources(report: Report, space: Space) -> Float[Tensor, "3 h w"]:
    """Chart where the variance comes from, on the last scene; parts below zero, by chance, are not drawn."""
    last = [row for row in report.rows if row.scene == len(report.scenes) - 1]
    axes = chart(f"share of the variance, {space}", names={float(k): r.name for k, r in enumerate(last)})
    axes.set_ylim(0, 1.05)
    below = [0.0] * len(last)
    for colour, source in zip(COLOURS, SOURCES):
        parts = [max(0.0, row.of(space).shares[source].value or 0.0) for row in last]
        axes.bar(range(len(last)), parts, 0.6, below, color=colour, label=source)
        below = [b + p for b, p in zip(below, parts, strict=True)]
    return picture(axes)


def errors(report: Report, scene: int) -> Float[Tensor, "3 h w"]:
    """Chart how well the noise in renders is told, over noise levels, with two standard errors to either side."""
    mine = [p for p in report.noise_errors if p.scene == scene]
    axes = chart(f"noise prediction error, step {report.scenes[scene].step}", "t", log_y=True)
    axes.set_xlim(0, 1)
    for colour, network in zip(COLOURS, dict.fromkeys(p.network for p in mine)):
        own = [p for p in mine if p.network == network]
        ends = [(max(p.error - 2 * p.deviation, 1e-9), p.error + 2 * p.deviation) for p in own]
        line(axes, [p.t for p in own], [p.error for p in own], colour, network, ends)
    return picture(axes)
