"""The same jobs on a Ray cluster that is there already: machines that all see the bench's folder at the same path and have
the same splatdistill.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from splatdistill.bench.job_runner import FileFlag, Flag, run_job
from splatdistill.bench.local import LOOK, Meter, Show, Tell
from splatdistill.bench.plan import Job
from splatdistill.bench.record import JobRecord
from splatdistill.errors import UserError

RETRIES = 2  # of a job whose machine went away; it goes on from its last checkpoint


def run(
    jobs: Sequence[Job],
    root: Path,
    address: str,
    threads: int,
    gpus: float,
    stop: Flag,
    until: float,
    tell: Tell,
    show: Show,
) -> None:
    """Run all jobs, each as a task that takes `threads` processors and `gpus` of a GPU; Ray decides how many at a time and
    where. After `until` (of the monotonic clock), and when it is to stop, none begins.

    Raises UserError without Ray, without a cluster, and where its machines do not see the folder.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports] (an extra)
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise UserError('--engine ray needs Ray: pip install "ray>=2.40,<3", or take --engine local') from e
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    mine = not ray.is_initialized()
    if mine:
        here = threading.current_thread() is threading.main_thread()
        polite = signal.getsignal(signal.SIGTERM)
        try:
            answers(address)
            ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
        except (OSError, ValueError, RayError) as e:
            said = (str(e).splitlines() or [type(e).__name__])[0]
            raise UserError(
                f"no Ray cluster at {address}: {said}\nStart one (`ray start --head`), name it with --address, or take --engine local"
            ) from e
        finally:
            if here:
                signal.signal(signal.SIGTERM, polite)  # Ray's own handler would leave at once
    halt, late = root / "stopping", root / "late"  # how the tasks learn that they are to stop, or not to begin
    root.mkdir(parents=True, exist_ok=True)
    meter = Meter(jobs, root, show)
    try:
        everyone_sees(root, ray)
        for sign, now in ((halt, stop.is_set()), (late, time.monotonic() > until)):
            sign.touch() if now else sign.unlink(missing_ok=True)
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(one)
        going = {task.remote(job, root, threads): job for job in jobs}
        while going:
            done, _ = ray.wait(list(going), timeout=LOOK)
            for ref in done:
                job = going.pop(ref)
                try:
                    record = ray.get(ref)
                except RayError as e:
                    record = lost(job, root, e)
                meter.ended(job, record)
                if record is not None:
                    tell(job, record)
            if stop.is_set():
                halt.touch()
            elif time.monotonic() > until:
                late.touch()
            meter.look()
    finally:
        halt.unlink(missing_ok=True)
        late.unlink(missing_ok=True)
        if mine:
            ray.shutdown()


def answers(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=5).close()


def one(job: Job, root: Path, threads: int) -> JobRecord | None:
    """Run one job as a task, on the machine that Ray chose."""
    stop = FileFlag(root / "stopping")
    return None if stop.is_set() or (root / "late").exists() else run_job(job, root, threads, stop)


def lost(job: Job, root: Path, error: Exception) -> JobRecord:
    """Record that a job's task did not come back."""
    before = JobRecord.read(root / job.folder)
    if before is not None and before.final:
        return before
    record = replace(
        before or JobRecord(job.prompt, job.arm, job.seed, job.argv, "failed", tries=0),
        how="failed",
        error=f"its Ray task was lost: {str(error).strip()[-1000:]}",
    )
    (root / job.folder).mkdir(parents=True, exist_ok=True)
    record.write(root / job.folder)
    return record


def everyone_sees(root: Path, ray) -> None:
    """Raise UserError unless every machine of the cluster sees a file that is written here."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]
    token = root / f".seen-{uuid4().hex}"
    token.touch()
    try:
        nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        asked = {
            n["NodeManagerHostname"] + " " + n["NodeID"][:8]: ray.remote(num_cpus=0)(os.path.exists)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False))
            .remote(str(token))
            for n in nodes
        }
        blind = [name for name, ref in asked.items() if not ray.get(ref)]
    finally:
        token.unlink(missing_ok=True)
    if blind:
        raise UserError(
            f"{root} is not seen by these machines of the cluster: {', '.join(blind)}.\nGive --out a folder of a file system that "
            "all of them share, at the same path"
        )
