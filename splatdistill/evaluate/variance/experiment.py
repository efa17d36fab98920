"""The experiment: gradients of several methods, drawn on the same scenes, and what is calculated from them."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from splatdistill import __version__
from splatdistill.evaluate.variance.draws import Draws, GradientEstimator, Still, learn, noise_errors, splats
from splatdistill.evaluate.variance.options import Variance
from splatdistill.evaluate.variance.report import ErrorPoint, Report, SceneNote, diagrams, rows
from splatdistill.evaluate.variance.scenes import Taken, existing, scenes, short, steps_of
from splatdistill.evaluate.variance.statistics import Design
from splatdistill.guidance import SDS, Times
from splatdistill.guidance.base import Directed
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.settings.methods import guidance_of, listed, split
from splatdistill.settings.resolve import Weights
from splatdistill.train.config import Train
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

LEVELS = tuple(round(0.05 + 0.1 * k, 2) for k in range(10))  # of the noise error
VIEWS = 16  # of the noise error


@dataclass(frozen=True)
class Experiment:
    """Experiment whose settings are all resolved."""

    options: Variance
    weights: Weights
    runs: list[tuple[Train, RunDir | None, str]]
    estimators: list[GradientEstimator]

    @property
    def prompt(self) -> str:
        """Return what the first scenes show."""
        return self.runs[0][0].prompt

    @property
    def notice(self) -> str:
        """Return what a person must be told about the prior's weights."""
        return self.weights.find(self.runs[0][0].prior).notice


def prepare(options: Variance) -> Experiment:
    """Prepare an experiment; UserError or WeightsError for an impossible one."""
    weights = Weights()
    runs: list[tuple[Train, RunDir | None, str]] = [*map(existing, options.checkpoint)]
    runs = runs or [(short(options, weights), None, options.run)]
    matched = matched_in(options)
    estimators = [
        estimator(name, text, runs[0][0].prior, weights, matched) for name, text in split(listed(options.guidances)).items()
    ]
    return Experiment(options, weights, runs, estimators)


def estimator(name: str, text: str, prior: str, weights: Weights, matched: dict[str, Any]) -> GradientEstimator:
    """Return a method of the list: its recipe's options, those in brackets, and on top what all are matched in."""
    guidance, wrong_view = guidance_of(text, prior, weights)
    return GradientEstimator(name, replace(guidance, **matched), wrong_view=wrong_view)


def conduct(
    experiment: Experiment, folder: RunDir, progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
) -> Report:
    """Measure on every scene in turn, and write the report as far as it is after each.

    progress: begins to tell of so many draws; what it gives is told how many are made.
    """
    o = experiment.options
    every = scenes(o, experiment.runs, experiment.weights)
    first = next(every)
    design = designed(o, still_of(first))
    count = sum(len(steps_of(o, path, config)) for config, path, _ in experiment.runs)
    report, total = started(o, first.session, design), 0
    amount = count * design.cameras * design.below * (len(experiment.estimators) + o.reference)
    with progress("measuring", amount) as tell:
        for taken in chain([first], every):
            still = still_of(taken)
            total = measure(o, report, taken, still, designed(o, still), experiment.estimators, tell, total)
            save(report, folder)
    return report


def still_of(taken: Taken) -> Still:
    """Return the scene as the run sees it."""
    s = taken.session
    assert s.state is not None and s.rasterizer is not None
    progress = min(s.config.progress(s.state.step, s.state.phase), 1.0)
    return splats(s.state.scene, s.config, s.prior, s.prompts, s.rasterizer, progress, s.state.background.detach())


def designed(o: Variance, still: Still) -> Design:
    """Return how many draws of what are made; how many encodings is asked of the encoder itself."""
    shot = still.shoot(torch.Generator().manual_seed(0))
    one, other = (shot.encode(torch.Generator().manual_seed(k)).detach() for k in (1, 2))
    encodings = o.encodings or (1 if torch.equal(one, other) else 2)
    return Design(max(3, round(o.draws / (encodings * o.times * o.noises))), encodings, o.times, o.noises)


def started(o: Variance, session: Session, design: Design) -> Report:
    """Return a report without rows."""
    told = {"scale": o.scale, "view_weight": o.view_weight, "weight": o.weight, "low": o.low, "high": o.high}
    matched = told if o.matched else None
    prior, prompt = session.prior, session.config.prompt
    return Report(__version__, prompt, prior.name, prior.licence, o.seed, dataclasses.asdict(design), matched)


def measure(
    o: Variance, report: Report, taken: Taken, still: Still, design: Design, estimators: list[GradientEstimator], tell: Callable[[int], None], total: int
) -> int:
    """Add one scene to the report; return the draws made so far."""
    session, scene = taken.session, len(report.scenes)
    assert session.state is not None
    report.scenes.append(SceneNote(taken.run, session.state.step, still.progress, len(session.state.scene)))
    rng = torch.Generator().manual_seed(o.seed)
    ready = [taught(a, o, taken, still, rng) for a in estimators]
    done = [total]

    def tick(count: int) -> None:
        done[0] += count
        tell(done[0])

    many = replace(design, times=o.reference * design.times)
    first = ready[0].guidance
    common: dict[str, Any] = {"weight": first.weight, "times": first.value("times")}
    if isinstance(first, Directed):
        common |= {"scale": first.scale, "view_weight": first.view_weight}
    reference = Draws(still, many, o.seed + scene, "reference").measure(GradientEstimator("reference", SDS(**common)), tick)
    draws = Draws(still, design, o.seed + scene)
    report.rows.extend(rows(scene, ready, [draws.measure(a, tick) for a in ready], reference))
    if o.noise_error:
        for network, t, error in noise_errors(ready, still, LEVELS, VIEWS, rng):
            spread = float(error.std() / len(error) ** 0.5)
            report.noise_errors.append(ErrorPoint(scene, network, t, float(error.mean()), spread))
    return done[0]


def taught(a: GradientEstimator, o: Variance, taken: Taken, still: Still, rng: torch.Generator) -> GradientEstimator:
    """Return the estimator with what its run has taught it, or else after learning on the scene."""
    assert taken.session.state is not None
    state: dict[str, Tensor] = taken.session.state.memory.state_dict()
    if type(a.guidance) is type(taken.session.config.guidance) and state:
        return replace(a, learned={k: v.clone() for k, v in state.items()})
    return learn(a, still, taken.session.config.batch, o.learn, rng)


def save(report: Report, folder: RunDir) -> None:
    """Write the record and the charts as far as they are."""
    write_text(folder.path / "variance.json", json.dumps(report.record(), indent=1, default=str) + "\n")
    for name, picture in diagrams(report).items():
        write_png(folder.path / f"{name}.png", picture)


def matched_in(o: Variance) -> dict[str, Any]:
    """Return the options of a guidance that all methods are given."""
    times = Times(t_min=o.low, t_max=o.high)
    told = {"scale": o.scale, "view_weight": o.view_weight, "weight": o.weight, "times": times}
    return told if o.matched else {}
