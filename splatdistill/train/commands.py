"""Commands that the outside may give a run: queued by anyone, applied between two steps, logged with the step at which they took
effect, and replayed from the log. Importing this loads no torch.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

Value = bool | int | float | str


@dataclass(frozen=True)
class Stop:
    """Command to save and end the run after the current step."""


@dataclass(frozen=True)
class Save:
    """Command to write a checkpoint now."""


@dataclass(frozen=True)
class SetField:
    """Command to change a field of the configuration, for example ("guidance.scale", 20.0)."""

    path: str
    value: Value | None


@dataclass(frozen=True)
class Choose:
    """Command to continue with another guidance or densifier: its own defaults but for these fields, by dotted path. The memory
    of the previous one is lost.
    """

    part: Literal["guidance", "densify"]
    kind: str  # its name
    fields: tuple[tuple[str, Value | None], ...] = ()


@dataclass(frozen=True)
class Densify:
    """Command to run the densifier's update now, whatever its schedule is."""


@dataclass(frozen=True)
class Prune:
    """Command to remove the splats below this opacity."""

    min_opacity: float


@dataclass(frozen=True)
class Pause:
    """Command to wait before the next step."""


@dataclass(frozen=True)
class Continue:
    """Command to end a pause."""


@dataclass(frozen=True)
class Once:
    """Command to run one step, then pause again."""


Command = Stop | Save | SetField | Choose | Densify | Prune | Pause | Continue | Once


@dataclass
class Commands:
    """Queue of commands to a run; safe to use from any thread and from signal handlers."""

    queue: SimpleQueue = field(default_factory=SimpleQueue)
    held: list[Command] = field(default_factory=list)  # what `wait` has seen arrive

    def put(self, command: Command) -> None:
        """Queue a command for the next step."""
        self.queue.put(command)

    def take(self, attempt: int = 0) -> list[Command]:
        """Return all that was asked since the last time, in order. attempt: how many steps were taken or refused so far; a
        log that is replayed goes by it.
        """
        taken, self.held = self.held, []
        while not self.queue.empty():
            taken.append(self.queue.get_nowait())
        return taken

    def wait(self, seconds: float) -> None:
        """Wait until something is asked, at most so long."""
        with suppress(Empty):
            self.held.append(self.queue.get(timeout=seconds))
