"""splatdistill bench: prompts x methods x seeds, each a run of its own, and tables of what came of them."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from splatdistill.bench.options import Bench
from splatdistill.settings.command_line import command_line
from splatdistill.shell import as_typed
from splatdistill.system import POLITE

if TYPE_CHECKING:
    from rich.console import Console

    from splatdistill.bench.job_runner import Flag
    from splatdistill.bench.plan import Job
    from splatdistill.bench.record import JobRecord
    from splatdistill.bench.settle import Planned

LONGEST = 400  # characters of a failure on the screen; all of it is in its record


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = command_line(Bench, argv, "splatdistill bench")
    if options.list:
        show_presets()
        return 0
    from splatdistill.bench.conclude import Measuring, conclude
    from splatdistill.bench.plan import trainings
    from splatdistill.bench.record import write_json
    from splatdistill.bench.run import jobs_of, short_runs, steps_by_seconds
    from splatdistill.bench.settle import settle
    from splatdistill.cli.console import speaker
    from splatdistill.train.progress import telling

    planned, console = settle(options), speaker()
    root = (options.out or Path("runs") / f"bench-{planned.name}").expanduser().absolute()
    for line in planned.notes:
        console.print(line, style="yellow")
    sizes = {"prompt": len(planned.prompts), "method": len(planned.arms), "seed": len(planned.seeds)}
    told = " x ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in sizes.items())
    told = f"{told} with the prior {planned.prior}: {math.prod(sizes.values())} runs, {planned.budget_told}, into {root}"
    if options.plan:
        show_plan(planned, console)
        console.print(told)
        return 0
    root.mkdir(parents=True, exist_ok=True)
    with stopping() as stop:
        steps = planned.steps
        if planned.budget == "seconds":
            console.print("measuring how long a step of each method takes")
            make(options, planned, short_runs(planned), root / "calibration", console, stop)
            steps = steps_by_seconds(planned, root / "calibration")
        jobs = jobs_of(planned, steps)
        write_json(root / "bench.json", planned.as_record(jobs, argv))
        console.print(told)
        if options.train:
            make(options, planned, [*trainings(jobs), *jobs], root / "jobs", console, stop)
        if stop.is_set():
            console.print(f"stopped; to go on: {as_typed('splatdistill', 'bench', *argv)}")
            return 128 + signal.SIGINT
        found = conclude(planned, jobs, root, Measuring(options.image_reward, options.judge, options.samples, options.threshold), telling(console))
    for line in found.lines:
        console.print(line)
    for failure in found.failures:
        console.print(failure, style="red")
    return 1 if found.failures else 0


def show_presets() -> None:
    """Print the names of all presets, and what each is about."""
    from splatdistill.bench.preset import presets

    known = presets()
    wide = max(map(len, known)) + 2
    print("\n".join(f"{name:{wide}}{' '.join(preset.about.split())}" for name, preset in known.items()))


def show_plan(planned: "Planned", console: "Console") -> None:
    """Print what every method would be given: its steps, and the images that it asks networks about."""
    wide = max(len(a.name) for a in planned.arms) + 2
    console.print(f"{'method':{wide}}{'steps':>8}{'images a step':>16}{'images':>10}  asked for as", style="bold")
    for arm in planned.arms:
        steps, images = planned.steps.get(arm.name), planned.images[arm.name]
        known = planned.costs[arm.name] is not None or arm.network is not None
        cells = (
            f"{steps:,}" if steps else "measured",
            f"{images:.1f}" if known else "unknown",
            f"{steps * images:,.0f}" if steps and known else "",
        )
        console.print(f"{arm.name:{wide}}{cells[0]:>8}{cells[1]:>16}{cells[2]:>10}  {arm.text}")


def make(options: Bench, planned: "Planned", jobs: "list[Job]", root: Path, console: "Console", stop: "Flag") -> None:
    """Run jobs, with one progress display for all of them."""
    from splatdistill.bench import run
    from splatdistill.train.progress import Work, clock

    began = time.monotonic()
    total = max(1, round(sum(max(j.calls, 1.0) for j in jobs)))
    done = [0, 0]  # ended, and not well

    with Work(console, "network images", total) as bar:

        def show(part: float) -> None:
            most = total if done[0] == len(jobs) else total - 1  # a run that writes its files is not over
            bar.done(min(round(part * total), most), f"run {min(done[0] + 1, len(jobs))} of {len(jobs)}, network images")

        def tell(job: "Job", record: "JobRecord") -> None:
            if record.how == "stopped":
                return
            done[0] += 1
            for kept in record.aside:
                console.print(f"{job.arm}, {job.prompt!r}, seed {job.seed}: an earlier try was kept as {root / job.folder}/{kept}")
            if record.how != "done":
                done[1] += 1
                said = record.error.splitlines()[0] if record.error else ""
                console.print(f"{record.how}: {job.arm}, {job.prompt!r}, seed {job.seed}: {said[:LONGEST]}", style="red")

        run.make(options, planned, jobs, root, stop, tell, show)
    console.print(f"{done[0]} of {len(jobs)} runs ended, {done[1]} of them not well, after {clock(time.monotonic() - began)}")


@contextmanager
def stopping() -> "Iterator[Flag]":
    """Make Ctrl-C or SIGTERM ask all runs to save and end; a second one exits at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, b"\nstopping: the runs save what they have (once more to leave at once)\n")

    here = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, handle) for n in POLITE} if here else {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
