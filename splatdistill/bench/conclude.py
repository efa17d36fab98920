"""Conclude a bench: numbers, tables, pictures, and the report."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from splatdistill import __version__
from splatdistill.bench import lines
from splatdistill.bench.curves import Curve, Reached, all_curves, charts, reached
from splatdistill.bench.groups import by_group
from splatdistill.bench.measure_jobs import MeasuredJob, Results, measure_jobs, pool
from splatdistill.bench.plan import Job
from splatdistill.bench.record import write_json
from splatdistill.bench.report import Section, html
from splatdistill.bench.settle import Planned
from splatdistill.bench.sheet import sheet
from splatdistill.bench.tables import Table, as_csv, as_json, tables
from splatdistill.evaluate.across_runs import identity, samples_of
from splatdistill.evaluate.evaluation import Progress
from splatdistill.evaluate.measure import Evaluator, named
from splatdistill.evaluate.options import Judge
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.setup import evaluator
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.priors import weights

LONGEST = 400  # characters of a failure on the screen and in the report; all of it is in its record


@dataclass(frozen=True)
class Measuring:
    """Choices of how results are measured, beside the CLIP."""

    image_reward: Path | None
    judge: Judge
    samples: int
    threshold: float | None


@dataclass(frozen=True)
class Conclusion:
    """Lines that are printed at the end."""

    lines: tuple[str, ...]  # tables, and where the files are
    failures: tuple[str, ...]  # runs that ended without a result, or could not be measured


def conclude(planned: Planned, jobs: Sequence[Job], root: Path, how: Measuring, progress: Progress) -> Conclusion:
    """Measure what is done and write all of it."""
    judges = evaluator(planned.clip, Protocol(), planned.device, [named(p) for p in planned.candidates], how.image_reward, planned.candidates, judge=how.judge)
    results = Results(tuple(a.name for a in planned.arms), planned.prompts, planned.seeds, planned.against, [])
    with progress("measuring", len(jobs)) as tell:
        measure_jobs(jobs, root / "jobs", judges, results, tell)
    failures = tuple(failure(j) for j in failed(results))
    measured = [j for j in results.judged if j.measured is not None]
    if not measured:
        return Conclusion(("no run is done yet, so there is nothing to measure",), failures)
    pool(results, judges, drawn(planned, measured, root, how.samples, judges, progress))
    with progress("measuring curves", len(jobs)) as tell:
        curves = all_curves(results, root / "jobs", planned.costs, judges, tell)
    images = images_by_arm(planned, jobs)
    write(planned, results, images, curves, root, how, judges)
    files = {"report": "report.html", "tables": "tables.md, results.csv, results.json", "sheet": "sheet.png"}
    shown = ["\n" + table.text() for table in [*tables(results)[:3], *of_networks(planned, results, images)]]
    return Conclusion((*shown, "", *(f"  {name:10}{root}/{file}" for name, file in files.items())), failures)


def images_by_arm(planned: Planned, jobs: Sequence[Job]) -> dict[str, float]:
    """Return the network images that a prompt costs, by arm; a network's training is shared by its corpus."""
    steps = {j.arm: (j.before or j).steps for j in jobs}
    return {a.name: lines.images_each(a, planned.images[a.name], steps[a.name], planned.polish.get(a.name, 0.0)) for a in planned.arms}


def of_networks(planned: Planned, results: Results, images: Mapping[str, float]) -> list[Table]:
    """Return the tables that only benches with networks, or lines, have."""
    return [*by_group(results, planned.arms), *lines.tables(results, planned.arms, images)]


def drawn(planned: Planned, measured: Sequence[MeasuredJob], root: Path, count: int, judges: Evaluator, progress: Progress) -> dict:
    """Return features of the prior's own pictures for the prompts that have runs."""
    if not count or judges.clip is None:
        return {}
    found = weights.find(planned.prior)
    prompts = list(dict.fromkeys(j.job.prompt for j in measured))
    with progress("sampling the prior", len(prompts)) as tell:
        load = lambda: weights.load(found, planned.device)  # noqa: E731
        return samples_of(identity(found), load, judges.clip, prompts, count, root / "samples", tell)


def failed(results: Results) -> list[MeasuredJob]:
    """Return the jobs that ended without a result, or whose result could not be measured."""
    return [j for j in results.judged if j.error or (j.record and not j.record.final and j.record.how != "stopped")]


def failure(j: MeasuredJob) -> str:
    """Return one of them in words."""
    said = (j.error or (j.record.error if j.record else ""))[:LONGEST]
    return f"{j.ended}: {j.job.arm}, {j.job.prompt!r}, seed {j.job.seed}: {said}"


def write(
    planned: Planned, results: Results, images: Mapping[str, float], curves: Sequence[Curve], root: Path, how: Measuring, judges: Evaluator
) -> None:
    """Write everything into the bench's folder."""
    shown = [*tables(results), *of_networks(planned, results, images)]
    times = reached(curves, results.arms, results.against, how.threshold)
    timed = [reached_table(times, results.against, how.threshold, judges)] if curves else []
    pictures = charts(curves, results.arms, judges.clip.scorer.name if judges.clip else "")
    for name, picture in pictures.items():
        write_png(root / f"{name}.png", picture)
    sheets = {f"results of seed {seed}": sheet(results, judges, seed) for seed in results.seeds}
    write_png(root / "sheet.png", torch.cat(list(sheets.values()), 1))
    write_text(root / "tables.md", "\n\n".join(t.markdown() for t in [*shown, *timed]) + "\n")
    write_text(root / "results.csv", as_csv(results))
    write_json(
        root / "results.json", as_json(results) | {"curves": curves_told(curves), "reached": [vars(t) for t in times]}
    )
    write_text(
        root / "report.html",
        html(f"splatdistill bench: {planned.name}", sections(planned, results, images, shown, timed, pictures, sheets)),
    )


def sections(
    planned: Planned, results: Results, images: Mapping[str, float], shown: Sequence[Table], timed: Sequence[Table], pictures: dict, sheets: dict
) -> list[Section]:
    """Return the report's parts."""
    done = sum(j.measured is not None for j in results.judged)
    what = (
        f"Prompts: {len(results.prompts)}. Methods: {len(results.arms)}. Seeds: {len(results.seeds)}. Runs that are done: {done} "
        f"of {len(results.judged)}. Prior: {planned.prior}. Budget: {planned.budget_told}. Device: {planned.device}. Runs at a "
        f"time: {planned.workers}, threads of each: {planned.threads}. splatdistill {__version__}."
    )
    methods = tuple(
        (a.name, a.text, f"{planned.images[a.name]:.4g}", steps_of(results, a.name), f"{images[a.name]:,.0f}", a.about) for a in planned.arms
    )
    told = Table("Methods", ("method", "asked for as", "network images a step", "steps", "network images a prompt", "what it is"), methods)
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
    """Return how many steps an arm's runs have; of a network, those of its training, and those after it."""
    jobs = [j.job for j in results.of(arm)]
    own = str(round(statistics.median(job.steps for job in jobs)))
    return f"{jobs[0].before.steps} for {jobs[0].before.prompt}, {own} after" if jobs[0].before else own


def reached_table(times: Sequence[Reached], against: str, score: float | None, judges: Evaluator) -> Table:
    """Return the images to a score, for each method."""
    rows = tuple((t.arm, f"{t.reached} of {t.jobs}", "-" if t.median is None else f"{t.median:,.0f}") for t in times)
    goal = (
        f"CLIP score {score:g}"
        if score is not None
        else f"where {against} ends on the same prompt (mean over its seeds)"
    )
    note = (
        f"Median over runs of the network images until the CLIP score of 8 views first reaches {goal}; between checkpoints in a "
        f"line; - where less than half get there. By {judges.clip.name if judges.clip else ''}. After SteinDreamer's measurement 8."
    )
    return Table("Network images to a score", ("method", "runs that reach it", "network images"), rows, (note,))


def curves_told(curves: Sequence[Curve]) -> list[dict]:
    """Return the curves for JSON."""
    return [{"arm": c.arm, "prompt": c.prompt, "seed": c.seed, "points": [vars(p) for p in c.points]} for c in curves]
