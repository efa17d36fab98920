"""The console that results are told on, and whether anybody sits at it."""

import os
import sys
from pathlib import Path

from rich.console import Console

from splatdistill.shell import as_typed

QUIET = ("SPLATDISTILL_NO_VIEWER", "CI")  # set to anything, they say that nobody watches


def speaker() -> Console:
    """Return a console for a run's output: nothing in it is markup, and long lines are left to the terminal."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def tell_tracker(console: Console, track: str | None, out: Path) -> None:
    """Print the command that shows what is tracked of a run in the folder out, if anything is."""
    if track is not None:
        console.print(f"curves and pictures: {as_typed('tensorboard', '--logdir', out)}")


def watched() -> bool:
    """Return whether standard input and output are terminals, and no variable of QUIET says that nobody is there."""
    terminals = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return terminals and not any(os.environ.get(name) for name in QUIET)
