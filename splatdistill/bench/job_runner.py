"""One job, from start to end: a process of `splatdistill train` or `amortise`, resumed where an earlier one was stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from splatdistill import __version__, system
from splatdistill.bench.one_pass import one_pass
from splatdistill.bench.plan import Job
from splatdistill.bench.record import VERDICTS, JobRecord
from splatdistill.errors import RunEnded, UserError
from splatdistill.train.run import ASIDE, RunDir

LOOK = 0.2  # seconds between looks at a process
PATIENCE = 120.0  # seconds that a process has for saving before it is killed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
LONGEST = 2000  # characters of an error
NO_CHECKPOINT = "ended before its first checkpoint, so nothing could go on from it"


@runtime_checkable
class Flag(Protocol):
    """Request to stop, which may be made at any time."""

    def is_set(self) -> bool:
        """Return True if someone asked."""
        ...


@dataclass(frozen=True)
class FileFlag:
    """Stop file, for processes on other machines that see the same folder."""

    path: Path

    def is_set(self) -> bool:
        """Return True once the file is there."""
        return self.path.exists()


def run_job(job: Job, root: Path, threads: int, stop: Flag) -> JobRecord:
    """Run a job unless it is done already; return its record, which is also on disk in the job's folder.

    Idempotent: whatever happened before, to this process or to the machine, calling it again goes on from there.
    """
    folder = root / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", stop) as lock:
        before = JobRecord.read(folder)
        if before is not None and before.final:
            return before
        blank = JobRecord(job.prompt, job.arm, job.seed, job.argv, "stopped", version=__version__, tries=0)
        if lock is None:
            return before or blank
        before = replace(before or blank, argv=job.argv, version=__version__)
        if job.before is not None and (missing := without(run_job(job.before, root, threads, stop), before)):
            missing.write(folder)
            return missing
        run = folder / "run"
        if ended(run) == "done":  # by a process that outlived the bench that began it
            after = replace(before, how="done", error="")
        else:
            try:
                after = attempt(job, root, before, threads, stop, lock)
            except UserError as e:  # its folder cannot be moved; the other jobs go on
                after = replace(before, how="failed", error=str(e))
        after.write(folder)
        return after


def without(network: JobRecord, record: JobRecord) -> JobRecord | None:
    """Return the record of a job whose network has not been made, None where it was: one that diverged makes nothing of any prompt."""
    if network.how == "done":
        return None
    how = network.how if network.how in (*VERDICTS, "stopped") else "failed"
    return replace(record, how=how, error="" if how == "stopped" else f"its network ({network.prompt}) ended: {network.how}: {network.error}")


def attempt(job: Job, root: Path, before: JobRecord, threads: int, stop: Flag, lock: int) -> JobRecord:
    """Resume the run where it has a checkpoint, else start it.

    Nothing of an earlier try is ever deleted. A run that cannot be resumed stays as it is and the job has failed, with the reason;
    only one that was ended before its first checkpoint, from which nothing can go on, makes room for a new start, and is moved aside.
    """
    if stop.is_set():
        return replace(before, how="stopped")
    run = root / job.folder / "run"
    begun = [] if job.before is None else ["--init", "generator", "--init.path", str(root / job.before.folder / "run")]
    if job.before is not None and not job.steps:
        run.mkdir(exist_ok=True)
        return one_pass(job, [*job.argv, *begun], root / job.before.folder / "run", RunDir(run), before)
    if resumable(run):
        record = process([job.command, "--resume", str(run), *job.saving], run, before, threads, stop, lock)
        if record.code != UserError.code:
            return record
        return replace(record, error=f"{record.error}\nIts run is kept in {run}. To begin it anew, move that folder away")
    if run.is_dir() and any(run.iterdir()):
        kept = set_aside(run)
        before = replace(before, aside=(*before.aside, f"{kept.relative_to(run.parent)}: {NO_CHECKPOINT}"))
        before.write(run.parent)
    return process([job.command, *job.argv, *begun, *job.saving, "--out", str(run)], run, before, threads, stop, lock)


def set_aside(run: Path) -> Path:
    """Move a run's folder below `set-aside` beside it, under a number that is free; return its new path."""
    taken = [int(p.name) for p in (run.parent / ASIDE).glob("*") if p.name.isdigit()]
    kept = run.parent / ASIDE / str(max(taken, default=0) + 1)
    try:
        kept.parent.mkdir(exist_ok=True)
        return run.rename(kept)
    except OSError as e:
        raise UserError(f"cannot move {run} to {kept}: {e.strerror or e}. Move it away yourself, and start the bench again") from e


def process(argv: list[str], run: Path, before: JobRecord, threads: int, stop: Flag, lock: int) -> JobRecord:
    """Run a process of `splatdistill` to its end, or until it is to stop. argv: begins with its command."""
    if stop.is_set():
        return replace(before, how="stopped")
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": os.pathsep.join(paths)}
    output, began, asked = run.parent / "output.txt", time.monotonic(), None
    with output.open("ab") as said:  # what earlier tries said stays above
        start = said.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "splatdistill", *argv, "--no-viewer"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=env,
            **system.apart(lock),  # the lock lasts as long as the process, even when this one is gone
        )
        try:
            while child.poll() is None:
                if asked is None and stop.is_set():
                    asked = time.monotonic()
                    system.ask_to_stop(child)
                if asked is not None and time.monotonic() - asked > PATIENCE:
                    child.kill()
                time.sleep(LOOK)
        except BaseException:  # what calls this is going down at once
            child.terminate()
            raise
    seconds = before.seconds + time.monotonic() - began
    text = output.read_bytes()[start:].decode("utf-8", errors="replace")
    how, error = outcome(child.returncode, ended(run), text, asked is not None)
    return replace(
        before, how=how, error=error, code=child.returncode, seconds=round(seconds, 3), tries=before.tries + 1
    )


def outcome(code: int, event: str, text: str, asked: bool) -> tuple[str, str]:
    """Return how a process ended, and what it said about it. event: how its log says that it ended."""
    if code == 0 and event == "done":
        return "done", ""
    if code == RunEnded.code and event in VERDICTS:
        return event, complaint(text)
    if asked or code == 130:
        return "stopped", ""
    if code < 0:
        name = signal.Signals(-code).name if -code in [*signal.Signals] else str(-code)
        hint = "; on Linux that is what happens when memory runs out" if name == "SIGKILL" else ""
        return "killed", f"the process was ended by {name}{hint}"
    if "OutOfMemoryError" in text or "MemoryError" in text:
        return "oom", complaint(text)
    return "failed", complaint(text) or f"the process ended with status {code} and said nothing"


def complaint(text: str) -> str:
    """Return the error at the end of what a process said, what matters most in its first line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    at = f"\n{text}".rfind("\nerror: ")
    if at >= 0:
        above = text[:at].rstrip()
        boxed = above[max(above.rfind("╭"), 0) :] if above.endswith("╯") else ""  # what the parser refused stands in a frame above
        said = [line.strip("│ ") for line in boxed.splitlines()[1:-1]]
        return "\n".join([text[at:], *filter(lambda line: line.strip("─"), said)])[:LONGEST]
    return "\n".join([text.rsplit("\n", 1)[-1], text[-LONGEST:]]) if text else ""


def resumable(run: Path) -> bool:
    """Return True if there are checkpoints, whole ones or not: `--resume` finds the newest good one, or says why there is none. One that
    was being written when the process was killed (step-*.new) is none.
    """
    written = [p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".new"]
    return RunDir(run).config.is_file() and bool(written)


def ended(run: Path) -> str:
    """Return how a run's log says that it ended; "" for not."""
    return RunDir(run).last_events().get("Ended", {}).get("how", "")


def share_done(run: Path) -> float:
    """Return how far a run is, in [0, 1]."""
    events = RunDir(run).last_events()
    step = events.get("StepDone") or events.get("AmortisedStep") or {}
    return step["step"] / max(step.get("steps", 1), 1) if step else 0.0


@contextmanager
def locked(path: Path, stop: Flag) -> Iterator[int | None]:
    """Return the file descriptor of a lock that one process at a time holds, with its child processes; None where it was to
    stop before it could be had.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                if system.lock(lock):
                    break
            except OSError as e:
                raise UserError(f"cannot lock {path}: {e.strerror or e}; put --out on a file system that knows locks") from e
            if stop.is_set():
                yield None
                return
            time.sleep(LOOK)
        yield lock
    finally:
        os.close(lock)
