"""Measure every job of a bench: what tables, curves and the report are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from splatdistill.bench.plan import Job
from splatdistill.bench.record import VERDICTS, JobRecord
from splatdistill.bench.statistics import Comparison, Values, comparisons
from splatdistill.errors import UserError
from splatdistill.evaluate.across_runs import across_seeds, by_prompt, from_the_prior, placed
from splatdistill.evaluate.measure import Evaluator, Measured, measure
from splatdistill.evaluate.metrics import METRICS, Measurement
from splatdistill.evaluate.run_summary import summarise

LOST = ("oom", "killed")  # ended without results by memory, or by what looks like it: counted as diverged


@dataclass(frozen=True)
class MeasuredJob:
    """Job with its ending and its measurements."""

    job: Job
    record: JobRecord | None  # None: not begun
    measured: Measured | None = None
    error: str = ""  # of the measuring

    @property
    def diverged(self) -> bool | None:
        """Return True if it came to nothing; None where that is not known (yet)."""
        if self.measured is not None:
            return bool(self.measured.of("diverged").value)
        return None if self.record is None or self.record.how not in (*VERDICTS, *LOST) else True

    @property
    def ended(self) -> str:
        """Return how it ended, in a word."""
        return self.record.how if self.record else "not begun"


@dataclass
class Results:
    """All measurements of a bench."""

    arms: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    against: str
    judged: list[MeasuredJob]
    pooled: dict[str, list[Measurement]] = field(default_factory=dict)  # by arm: what takes several runs
    diverse: dict[str, Values] = field(default_factory=dict)  # by arm: diversity over the seeds of each prompt

    def of(self, arm: str) -> list[MeasuredJob]:
        """Return the jobs of one arm."""
        return [j for j in self.judged if j.job.arm == arm]

    def values(self, metric: str, arm: str) -> Values:
        """Return one metric of one arm by prompt and seed, where it is known; diversity, of all seeds, under the first."""
        if metric == "diversity":
            return self.diverse.get(arm, {})
        found = {}
        for j in self.of(arm):
            value = (None if j.diverged is None else 100.0 * j.diverged) if metric == "diverged" else None
            if metric != "diverged" and j.measured is not None:
                value = j.measured.of(metric).value
            if value is not None:
                found[j.job.prompt, j.job.seed] = value
        return found

    def all_values(self) -> dict[str, dict[str, Values]]:
        """Return every metric that some run has, by arm."""
        found = {m: {a: self.values(m, a) for a in self.arms} for m in METRICS}
        return {m: {a: v for a, v in by.items() if v} for m, by in found.items() if any(by.values())}

    def comparisons(self) -> list[Comparison]:
        """Compare every arm with one, in every metric."""
        return comparisons(self.all_values(), self.against)

    def example(self, metric: str) -> Measurement | None:
        """Return a measurement of this metric that has a value, or else one that says why there is none."""
        own = [f for measurements in self.pooled.values() for f in measurements if f.metric == metric]  # these say why not
        own += [j.measured.of(metric) for j in self.judged if j.measured is not None]
        return next((f for f in own if f.value is not None), own[0] if own else None)


def measure_jobs(jobs: Sequence[Job], root: Path, judges: Evaluator, results: Results, tell: Callable[[int], None]) -> Results:
    """Measure all jobs that left splats, or ended in a way that says something. tell: how many are done."""
    for k, job in enumerate(jobs):
        folder = root / job.folder
        record = JobRecord.read(folder)
        one = MeasuredJob(job, record)
        if record is not None and record.final and (folder / "run" / "config.yaml").is_file():
            try:
                one = replace(one, measured=measure(summarise(folder / "run"), judges))
            except UserError as e:
                one = replace(one, error=str(e))
        results.judged.append(one)
        tell(k + 1)
    return results


def pool(results: Results, judges: Evaluator, samples: dict) -> None:
    """Measure what takes several runs: diversity over seeds, and the distance to the prior's own pictures."""
    by = judges.clip.name if judges.clip else ""
    for arm in results.arms:
        runs = [j.measured for j in results.of(arm) if j.measured is not None]
        diverse = by_prompt(runs)
        results.diverse[arm] = {(p, results.seeds[0]): f.value for p, f in diverse.items() if f.value is not None}
        spread = replace(across_seeds(list(diverse.values())), by=by)
        results.pooled[arm] = [placed(f, judges.protocol) for f in (from_the_prior(runs, samples, by), spread)]
