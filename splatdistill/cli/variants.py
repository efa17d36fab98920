"""Variants of one prompt with a person beside them: progress, a page to choose on, and what came of each. And what it
means to refine one of them.
"""

import dataclasses
import shlex
import signal
from collections.abc import Sequence

from rich.console import Console

from splatdistill.cli.progress import Progress, clock
from splatdistill.cli.run_with_progress import STOPPED, stopping
from splatdistill.cli.viewer import Choice, Watching
from splatdistill.errors import RunEnded, UserError
from splatdistill.settings.commands import parse_train
from splatdistill.train.events import Command, Commands, Event, StepDone
from splatdistill.train.run import RunDir
from splatdistill.train.variants import Variant, take_turns

MOST = 9  # variants


def refining(folder: RunDir) -> list[str]:
    """The options that go on with a finished run at a higher setting: from its splats, with twice the views a step, the
    lower half of its noise levels, and positions at the pace of the run's second half.
    """
    if not folder.splats.is_file() or not folder.config.is_file():
        raise UserError(f"--refine {folder.path}: there is no {folder.splats}; expected the directory of a finished run")
    c = parse_train([f"--config={folder.config}"], lambda source: None).config
    times, rates = c.guidance.value("times"), c.rates
    t_min, t_max = times.begin()
    words = {
        "init": "file",
        "init.path": folder.splats.absolute(),
        "batch": 2 * c.batch,
        "guidance.times.t_max": round(0.5 * (t_min + t_max), 4),
        "rates.means": float(f"{(rates.means * rates.means_end) ** 0.5:.3g}"),
    }
    if times.t_max_end is not None:
        words["guidance.times.t_max_end"] = min(times.t_max_end, words["guidance.times.t_max"])
    return [f"--config={folder.config}", *(f"--{k.replace('_', '-')}={v}" for k, v in words.items())]


def choose(runs: Sequence[Variant], console: Console, watching: Watching) -> tuple[int, Choice | None]:
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
    """What came of each."""
    console.print(f"{len(runs)} variants, after {took}", style="bold")
    for r in runs:
        how = r.result[0].how if r.result else str(r.wrong).splitlines()[0]
        console.print(f"  seed {r.session.config.seed}: {how:8}{r.folder.path}")
    best = next((r for r in runs if r.result), None)
    if best is not None:
        base = best.folder.path.parent
        console.print(f"to compare them: splatdistill view {shlex.quote(str(base))}")
        console.print(f"to refine one: splatdistill train --refine {shlex.quote(str(best.folder.path))}")


class Everyone(Commands):
    """A queue that hands what it is given to all."""

    def __init__(self, runs: Sequence[Variant]) -> None:
        super().__init__()
        self.runs = runs

    def put(self, command: Command) -> None:
        """Ask all for it."""
        for r in self.runs:
            r.commands.put(command)


class Together:
    """The steps of all as those of one, for a progress bar."""

    def __init__(self, progress: Progress, runs: Sequence[Variant]) -> None:
        self.progress, self.done = progress, 0
        self.steps = sum(r.session.config.steps for r in runs)

    def __call__(self, event: Event) -> None:
        """One more step of someone."""
        if isinstance(event, StepDone):
            self.done += 1
            self.progress(dataclasses.replace(event, step=self.done, steps=self.steps))
