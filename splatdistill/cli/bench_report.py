"""What a bench ends with: numbers, tables, pictures, and the report."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from splatdistill import __version__
from splatdistill.bench.curves import Curve, Reached, all_curves, charts, reached
from splatdistill.bench.judge import Judged, Results, judge, pool
from splatdistill.bench.plan import Job
from splatdistill.bench.record import write_json
from splatdistill.bench.report import Section, html
from splatdistill.bench.sheet import sheet
from splatdistill.bench.tables import Table, as_csv, as_json, tables
from splatdistill.cli.bench_plan import Planned
from splatdistill.cli.laboratory import laboratory
from splatdistill.cli.progress import Work
from splatdistill.evaluate.measure import Laboratory
from splatdistill.evaluate.pooled import samples_of
from splatdistill.evaluate.protocol import Protocol
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.priors import weights

LONGEST = 400  # characters of a failure on the screen and in the report; all of it is in its record


@dataclass(frozen=True)
class Measuring:
    """How results are measured, beside the CLIP."""

    image_reward: Path | None
    samples: int
    threshold: float | None


def conclude(planned: Planned, jobs: Sequence[Job], root: Path, how: Measuring, console: Console) -> int:
    """Measure what is done and write all of it; the exit status, 1 where a run has failed."""
    lab = laboratory(planned.clip, Protocol(), planned.device, planned.tiny, how.image_reward, planned.prompts)
    results = Results(tuple(a.name for a in planned.arms), planned.prompts, planned.seeds, planned.against, [])
    with Work(console, "measuring", len(jobs)) as work:
        judge(jobs, root / "jobs", lab, results, work.done)
    measured = [j for j in results.judged if j.measured is not None]
    if not measured:
        console.print("no run is done yet, so there is nothing to measure", style="yellow")
        return complain(results, console)
    pool(results, lab, drawn(planned, measured, root, how.samples, lab, console))
    with Work(console, "measuring curves", len(jobs)) as work:
        curves = all_curves(results, root / "jobs", planned.costs, lab, work.done)
    write(planned, results, curves, root, how, lab)
    for table in tables(results)[:3]:
        console.print("\n" + table.text())
    console.print(
        f"\n  {'report':10}{root / 'report.html'}\n  {'tables':10}{root / 'tables.md'}, results.csv, results.json\n  {'sheet':10}{root / 'sheet.png'}"
    )
    return complain(results, console)


def drawn(
    planned: Planned, measured: Sequence[Judged], root: Path, count: int, lab: Laboratory, console: Console
) -> dict:
    """Features of the prior's own pictures for the prompts that have runs."""
    if not count or lab.ruler is None:
        return {}
    prior = weights.load(planned.prior, planned.device)
    prompts = list(dict.fromkeys(j.job.prompt for j in measured))
    with Work(console, "sampling the prior", len(prompts)) as work:
        return samples_of(prior, lab.ruler, prompts, count, root / "samples", work.done)


def complain(results: Results, console: Console) -> int:
    """Name what failed; the exit status."""
    for j in failed(results):
        console.print(failure(j), style="red")
    return 1 if failed(results) else 0


def failed(results: Results) -> list[Judged]:
    """Jobs that ended without a result, or whose result could not be measured."""
    return [j for j in results.judged if j.error or (j.record and not j.record.final and j.record.how != "stopped")]


def failure(j: Judged) -> str:
    """One of them in words."""
    said = (j.error or (j.record.error if j.record else ""))[:LONGEST]
    return f"{j.ended}: {j.job.arm}, {j.job.prompt!r}, seed {j.job.seed}: {said}"


def write(
    planned: Planned, results: Results, curves: Sequence[Curve], root: Path, how: Measuring, lab: Laboratory
) -> None:
    """Everything into the bench's folder."""
    shown = tables(results)
    times = reached(curves, results.arms, results.against, how.threshold)
    timed = [reached_table(times, results.against, how.threshold, lab)] if curves else []
    pictures = charts(curves, results.arms, lab.ruler.scorer.name if lab.ruler else "")
    for name, picture in pictures.items():
        write_png(root / f"{name}.png", picture)
    sheets = {f"results of seed {seed}": sheet(results, lab, seed) for seed in results.seeds}
    write_png(root / "sheet.png", torch.cat(list(sheets.values()), 1))
    write_text(root / "tables.md", "\n\n".join(t.markdown() for t in [*shown, *timed]) + "\n")
    write_text(root / "results.csv", as_csv(results))
    write_json(
        root / "results.json", as_json(results) | {"curves": curves_told(curves), "reached": [vars(t) for t in times]}
    )
    write_text(
        root / "report.html",
        html(f"splatdistill bench: {planned.name}", sections(planned, results, shown, timed, pictures, sheets)),
    )


def sections(
    planned: Planned, results: Results, shown: Sequence[Table], timed: Sequence[Table], pictures: dict, sheets: dict
) -> list[Section]:
    """The report's parts."""
    done = sum(j.measured is not None for j in results.judged)
    what = (
        f"Prompts: {len(results.prompts)}. Methods: {len(results.arms)}. Seeds: {len(results.seeds)}. Runs that are done: {done} "
        f"of {len(results.judged)}. Prior: {planned.prior}. Budget: {planned.budget_told}. Device: {planned.device}. Runs at a "
        f"time: {planned.workers}, threads of each: {planned.threads}. splatdistill {__version__}."
    )
    methods = tuple(
        (a.name, a.text, f"{planned.images[a.name]:.4g}", steps_of(results, a.name), a.about) for a in planned.arms
    )
    told = Table("Methods", ("method", "asked for as", "network images a step", "steps", "what it is"), methods)
    wrong = [failure(j) for j in failed(results)]
    main = [t for t in shown if not t.title.endswith("by prompt")]
    return [
        Section("What was done", "\n\n".join(filter(None, [planned.about, what])), [told]),
        Section("Tables", "Means over prompts of means over seeds, ± the standard deviation over prompts.", main),
        Section("Results", pictures=sheets),
        *([Section("Convergence", tables=timed, pictures=pictures)] if timed else []),
        Section("By prompt", tables=[t for t in shown if t.title.endswith("by prompt")]),
        *([Section("What went wrong", code="\n".join(wrong))] if wrong else []),
    ]


def steps_of(results: Results, arm: str) -> str:
    """How many steps an arm's runs have."""
    return str(round(statistics.median(j.job.steps for j in results.of(arm))))


def reached_table(times: Sequence[Reached], against: str, score: float | None, lab: Laboratory) -> Table:
    """Images to a score, for each method."""
    rows = tuple((t.arm, f"{t.reached} of {t.jobs}", "-" if t.median is None else f"{t.median:,.0f}") for t in times)
    goal = (
        f"CLIP score {score:g}"
        if score is not None
        else f"where {against} ends on the same prompt (mean over its seeds)"
    )
    note = (
        f"Median over runs of the network images until the CLIP score of 8 views first reaches {goal}; between checkpoints in a "
        f"line; - where less than half get there. By {lab.ruler.name if lab.ruler else ''}. After SteinDreamer's figure 8."
    )
    return Table("Network images to a score", ("method", "runs that reach it", "network images"), rows, (note,))


def curves_told(curves: Sequence[Curve]) -> list[dict]:
    """The curves for JSON."""
    return [{"arm": c.arm, "prompt": c.prompt, "seed": c.seed, "points": [vars(p) for p in c.points]} for c in curves]
