"""How far a run is: a bar on a terminal, a line every few seconds elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from splatdistill.train.events import Event, StepDone

EVERY = 5.0  # seconds between lines where there is no terminal


def clock(seconds: float) -> str:
    """90.4 is 1:30, 3700 is 1:01:40."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


class Work:
    """How much of a known amount is done, and how long the rest may take; a context, like Progress."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self.console, self.what, self.total = console, what, total
        self.first: tuple[int, float] | None = None  # the first piece done, and when: it may have compiled kernels
        self.told = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("left"))
        self.bar = Bar(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(what, total=total)

    def __enter__(self) -> "Work":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def retotal(self, total: int) -> None:
        """How much there is, now that it is known."""
        self.total = total
        self.bar.update(self.task, total=total)

    def done(self, count: int, what: str = "") -> None:
        """`count` pieces of the total are done; `what` is being worked on."""
        now = time.monotonic()
        self.first = self.first or (count, now)
        if self.console.is_terminal:
            self.bar.update(self.task, completed=count, description=what or self.what)
        elif now - self.told >= EVERY or count == self.total:
            self.told = now
            rate = (count - self.first[0]) / max(now - self.first[1], 1e-9)
            left = f"  {clock((self.total - count) / rate)} left" if rate else ""
            self.console.print(f"{what or self.what} {count}/{self.total}{left}")


class Progress:
    """A callback for events that keeps a person informed; a context, so that the terminal is left in order."""

    def __init__(self, console: Console, steps: int, step: int = 0) -> None:
        self.console, self.steps = console, steps
        self.began = self.told = time.monotonic()
        self.first: tuple[int, float] | None = None  # the first step done, and when: it may have compiled kernels
        self.bar = Bar(
            TextColumn("distilling"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("distilling", total=steps, completed=step, speed="")

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, event: Event) -> None:
        """Show a step; other events have their own places."""
        if not isinstance(event, StepDone):
            return
        now = time.monotonic()
        self.first = self.first or (event.step, now)
        rate = (event.step - self.first[0]) / max(now - self.first[1], 1e-9)
        speed = f"{rate:.1f} it/s  {event.gaussians} splats" + (
            f"  {event.refused} steps refused" if event.refused else ""
        )
        if self.console.is_terminal:
            self.bar.update(self.task, completed=event.step, total=event.steps, speed=speed)
        elif now - self.told >= EVERY or event.step == event.steps:
            self.told = now
            left = f"{clock((event.steps - event.step) / rate)} left" if rate else "the first step"
            self.console.print(f"step {event.step}/{event.steps}  {speed}  {left}")

    @property
    def took(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began
