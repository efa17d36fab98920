"""A run with a person beside it: progress, Ctrl-C, and what came of it."""

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from splatdistill.cli.progress import Progress, clock
from splatdistill.train.events import Commands, Stop
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

STOPPED = 128  # plus the signal's number: the exit status of a run that was asked to stop


def follow(session: Session, folder: RunDir, console: Console) -> int:
    """Train to the end or until told to stop; the exit status."""
    assert session.state is not None
    commands = Commands()
    progress = Progress(console, session.config.steps, session.state.step)
    with stopping(commands) as caught, progress:
        ended, files = run(session, folder, [progress], commands)
    console.print(f"{ended.how}: {ended.message}, after {clock(progress.took)}", style="bold")
    if files is not None:
        for each in (files, *files.others):
            for what, path in (("splats", each.splats), ("turntable", each.turntable), ("sheet", each.sheet)):
                console.print(f"  {what:10}{path}")
            if each.dropped:
                console.print(f"  {each.dropped} splats had values that are not finite and were left out", style="yellow")
    if ended.how == "stopped":
        console.print(f"to go on: splatdistill train --resume {shlex.quote(str(folder.path))}")
        return STOPPED + (caught[0] if caught else signal.SIGINT)
    return 0


@contextmanager
def stopping(commands: Commands) -> Iterator[list[int]]:
    """Ctrl-C, or a polite kill, asks the run to save and end; a second one leaves at once. Yields what was caught."""
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        commands.put(Stop())
        # not print: its buffer may be in use where the signal came
        os.write(2, b"\nstopping after this step, and saving (once more to leave at once)\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
