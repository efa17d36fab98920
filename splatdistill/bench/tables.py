"""Tables in the shape of those in the papers, per prompt too, as text, CSV and JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from splatdistill.bench.measure_jobs import Results
from splatdistill.bench.statistics import FEW, Comparison, mean_and_spread
from splatdistill.evaluate.csv_lines import COLUMNS, as_lines, cells
from splatdistill.evaluate.metrics import METRICS
from splatdistill.io.text import markdown

ARROW = {"higher": " ↑", "lower": " ↓", "": ""}
SDI = ("clip_score", "iqa_quality", "iqa_sharpness", "iqa_real", "image_reward", "diverged", "seconds", "peak_memory")
STEIN = ("clip_distance", "fid")
SHAPE = ("r_precision_hard", "iou", "psnr", "depth_error", "sharpness", "janus_truth", "back_margin")
MORE = (
    "r_precision", "janus", "diversity", "diversity_particles", "saturation", "clipped", "edge_width", "calls", "steps",
)  # fmt: skip
POOLED = ("fid", "diversity")
PER_PROMPT = ("clip_score", "clip_distance", "r_precision_hard", "iou", "psnr")


@dataclass(frozen=True)
class Table:
    """Table of text cells, with notes below it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return it as Markdown."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(map(markdown, cells)) + " |"

        body = [line(self.head), "| " + " | ".join(["---"] * len(self.head)) + " |", *map(line, self.rows)]
        notes = [markdown(" ".join(note.split())) for note in self.notes]  # what to type to get a network has lines of its own
        return "\n".join([f"**{markdown(self.title)}**", "", *body, *([""] if notes else []), *notes])

    def text(self) -> str:
        """Return it for the screen."""
        rows = [self.head, *self.rows]
        wide = [max(len(row[i]) for row in rows) for i in range(len(self.head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


def heading(metric: str) -> str:
    """Return the head of a metric's column."""
    return METRICS[metric].title + ARROW[METRICS[metric].better]


def number(value: float, metric: str) -> str:
    """Return a value with its metric's digits."""
    return f"{value:.{METRICS[metric].digits}f}"


def cell(results: Results, arm: str, metric: str) -> str:
    """Return an arm's mean and its spread over prompts; n/a where nothing was measured."""
    if metric in POOLED:
        return next((str(f) for f in results.pooled.get(arm, []) if f.metric == metric), "n/a")
    values = results.values(metric, arm)
    if not values:
        return "n/a"
    mean, spread, _ = mean_and_spread(values)
    return number(mean, metric) + (
        f" ± {number(spread, metric)}" if math.isfinite(spread) and metric != "diverged" else ""
    )


def by_method(results: Results, title: str, metrics: Sequence[str], shown: bool = True) -> Table | None:
    """Return a row for each method; None where it would hold nothing. shown: columns without numbers too, as n/a."""
    metrics = [m for m in metrics if shown or any(cell(results, a, m) != "n/a" for a in results.arms)]
    if not metrics:
        return None
    counts = {a: f"{sum(j.measured is not None for j in results.of(a))} of {len(results.of(a))}" for a in results.arms}
    rows = [(a, counts[a], *(cell(results, a, m) for m in metrics)) for a in results.arms]
    return Table(title, ("method", "runs", *map(heading, metrics)), tuple(rows), notes(results, metrics))


def notes(results: Results, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return what measured each column."""
    found = [(m, results.example(m)) for m in metrics]
    lines = [f"{METRICS[m].title}: {METRICS[m].about}" + (f" ({f.provenance})" if f and f.provenance else "") for m, f in found]
    return tuple(lines)


def per_prompt(results: Results, metric: str) -> Table | None:
    """Return a row for each prompt, a column for each method, means over seeds."""
    values = {a: results.values(metric, a) for a in results.arms}
    if not any(values.values()):
        return None
    rows = []
    for prompt in results.prompts:
        own = [[v for (p, _), v in values[a].items() if p == prompt] for a in results.arms]
        rows.append((prompt, *(number(sum(v) / len(v), metric) if v else "-" for v in own)))
    mean = [mean_and_spread(values[a])[0] if values[a] else math.nan for a in results.arms]
    rows.append(("mean", *(number(m, metric) if math.isfinite(m) else "-" for m in mean)))
    return Table(f"{heading(metric)}, by prompt", ("prompt", *results.arms), tuple(rows), notes(results, [metric]))


def differences(found: Sequence[Comparison], metrics: Sequence[str]) -> Table | None:
    """Compare each method with one, with intervals."""
    rows = []
    for c in (c for m in metrics for c in found if c.metric == m):
        interval = (
            f"[{number(c.low, c.metric)}, {number(c.high, c.metric)}]"
            if c.low is not None and c.high is not None
            else "-"
        )
        p, corrected = (("-" if v is None else f"{v:.4f}") for v in (c.p, c.holm))
        sign = "+" if c.difference >= 0 else ""
        rows.append(
            (
                heading(c.metric),
                c.arm,
                f"{sign}{number(c.difference, c.metric)}",
                interval,
                p,
                corrected,
                f"{c.prompts}",
                c.verdict,
            )
        )
    if not rows:
        return None
    against = found[0].against
    few = min(c.prompts for c in found)
    told = [
        "Paired by prompt and seed; 95 % percentile intervals and two-sided p of a bootstrap over prompts and, within them, "
        "seeds; Holm's correction over the methods of each metric; better and worse are at 5 % after it."
    ]
    if few == 1:
        told.append("One prompt gives no interval and no p: these are differences of single objects.")
    elif few < FEW:
        told.append(f"From {few} prompts intervals are too narrow and p too small: take them as hints.")
    head = ("metric", "method", f"difference to {against}", "95 % interval", "p", "p, Holm", "prompts", "")
    return Table(f"Against {against}", head, tuple(rows), tuple(told))


def tables(results: Results) -> list[Table]:
    """Return all of them."""
    found = results.comparisons()
    made = [
        by_method(results, "In the shape of SDI's Table 1 (arXiv:2405.15891)", SDI),
        by_method(results, "In the shape of SteinDreamer's Table 1 (arXiv:2401.00604)", STEIN),
        by_method(results, "Against the toybox's truth", SHAPE, shown=False),
        by_method(results, "More", MORE, shown=False),
        differences(found, [*SDI, "clip_distance", *SHAPE, "r_precision", "janus", "clipped", "edge_width", "diversity"]),
        *(per_prompt(results, m) for m in PER_PROMPT),
    ]
    return [t for t in made if t is not None]


def as_csv(results: Results) -> str:
    """Return a line for each number; n/a is an empty value with a note."""
    rows = [
        (j.job.arm, j.job.prompt, j.job.seed, j.ended, *cells(m)) for j in results.judged for m in (j.measured.measurements if j.measured else ())
    ]
    rows += [(arm, "", "", "", *cells(m)) for arm, measurements in results.pooled.items() for m in measurements]
    return as_lines(COLUMNS, rows)


def as_json(results: Results) -> dict[str, Any]:
    """Return everything, for programs."""
    return {
        "arms": results.arms,
        "prompts": results.prompts,
        "seeds": results.seeds,
        "against": results.against,
        "runs": [
            {
                "arm": j.job.arm,
                "prompt": j.job.prompt,
                "seed": j.job.seed,
                "folder": f"jobs/{j.job.folder}",
                "ended": j.ended,
                "error": j.error or (j.record.error if j.record else ""),
                "measurements": [asdict(f) for f in j.measured.measurements] if j.measured else [],
            }
            for j in results.judged
        ],
        "pooled": {a: [asdict(f) for f in measurements] for a, measurements in results.pooled.items()},
        "comparisons": [asdict(c) | {"verdict": c.verdict} for c in results.comparisons()],
    }
