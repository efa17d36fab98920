"""Make the runs of a bench, on this machine or on a Ray cluster."""

import math
import time
from pathlib import Path

from splatdistill.bench import calibrate, local, plan
from splatdistill.bench.job_runner import Flag
from splatdistill.bench.local import Show, Tell
from splatdistill.bench.options import Bench
from splatdistill.bench.plan import Job
from splatdistill.bench.settle import Planned


def make(options: Bench, planned: Planned, jobs: list[Job], root: Path, stop: Flag, tell: Tell, show: Show) -> None:
    """Run jobs with the engine that was asked for; start none after --hours."""
    until = time.monotonic() + 3600 * options.hours if options.hours is not None else math.inf
    if options.engine == "ray":
        from splatdistill.bench import cluster

        cluster.run(jobs, root, options.address, planned.threads, planned.gpus, stop, until, tell, show)
    else:
        local.run(jobs, root, planned.workers, planned.threads, stop, until, tell, show)


def short_runs(planned: Planned) -> list[Job]:
    """Return a short run of every method, by which its seconds per step are measured."""
    return calibrate.short_runs(planned.arms, planned.common, planned.prompts[0])


def steps_by_seconds(planned: Planned, root: Path) -> dict[str, int]:
    """Return the steps of every method that its seconds pay for, once its short run has been made."""
    per_step = {job.arm: calibrate.mean_seconds(root / job.folder, job) for job in short_runs(planned)}
    return calibrate.steps_for(planned.amount, planned.arms, per_step)


def jobs_of(planned: Planned, steps: dict[str, int]) -> list[Job]:
    """Return all jobs but the trainings of networks, which jobs name. steps: of every method, of its network where it has one."""
    calls = {a.name: planned.images[a.name] * steps[a.name] for a in planned.arms}
    return plan.jobs(planned.prompts, planned.arms, planned.seeds, planned.common, steps, calls, planned.points, planned.polish)
