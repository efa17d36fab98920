"""Measure many finished runs: one by one, and together by method."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from splatdistill.errors import UserError, WeightsError
from splatdistill.evaluate.across_runs import across_seeds, by_prompt, from_the_prior, identity, placed, samples_of
from splatdistill.evaluate.csv_lines import COLUMNS, as_lines, cells
from splatdistill.evaluate.measure import Evaluator, Measured, measure, named
from splatdistill.evaluate.metrics import Measurement
from splatdistill.evaluate.options import Evaluate
from splatdistill.evaluate.prompt_file import prompts_of
from splatdistill.evaluate.run_summary import RunSummary, holding, summarise
from splatdistill.evaluate.setup import evaluator
from splatdistill.io.atomic import write_text
from splatdistill.priors import weights
from splatdistill.settings.resolve import device_of
from splatdistill.toybox import Caption
from splatdistill.toybox.real import RealCaption

Tell = Callable[[int], None]
"""Called with how much is done."""
Progress = Callable[[str, int], AbstractContextManager[Tell]]
"""Begin to tell of work by its name and its amount."""


@dataclass
class Evaluation:
    """All measurements of some runs."""

    measured: list[Measured]
    groups: dict[str, list[Measured]]  # by method
    together: dict[str, list[Measurement]]  # by method: what takes several runs
    notes: list[str] = field(default_factory=list)  # what a person must be told


def evaluate(options: Evaluate, progress: Progress) -> Evaluation:
    """Measure runs; UserError where there are none."""
    runs = [summarise(path) for path in runs_in(options.runs)]
    prompts = tuple(dict.fromkeys(r.prompt for r in runs))
    candidates = prompts_of(options.candidates) if options.candidates else prompts
    judges = evaluator(
        options.clip, options.protocol, device_of(options.device), [named(p) for p in prompts], options.image_reward, candidates, options.truth, options.judge
    )
    measured = []
    with progress("measuring", len(runs)) as tell:
        for run in runs:
            measured.append(measure(run, judges))
            tell(len(measured))
    groups = grouped(measured)
    found = Evaluation(measured, groups, {})
    found.together = {name: together(own, options.samples, judges, progress, found.notes) for name, own in groups.items()}
    if kept := sum(m.kept for m in measured):
        found.notes.append(
            "every number was kept from an earlier evaluation of the same splats; nothing was measured anew"
            if kept == len(measured)
            else f"{kept} of {len(measured)} runs were measured before in the same way; their numbers were kept"
        )
    return found


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Return the runs among folders and at any depth inside them; UserError where there are none."""
    if not paths:
        raise UserError("evaluate needs runs: directories that `splatdistill train` has made, or folders of them")
    found: list[Path] = []
    for path in (p.expanduser() for p in paths):
        own = holding(path, "config.yaml", "log.jsonl")  # with or without splats: a run that left none is a number too
        if not own:
            raise UserError(f"{path} holds no run; expected a directory that `splatdistill train` has made, or a folder of such")
        found += own
    return list(dict.fromkeys(found))


def grouped(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Return runs of the same options but prompt and seed together, under the name of their guidance; where several such groups
    have one, a part of their options' digest is added.
    """
    keys = dict.fromkeys((m.run.guidance, m.run.recipe) for m in found)
    names = [guidance for guidance, _ in keys]
    titles = {k: k[0] if names.count(k[0]) == 1 else f"{k[0]} {k[1][:6]}" for k in keys}
    return {titles[k]: [m for m in found if (m.run.guidance, m.run.recipe) == k] for k in keys}


def together(runs: Sequence[Measured], count: int, judges: Evaluator, progress: Progress, notes: list[str]) -> list[Measurement]:
    """Measure what takes several runs of one method. count: samples of the prior for each prompt."""
    samples = {}
    if count and judges.clip is not None:
        samples = sampled(runs[0].run, list(dict.fromkeys(m.run.prompt for m in runs)), count, judges, progress, notes)
    by = judges.clip.name if judges.clip else ""
    return [placed(m, judges.protocol) for m in (from_the_prior(runs, samples, by), across_seeds(list(by_prompt(runs).values())))]


def sampled(
    run: RunSummary, prompts: list[str], count: int, judges: Evaluator, progress: Progress, notes: list[str]
) -> dict:
    """Return features of samples of the prior that a run had; nothing, and a note, where its weights are not here."""
    assert judges.clip is not None
    try:
        found = weights.find(run.prior)
    except WeightsError as e:
        notes.append(f"no samples of the prior {run.prior}: {str(e).splitlines()[0]}")
        return {}
    if found.embedded:
        known = Caption if found.embedded == "tiny" else (Caption, RealCaption)
        prompts = [p for p in prompts if isinstance(named(p), known)]
    folder = run.path / "evaluation" / "samples"
    with progress("sampling the prior", len(prompts)) as tell:
        return samples_of(identity(found), lambda: weights.load(found, judges.device), judges.clip, prompts, count, folder, tell)


def write_json(path: Path, options: Evaluate, found: Evaluation) -> None:
    """Write all numbers, with all that stands beside them."""
    runs = [
        {**{k: v for k, v in vars(m.run).items() if k != "splats"}, "measurements": [asdict(f) for f in m.measurements]}
        for m in found.measured
    ]
    methods = {name: [asdict(m) for m in own] for name, own in found.together.items()}
    told = {"protocol": asdict(options.protocol), "runs": runs, "methods": methods}
    write_text(path, json.dumps(told, indent=1, default=str, allow_nan=False) + "\n")


def write_csv(path: Path, found: Evaluation) -> None:
    """Write all numbers of single runs, a line each."""
    rows = [
        (str(m.run.path), m.run.guidance, m.run.prompt, m.run.seed, m.run.how, *cells(f)) for m in found.measured for f in m.measurements
    ]
    write_text(path, as_lines(("run", *COLUMNS), rows))
