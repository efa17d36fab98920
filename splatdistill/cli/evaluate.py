"""splatdistill evaluate: finished runs measured as the papers measure theirs, and on the toybox against the truth."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from splatdistill.bench.preset import prompts_of
from splatdistill.bench.tables import COLUMNS, safe
from splatdistill.cli.console import speaker
from splatdistill.cli.laboratory import laboratory
from splatdistill.cli.progress import Work
from splatdistill.errors import UserError, WeightsError
from splatdistill.evaluate.finished import Finished, finished, holding
from splatdistill.evaluate.measure import Laboratory, Measured, measure, named
from splatdistill.evaluate.metrics import METRICS, Figure
from splatdistill.evaluate.pooled import across_seeds, by_prompt, from_the_prior, placed, samples_of
from splatdistill.evaluate.protocol import Protocol
from splatdistill.io.atomic import write_text
from splatdistill.priors import weights
from splatdistill.settings.resolve import TINY, device_of

FEW = 2  # runs whose numbers are shown one by one


@dataclass(frozen=True)
class Evaluate:
    """Measure finished runs: what the papers' tables hold, and on the toybox the distance to the truth.

    What cannot be measured here is n/a, with what to do about it. Numbers are kept in RUN/evaluation/ beside what
    measured them.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run directories, or folders of them."""
    protocol: Annotated[Protocol, tyro.conf.arg(name="")] = field(default_factory=Protocol)
    clip: str = "auto"
    """The CLIP that measures: auto is openai/clip-vit-base-patch32 where its weights are, else for prompts of the toybox the
    embedded tiny-clip, under its own name; or a folder, or a hub id."""
    image_reward: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """A Python interpreter in whose environment the package image-reward is installed."""
    candidates: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts that R-precision retrieves among; by default those of the runs."""
    samples: int = 0
    """Pictures of the prior per prompt that renders are compared with (FID); 0: none."""
    truth: bool = True
    """Compare with the toybox's objects where prompts name them."""
    device: str = "auto"
    """Where to run: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all numbers here."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all numbers here, a line each."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = tyro.cli(Evaluate, args=argv, prog="splatdistill evaluate")
    runs, console = [finished(path) for path in runs_in(options.runs)], speaker()
    prompts = tuple(dict.fromkeys(r.prompt for r in runs))
    candidates = prompts_of(options.candidates) if options.candidates else prompts
    toybox = any(named(p) is not None for p in prompts)
    device = device_of(options.device)
    lab = laboratory(options.clip, options.protocol, device, toybox, options.image_reward, candidates, options.truth)
    with Work(console, "measuring", len(runs)) as work:
        found = []
        for k, run in enumerate(runs):
            found.append(measure(run, lab))
            work.done(k + 1)
    groups = grouped(found)
    pooled = {name: pool(own, options, lab, console) for name, own in groups.items()}
    if len(found) <= FEW:
        for each in found:
            console.print(
                f"\n{each.run.path}: {each.run.prompt!r} by {each.run.guidance}, seed {each.run.seed}", style="bold"
            )
            show(each.figures, console)
    else:
        summary(groups, console)
    for name, figures in pooled.items():
        if any(f.value is not None for f in figures) or options.samples:
            console.print(f"\n{name}: {len(groups[name])} runs together", style="bold")
            show(figures, console)
    write(options, found, pooled)
    return 0


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """The runs among folders and at any depth inside them; UserError where there are none."""
    if not paths:
        raise UserError("evaluate needs runs: directories that `splatdistill train` has made, or folders of them")
    found: list[Path] = []
    for path in (p.expanduser() for p in paths):
        own = holding(path, "config.yaml", "log.jsonl")  # with or without splats: a run that left none is a number too
        if not own:
            raise UserError(
                f"{path} holds no run; expected a directory that `splatdistill train` has made, or a folder of such"
            )
        found += own
    return list(dict.fromkeys(found))


def grouped(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Runs of the same options but prompt and seed together, under the name of their guidance; where several such groups
    have one, a part of their options' digest is added.
    """
    keys = dict.fromkeys((m.run.guidance, m.run.recipe) for m in found)
    names = [guidance for guidance, _ in keys]
    named_ = {k: k[0] if names.count(k[0]) == 1 else f"{k[0]} {k[1][:6]}" for k in keys}
    return {named_[k]: [m for m in found if (m.run.guidance, m.run.recipe) == k] for k in keys}


def pool(runs: Sequence[Measured], o: Evaluate, lab: Laboratory, console: Console) -> list[Figure]:
    """What takes several runs of one method."""
    by = lab.ruler.name if lab.ruler else ""
    samples = {}
    if o.samples and lab.ruler is not None:
        samples = sampled(runs[0].run, list(dict.fromkeys(m.run.prompt for m in runs)), o.samples, lab, console)
    spread = across_seeds(list(by_prompt(runs).values()))
    return [placed(f, lab.protocol) for f in (from_the_prior(runs, samples, by), spread)]


def sampled(run: Finished, prompts: list[str], count: int, lab: Laboratory, console: Console) -> dict:
    """Features of samples of the prior that a run had; nothing where its weights are not here."""
    assert lab.ruler is not None
    try:
        found = weights.find(run.prior)
    except WeightsError as e:
        console.print(f"no samples of the prior {run.prior}: {str(e).splitlines()[0]}", style="yellow")
        return {}
    if found.tiny:
        prompts = [p for p in prompts if named(p) is not None]
    prior = weights.load(TINY if found.tiny else found, lab.device)
    with Work(console, "sampling the prior", len(prompts)) as work:
        return samples_of(prior, lab.ruler, prompts, count, run.path / "evaluation" / "samples", work.done)


def show(figures: Sequence[Figure], console: Console) -> None:
    """Numbers, one a line, with what stands beside them; those that are n/a last."""
    for f in sorted(figures, key=lambda f: f.value is None):
        beside = "; ".join(filter(None, [f.beside, f.detail]))
        console.print(f"  {METRICS[f.metric].title:22}{f!s:>8}  {beside}", style="dim" if f.value is None else "")


def summary(groups: dict[str, list[Measured]], console: Console) -> None:
    """Means of every number by method."""
    wide = max(8, *map(len, groups)) + 2
    console.print(f"\n{'means over runs':24}" + "".join(f"{n:>{wide}}" for n in groups), style="bold")
    console.print(f"{'runs':24}" + "".join(f"{len(own):>{wide}}" for own in groups.values()))
    for metric in METRICS:
        figures = {n: [f for m in own if (f := m.of(metric)).value is not None] for n, own in groups.items()}
        every = [f for own in figures.values() for f in own]
        if not every:
            why = next(
                (m.of(metric).note for own in groups.values() for m in own if m.of(metric).note != "not measured"), ""
            )
            if why:
                console.print(f"{METRICS[metric].title:24}n/a: {why}", style="dim")
            continue
        means = {
            n: Figure(metric, sum(f.value or 0.0 for f in own) / len(own)) if own else Figure(metric, None)
            for n, own in figures.items()
        }
        console.print(
            f"{METRICS[metric].title:24}" + "".join(f"{means[n]!s:>{wide}}" for n in groups) + f"  {every[0].beside}"
        )


def write(o: Evaluate, found: Sequence[Measured], pooled: dict[str, list[Figure]]) -> None:
    """The files that were asked for."""
    if o.json:
        runs = [
            {**{k: v for k, v in vars(m.run).items() if k != "splats"}, "figures": [asdict(f) for f in m.figures]}
            for m in found
        ]
        told = {
            "protocol": asdict(o.protocol),
            "runs": runs,
            "methods": {n: [asdict(f) for f in fs] for n, fs in pooled.items()},
        }
        write_text(o.json, json.dumps(told, indent=1, default=str, allow_nan=False) + "\n")
    if o.csv:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(("run", *COLUMNS))
        for m in found:
            for f in m.figures:
                value = "" if f.value is None else repr(f.value)
                of = (m.run.path, m.run.guidance, safe(m.run.prompt), m.run.seed, m.run.how)
                writer.writerow((*of, f.metric, value, f.by, f.views, f.resolution, f.background, f.note))
        write_text(o.csv, out.getvalue())
