"""A pool of processes on this machine."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from splatdistill.bench.job_runner import Flag, run_job, share_done
from splatdistill.bench.plan import Job
from splatdistill.bench.record import JobRecord

Tell = Callable[[Job, JobRecord], None]
"""Called when a job has ended."""
Show = Callable[[float], None]
"""Called now and then with the part of all planned work that is done."""
LOOK = 1.0  # seconds between looks at how far runs are


def run(
    jobs: Sequence[Job], root: Path, workers: int, threads: int, stop: Flag, until: float, tell: Tell, show: Show
) -> None:
    """Run all jobs, `workers` at a time, each with `threads`; start none after `until` (of the monotonic clock). One that
    fails stops no other.
    """
    meter = Meter(jobs, root, show)

    def one(job: Job) -> JobRecord | None:
        return None if stop.is_set() or time.monotonic() > until else run_job(job, root, threads, stop)

    with ThreadPoolExecutor(workers) as pool:
        going: dict[Future, Job] = {pool.submit(one, job): job for job in jobs}
        while going:
            done, _ = wait(going, timeout=LOOK, return_when=FIRST_COMPLETED)
            for future in done:
                job, record = going.pop(future), future.result()
                meter.ended(job, record)
                if record is not None:
                    tell(job, record)
            meter.look()


class Meter:
    """Meter of the planned work that is done, weighed by the images that networks are asked about."""

    def __init__(self, jobs: Sequence[Job], root: Path, show: Show) -> None:
        self.root, self.show = root, show
        self.left = {job.folder: job for job in jobs}
        self.total = sum(max(job.calls, 1.0) for job in jobs)
        self.complete = 0.0
        self.looked = 0.0

    def ended(self, job: Job, record: JobRecord | None) -> None:
        """Record that a job is over."""
        self.left.pop(job.folder, None)
        self.complete += max(job.calls, 1.0) if record is not None and record.how != "stopped" else 0.0
        self.looked = 0.0

    def look(self) -> None:
        """Show how far all are."""
        if time.monotonic() - self.looked < LOOK:
            return
        self.looked = time.monotonic()
        part = sum(max(j.calls, 1.0) * share_done(self.root / f / "run") for f, j in self.left.items())
        self.show((self.complete + part) / self.total)
