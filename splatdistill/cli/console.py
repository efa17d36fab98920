"""The console that results are told on, and whether anybody sits at it."""

import os
import sys

from rich.console import Console

QUIET = ("SPLATDISTILL_NO_VIEWER", "CI")  # set to anything, they say that nobody watches


def speaker() -> Console:
    """Return a console for a run's output: nothing in it is markup, and long lines are left to the terminal."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def watched() -> bool:
    """Return whether standard input and output are terminals, and no variable of QUIET says that nobody is there."""
    terminals = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return terminals and not any(os.environ.get(name) for name in QUIET)
