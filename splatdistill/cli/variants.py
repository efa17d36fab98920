"""Variants of one prompt with a person beside them: progress, a page to choose on, and what came of each. And what it
means to refine one of them.
"""

import dataclasses
import signal
from collections.abc import Sequence

from rich.console import Console

from splatdistill.cli.run_with_progress import STOPPED, stopping
from splatdistill.cli.viewer import VariantsViewer, Watching
from splatdistill.errors import RunEnded
from splatdistill.settings.finished import finished
from splatdistill.settings.layers import Layer
from splatdistill.settings.phases import named
from splatdistill.settings.recipes import family_of
from splatdistill.settings.yaml import NAME
from splatdistill.shell import as_typed
from splatdistill.train.commands import Command, Commands
from splatdistill.train.events import Event, StepDone
from splatdistill.train.phases import read
from splatdistill.train.progress import Progress, clock
from splatdistill.train.run import RunDir
from splatdistill.train.variants import Variant, take_turns

MOST = 9  # variants


def refining(folder: RunDir, phase: str | None = None) -> tuple[Layer, ...]:
    """Return the settings in force at the end of a finished run, and what goes on with it: its splats, and a phase; or without one a
    higher setting, of twice the views a step, the lower half of its noise levels, and positions at the pace of the run's second half.
    """
    begun, c = finished(folder, "--refine")
    splats = {"init": {NAME: "file", "path": str(folder.splats.absolute())}}
    if phase is not None:
        said = read(phase) if read(phase).changes is not None else named(phase, family_of(c.prior))
        return begun, Layer(f"phase {said.name}", splats | {"steps": max(1, round(said.share * c.steps))} | said.tree())
    times, rates = c.guidance.value("times"), c.rates
    t_min, t_max = times.begin()
    half = round(0.5 * (t_min + t_max), 4)
    lower = {"t_max": half} | ({} if times.t_max_end is None else {"t_max_end": min(times.t_max_end, half)})
    higher = splats | {
        "batch": 2 * c.batch,
        "guidance": {"times": lower},
        "rates": {"means": float(f"{(rates.means * rates.means_end) ** 0.5:.3g}")},
    }
    return begun, Layer("--refine", higher)


def choose(runs: Sequence[Variant], console: Console, watching: Watching) -> tuple[int, VariantsViewer | None]:
    """Train all, watched from a browser or not: the exit status, and the page if one was chosen there to be refined."""
    page = watching.choose(runs, console)
    chosen = False
    try:
        with stopping(Everyone(runs)) as caught, Progress(console, sum(r.session.config.steps for r in runs)) as progress:
            together = Together(progress, runs)
            for k, r in enumerate(runs):
                r.callbacks += [together, *([page.callback(k)] if page else [])]
            take_turns(runs)
        tell(console, runs, clock(progress.took))
        if page is not None and watching.wait and not caught and page.chosen is None:
            console.print('the page stays for a choice ("Refine this one") until Ctrl-C; --no-wait ends it with the runs')
            page.hold()
        chosen = page is not None and page.chosen is not None and not caught
        if all(r.wrong for r in runs):
            raise RunEnded("all variants went wrong; the last of them: " + str(runs[-1].wrong))
        return STOPPED + (caught[0] if caught else signal.SIGINT) if caught else 0, page if chosen else None
    finally:
        if page is not None and not chosen:
            page.close()


def tell(console: Console, runs: Sequence[Variant], took: str) -> None:
    """Print the results of each run."""
    console.print(f"{len(runs)} variants, after {took}", style="bold")
    for r in runs:
        how = r.result[0].how if r.result else str(r.wrong).splitlines()[0]
        console.print(f"  seed {r.session.config.seed}: {how:8}{r.folder.path}")
    best = next((r for r in runs if r.result), None)
    if best is not None:
        console.print(f"to compare them: {as_typed('splatdistill', 'view', best.folder.path.parent)}")
        console.print(f"to refine one: {as_typed('splatdistill', 'train', '--refine', best.folder.path)}")


class Everyone(Commands):
    """Command queue that passes each command to all runs."""

    def __init__(self, runs: Sequence[Variant]) -> None:
        super().__init__()
        self.runs = runs

    def put(self, command: Command) -> None:
        """Put a command into the queues of all runs."""
        for r in self.runs:
            r.commands.put(command)


class Together:
    """Session-like sum of all runs' steps, for a progress bar."""

    def __init__(self, progress: Progress, runs: Sequence[Variant]) -> None:
        self.progress, self.done = progress, 0
        self.steps = sum(r.session.config.steps for r in runs)

    def __call__(self, event: Event) -> None:
        """Count one more step of someone."""
        if isinstance(event, StepDone):
            self.done += 1
            self.progress(dataclasses.replace(event, step=self.done, steps=self.steps))
