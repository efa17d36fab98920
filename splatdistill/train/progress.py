"""Progress of a run: a bar on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from splatdistill.train.events import Event, StepDone

EVERY = 5.0  # seconds between lines where there is no terminal
Own = TypeVar("Own", bound="_Shown")  # the class of a context is what `with` gives


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them: 90.4 is 1:30, 3700 is 1:01:40."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


class _Shown:
    """Progress bar, or a line now and then; a context, so that the terminal is left in order."""

    def __init__(self, console: Console, what: str, total: int, step: int = 0, beside: str = "") -> None:
        self.console = console
        self.began = self.told = time.monotonic()
        self.first: tuple[int, float] | None = None  # the first piece done, and when: it may have compiled kernels
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        if beside:
            columns.append(TextColumn(beside))
        columns += [TimeRemainingColumn(compact=True), TextColumn("left")]
        self.bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(what, total=total, completed=step, speed="")

    def __enter__(self: Own) -> Own:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    @property
    def took(self) -> float:
        """Return seconds since the beginning."""
        return time.monotonic() - self.began

    def _rate(self, count: int) -> float:
        """Return pieces a second since the first one; 0 at that one."""
        now = time.monotonic()
        self.first = self.first or (count, now)
        return (count - self.first[0]) / max(now - self.first[1], 1e-9)

    def _due(self, last: bool) -> bool:
        """Return True if it is time for a line."""
        if not last and time.monotonic() - self.told < EVERY:
            return False
        self.told = time.monotonic()
        return True


class Work(_Shown):
    """Progress of a known amount of work, with the remaining time."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        super().__init__(console, what, total)
        self.what, self.total = what, total

    def done(self, count: int, what: str = "") -> None:
        """Report that `count` pieces of the total are done; `what` is being worked on."""
        rate = self._rate(count)
        if self.console.is_terminal:
            self.bar.update(self.task, completed=count, description=what or self.what)
        elif self._due(count == self.total):
            left = f"  {clock((self.total - count) / rate)} left" if rate else ""
            self.console.print(f"{what or self.what} {count}/{self.total}{left}")


class Progress(_Shown):
    """Callback for events that prints the progress."""

    def __init__(self, console: Console, steps: int, step: int = 0) -> None:
        super().__init__(console, "distilling", steps, step, "{task.fields[speed]}")

    def __call__(self, event: Event) -> None:
        """Show a step; other events have their own places."""
        if not isinstance(event, StepDone):
            return
        rate = self._rate(event.step)
        speed = f"{rate:.1f} it/s  {event.gaussians} splats" + (
            f"  {event.refused} steps refused" if event.refused else ""
        )
        speed += f"  {event.inner} updates a step" if event.inner > 1 else ""
        if self.console.is_terminal:
            self.bar.update(self.task, completed=event.step, total=event.steps, speed=speed)
        elif self._due(event.step == event.steps):
            left = f"{clock((event.steps - event.step) / rate)} left" if rate else "the first step"
            self.console.print(f"step {event.step}/{event.steps}  {speed}  {left}")


def telling(console: Console) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    """Return a function that begins to tell of work on a console, for what must know nothing of consoles."""

    @contextmanager
    def begin(what: str, total: int) -> Iterator[Callable[[int], None]]:
        with Work(console, what, total) as work:
            yield work.done

    return begin
