"""A run with a person beside it: progress, Ctrl-C, and what came of it."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from rich.console import Console

from splatdistill.cli.viewer import RunViewer, Watching
from splatdistill.errors import RunEnded
from splatdistill.shell import as_typed
from splatdistill.system import HANGUP, POLITE
from splatdistill.train.commands import Commands, Stop
from splatdistill.train.events import Callback, Ended
from splatdistill.train.finish import Artefacts
from splatdistill.train.loop import run
from splatdistill.train.progress import Progress, clock
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

STOPPED = 128  # plus the signal's number: the exit status of a run that was asked to stop


def follow(
    session: Session,
    folder: RunDir,
    console: Console,
    watching: Watching = Watching(),
    commands: Commands | None = None,
    callbacks: Sequence[Callback] = (),
) -> int:
    """Train to the end or until told to stop, watched from a browser or not; the exit status. callbacks: told every event."""
    commands = commands or Commands()
    page = watching.open(session, folder, commands, console)
    progress = Progress(console, session.config.steps, session.state.step)
    try:
        with stopping(commands) as caught, progress:
            ended, files = run(session, folder, [progress, *callbacks, *([page] if page else [])], commands)
        tell(console, ended, files, clock(progress.took), folder)
        keep(console, page, watching.wait and not caught)
    except RunEnded as e:
        keep(console, page, watching.wait and not caught, str(e))
        raise
    finally:
        if page is not None:
            page.close()
    return STOPPED + (caught[0] if caught else signal.SIGINT) if ended.how == "stopped" else 0


def tell(console: Console, ended: Ended, files: Artefacts | None, took: str, folder: RunDir) -> None:
    """Print the results of a run."""
    console.print(f"{ended.how}: {ended.message}, after {took}", style="bold")
    if files is not None:
        for each in (files, *files.others):
            for what, path in (("splats", each.splats), ("turntable", each.turntable), ("sheet", each.sheet)):
                console.print(f"  {what:10}{path}")
            if each.dropped:
                console.print(f"  {each.dropped} splats had values that are not finite and were left out", style="yellow")
    if ended.how == "stopped":
        console.print(f"to go on: {as_typed('splatdistill', 'train', '--resume', folder.path)}")


def keep(console: Console, page: RunViewer | None, wait: bool, wrong: str = "") -> None:
    """Show the film of a run that was watched, and keep its page until Ctrl-C. wrong: what a person should know before."""
    if page is None:
        return
    page.replay()
    if wait:
        if wrong:
            console.print(wrong, style="bold red")
        console.print("the page stays until Ctrl-C; --no-wait ends it with the run")
        page.hold()


@contextmanager
def stopping(commands: Commands) -> Iterator[list[int]]:
    """Make Ctrl-C, SIGTERM or a closed terminal ask the run to save and end; a second one exits at once. Yield
    the list of signals that were caught.
    """
    caught: list[int] = []
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        commands.put(Stop())
        if number == HANGUP:  # what is printed from now on would fail
            for terminal in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        with suppress(OSError):  # not print: its buffer may be in use where the signal came
            os.write(2, b"\nstopping after this step, and saving (once more to leave at once)\n")

    numbers = [n for n in POLITE if n != HANGUP or signal.getsignal(n) is not signal.SIG_IGN]  # nohup ignores hang-ups
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
