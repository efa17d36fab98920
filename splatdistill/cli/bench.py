"""splatdistill bench: prompts x methods x seeds, each a run of its own, and tables of what came of them."""

import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import tyro
from rich.console import Console

from splatdistill.bench import calibrate, local, plan
from splatdistill.bench.plan import Job
from splatdistill.bench.preset import Budget
from splatdistill.bench.record import Record, write_json
from splatdistill.bench.work import Flag
from splatdistill.cli.bench_plan import Planned, presets, settle
from splatdistill.cli.bench_report import Measuring, conclude
from splatdistill.cli.console import speaker
from splatdistill.cli.progress import Work, clock

LONGEST = 400  # characters of a failure on the screen; all of it is in its record


@dataclass(frozen=True)
class Bench:
    """Compare methods: prompts x guidances x seeds, each a run of `splatdistill train`, then measured and tabulated.

    What is done is never done again: the same command goes on where it was stopped.
    """

    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """A bench by name (--list shows them), or a YAML file like those in configs/bench/. What is typed goes above it."""
    list: bool = False
    """Show the presets and end."""
    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file of prompts: one a line, or JSON lists."""
    prompt: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Prompts themselves."""
    count: int | None = None
    """Only so many of the prompts, from the first."""
    guidances: Annotated[str, tyro.conf.arg(metavar="NAME,...")] = ""
    """Methods, with options in brackets, of the guidance or of the run: "sds,sdi[eta=0],vsd[particles=2]"."""
    seeds: tuple[int, ...] | None = None
    """A run for each of them."""
    budget: Budget | None = None
    """What is equal for all: recipe (nothing; each as its recipe has it), steps, calls (images that networks are asked
    about), or seconds (of training on this machine, by a short run of each first)."""
    amount: float | None = None
    """How many steps, images or seconds."""
    prior: str | None = None
    """auto, tiny (the embedded model of the toybox world), a diffusers folder, or a hub id."""
    device: str = "auto"
    """Where to run: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A YAML file of options of `train` for all runs, above their recipes."""
    clip: str = "auto"
    """The CLIP that measures: auto is openai/clip-vit-base-patch32 where its weights are, else with the prior tiny the
    embedded tiny-clip, which knows the toybox's words alone; or a folder, or a hub id."""
    image_reward: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """A Python interpreter in whose environment the package image-reward is installed: it then measures too."""
    samples: int = 32
    """Pictures of the prior per prompt that renders are compared with (FID); 0: none."""
    against: str = ""
    """The arm that the others are compared with; by default the first."""
    threshold: float | None = None
    """The CLIP score that curves are timed to; by default, for each prompt, where --against ends."""
    points: int | None = None
    """Of each convergence curve: so many checkpoints of each run are kept; 0: none."""
    workers: int | None = None
    """Runs at a time; by default as many as there are processors, one on a GPU."""
    threads: int | None = None
    """Of each run; by default one on a CPU, where several runs use it better than one."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or an existing Ray cluster whose machines all see --out at the same path."""
    address: str = "auto"
    """Of the Ray cluster."""
    hours: float | None = None
    """Begin no run after so many hours."""
    train: bool = True
    """Make the runs that are missing; --no-train only measures those that are there."""
    plan: bool = False
    """Say what would be done, method by method, and end; or why it cannot be."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where all of it goes; by default runs/bench- and the preset."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = tyro.cli(Bench, args=argv, prog="splatdistill bench")
    if options.list:
        known = presets()
        wide = max(map(len, known)) + 2
        print("\n".join(f"{name:{wide}}{' '.join(preset.about.split())}" for name, preset in known.items()))
        return 0
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
        jobs = planned_jobs(options, planned, root, console, stop)
        write_json(root / "bench.json", planned.told(jobs, argv))
        console.print(told)
        if options.train:
            make(options, planned, jobs, root / "jobs", console, stop)
        if stop.is_set():
            console.print(f"stopped; to go on: splatdistill bench {shlex.join(argv)}")
            return 128 + signal.SIGINT
        return conclude(
            planned, jobs, root, Measuring(options.image_reward, options.samples, options.threshold), console
        )


def show_plan(planned: Planned, console: Console) -> None:
    """What every method would be given: its steps, and the images that it asks networks about."""
    wide = max(len(a.name) for a in planned.arms) + 2
    console.print(f"{'method':{wide}}{'steps':>8}{'images a step':>16}{'images':>10}  asked for as", style="bold")
    for arm in planned.arms:
        steps, images = planned.steps.get(arm.name), planned.images[arm.name]
        known = planned.costs[arm.name] is not None
        cells = (
            f"{steps:,}" if steps else "measured",
            f"{images:.1f}" if known else "unknown",
            f"{steps * images:,.0f}" if steps and known else "",
        )
        console.print(f"{arm.name:{wide}}{cells[0]:>8}{cells[1]:>16}{cells[2]:>10}  {arm.text}")


def planned_jobs(options: Bench, planned: Planned, root: Path, console: Console, stop: Flag) -> list[Job]:
    """All jobs, their steps made out."""
    steps = planned.steps
    if planned.budget == "seconds":
        console.print("measuring how long a step of each method takes")
        place, prompt = root / "calibration", planned.prompts[0]
        short = lambda jobs: make(options, planned, jobs, place, console, stop)  # noqa: E731
        per_step = calibrate.seconds_per_step(planned.arms, planned.common, prompt, place, short)
        steps = calibrate.steps_for(planned.amount, planned.arms, per_step)
    calls = {a.name: planned.images[a.name] * steps[a.name] for a in planned.arms}
    return plan.jobs(planned.prompts, planned.arms, planned.seeds, planned.common, steps, calls, planned.points)


def make(options: Bench, planned: Planned, jobs: list[Job], root: Path, console: Console, stop: Flag) -> None:
    """Have jobs done, with progress for all of them together."""
    began = time.monotonic()
    until = began + 3600 * options.hours if options.hours is not None else math.inf
    total = max(1, round(sum(max(j.calls, 1.0) for j in jobs)))
    done = [0, 0]  # ended, and not well

    with Work(console, "network images", total) as bar:

        def show(part: float) -> None:
            most = total if done[0] == len(jobs) else total - 1  # a run that writes its files is not over
            bar.done(
                min(round(part * total), most), f"run {min(done[0] + 1, len(jobs))} of {len(jobs)}, network images"
            )

        def tell(job: Job, record: Record) -> None:
            if record.how == "stopped":
                return
            done[0] += 1
            for kept in record.aside:
                console.print(f"{job.arm}, {job.prompt!r}, seed {job.seed}: an earlier try was kept as {root / job.folder}/{kept}")
            if record.how != "done":
                done[1] += 1
                said = record.error.splitlines()[0] if record.error else ""
                console.print(
                    f"{record.how}: {job.arm}, {job.prompt!r}, seed {job.seed}: {said[:LONGEST]}", style="red"
                )

        if options.engine == "ray":
            from splatdistill.bench import cluster

            cluster.run(jobs, root, options.address, planned.threads, planned.gpus, stop, until, tell, show)
        else:
            local.run(jobs, root, planned.workers, planned.threads, stop, until, tell, show)
    console.print(
        f"{done[0]} of {len(jobs)} runs ended, {done[1]} of them not well, after {clock(time.monotonic() - began)}"
    )


@contextmanager
def stopping() -> Iterator[Flag]:
    """Ctrl-C, or a polite kill, asks all runs to save and end; a second one leaves at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, b"\nstopping: the runs save what they have (once more to leave at once)\n")

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    here = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, handle) for n in caught} if here else {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
