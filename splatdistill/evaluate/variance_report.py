"""What the variance laboratory found, as one value: for JSON, for the screen, and as diagrams."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.plots import COLOURS, Chart, limits
from splatdistill.evaluate.variance import SOURCES, SPACES, Figures, Space, figures
from splatdistill.evaluate.variance_draws import Arm, Measured


@dataclass(frozen=True)
class SceneNote:
    """A scene that was held fixed."""

    run: str  # the run directory, or what the short run was
    step: int
    progress: float
    splats: int


@dataclass(frozen=True)
class Row:
    """One method on one scene."""

    scene: int
    name: str
    guidance: dict[str, Any]
    """Its hyperparameters, as they were measured."""
    calls: float
    """Pictures that networks were asked about, per draw."""
    alone: bool
    """Its views act on each other, which one view at a time does not show."""
    latents: Figures
    parameters: Figures

    def of(self, space: Space) -> Figures:
        """The figures in one space."""
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
    """Everything that variance.json holds."""

    version: str
    prompt: str
    prior: str
    licence: str
    seed: int
    design: dict[str, int]
    matched: dict[str, Any] | None
    """Guidance scale, weight and times that all methods were given; None where each has its own."""
    scenes: list[SceneNote] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    noise_errors: list[ErrorPoint] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def rows(scene: int, arms: Sequence[Arm], measured: Sequence[Measured], reference: Measured) -> list[Row]:
    """The figures of every arm on one scene."""

    def row(arm: Arm, m: Measured) -> Row:
        found = {
            s: figures(m.spaces[s], measured[0].spaces[s], reference.spaces[s], s, m.calls) for s in SPACES
        }
        return Row(scene, arm.name, dataclasses.asdict(arm.guidance), m.calls, m.alone, found["latents"], found["parameters"])

    return [row(arm, m) for arm, m in zip(arms, measured)]


def diagrams(report: Report) -> dict[str, Float[Tensor, "3 h w"]]:
    """Pictures by file name."""
    pictures = {f"noise-to-signal-{space}": ratios(report, space) for space in SPACES}
    pictures |= {f"sources-{space}": sources(report, space) for space in SPACES}
    if report.noise_errors:
        pictures |= {f"noise-error-{k + 1}": errors(report, k) for k in {p.scene for p in report.noise_errors}}
    return pictures


def names_of(report: Report) -> list[str]:
    """The methods in their order."""
    return list(dict.fromkeys(row.name for row in report.rows))


def ratios(report: Report, space: Space) -> Float[Tensor, "3 h w"]:
    """tr Cov / |E g|^2 of one draw, scene by scene."""
    values = [v for row in report.rows for i in [row.of(space).ratio] for v in (i.value, i.low, i.high) if v is not None]
    ticks = {float(k): f"step {scene.step}" for k, scene in enumerate(report.scenes)}
    chart = Chart((-0.5, len(report.scenes) - 0.5), limits(values, True), f"variance / squared mean, {space}", "", True, ticks)
    names = names_of(report)
    for k, name in enumerate(names):
        mine = [(row.scene + (k - (len(names) - 1) / 2) * 0.5 / len(names), row.of(space).ratio) for row in report.rows if row.name == name]
        colour = COLOURS[k % len(COLOURS)]
        chart.line([x for x, _ in mine], [float("nan") if i.value is None else i.value for _, i in mine], colour, name)
        for x, i in mine:
            if i.value is not None:
                chart.point(x, i.value, colour, i.low, i.high)
    return chart.image()


def sources(report: Report, space: Space) -> Float[Tensor, "3 h w"]:
    """Where the variance comes from, on the last scene; parts below zero, by chance, are not drawn."""
    last = [row for row in report.rows if row.scene == len(report.scenes) - 1]
    chart = Chart(
        (-0.5, len(last) - 0.5), (0, 1.05), f"share of the variance, {space}", "", False, {float(k): r.name for k, r in enumerate(last)}
    )
    for k, row in enumerate(last):
        low = 0.0
        for colour, source in zip(COLOURS, SOURCES):
            part = max(0.0, row.of(space).shares[source].value or 0.0)
            chart.bar(k, 0.6, low, low + part, colour)
            low += part
    chart.entries += list(zip(COLOURS, SOURCES))
    return chart.image()


def errors(report: Report, scene: int) -> Float[Tensor, "3 h w"]:
    """How well the noise in renders is told, over noise levels."""
    mine = [p for p in report.noise_errors if p.scene == scene]
    chart = Chart((0, 1), limits([p.error for p in mine], True), f"noise prediction error, step {report.scenes[scene].step}", "t", True)
    for colour, network in zip(COLOURS, dict.fromkeys(p.network for p in mine)):
        line = [p for p in mine if p.network == network]
        chart.line([p.t for p in line], [p.error for p in line], colour, network)
        for p in line:
            chart.point(p.t, p.error, colour, max(p.error - 2 * p.deviation, 1e-9), p.error + 2 * p.deviation)
    return chart.image()
