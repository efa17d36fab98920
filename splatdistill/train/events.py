"""Events that a run tells the outside, and commands that the outside may give it.

Callbacks receive Events; they never touch the trainer. Commands are queued by anyone, applied between two
steps, logged with the step at which they took effect, and replayed from the log.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from splatdistill.gaussians import Gaussians

Verdict = Literal["nan", "empty", "exploded", "saturated", "oom"]
Value = bool | int | float | str


@dataclass(frozen=True)
class Timing:
    """Seconds of one step by stage."""

    render: float
    guidance: float
    backward: float
    rest: float

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return self.render + self.guidance + self.backward + self.rest


@dataclass(frozen=True)
class StepDone:
    """After every optimiser step."""

    step: int  # how many are done
    steps: int
    gaussians: int
    loss: float  # regularisers; the guidance's loss has no meaning
    grad_norm: float  # of the guidance's gradient, root mean square over latents
    t: float  # mean noise level
    coverage: float  # mean alpha
    timing: Timing
    refused: int  # steps refused so far because a gradient was not finite
    particle: int | None = None  # whose step it was, from 0; None in a run of one
    inner: int = 1  # optimiser steps that it was made of


@dataclass(frozen=True)
class Preview:
    """Pictures of the object as it is, and what the prior makes of a training view."""

    step: int
    views: Float[Tensor, "b 3 h w"]
    x0: Float[Tensor, "c 3 p p"] | None  # the prior's estimate of the clean image, if one was made


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    path: str


@dataclass(frozen=True)
class Applied:
    """A command took effect before this step."""

    step: int
    command: "Command"


@dataclass(frozen=True)
class Refused:
    """A command could not be applied; nothing has changed."""

    step: int
    command: "Command"
    message: str


@dataclass(frozen=True)
class Paused:
    """The run waits. Told again and again while it does, so that callbacks have the time that it does not take."""

    step: int


@dataclass(frozen=True)
class Resumed:
    """The run goes on from the checkpoint of this step."""

    step: int


@dataclass(frozen=True)
class Ended:
    """The run is over: done, stopped by someone, or one of the verdicts."""

    step: int
    how: Literal["done", "stopped", "nan", "empty", "exploded", "saturated", "oom"]
    message: str
    result: Gaussians  # of the first particle
    others: tuple[Gaussians, ...] = ()  # of the second, third, ...
    calls: int = 0  # images that networks were asked about, since the run began or was resumed
    peak_memory: int = 0  # bytes: of the device on CUDA, else of the process


Event = StepDone | Preview | Saved | Applied | Refused | Paused | Resumed | Ended
Callback = Callable[[Event], None]


@dataclass(frozen=True)
class Stop:
    """Save and end the run after the current step."""


@dataclass(frozen=True)
class Save:
    """Write a checkpoint now."""


@dataclass(frozen=True)
class SetField:
    """Change a field of the configuration, for example ("guidance.scale", 20.0)."""

    path: str
    value: Value | None


@dataclass(frozen=True)
class Choose:
    """Go on with another guidance or densifier: its own defaults but for these fields, by dotted path. What the one
    before remembered is lost.
    """

    part: Literal["guidance", "densify"]
    kind: str  # its name
    fields: tuple[tuple[str, Value | None], ...] = ()


@dataclass(frozen=True)
class Densify:
    """Make the densifier's update now, whatever its schedule says."""


@dataclass(frozen=True)
class Prune:
    """Remove the splats that are less opaque than this."""

    min_opacity: float


@dataclass(frozen=True)
class Pause:
    """Wait before the next step."""


@dataclass(frozen=True)
class Continue:
    """End a pause."""


@dataclass(frozen=True)
class Once:
    """Make one step, then pause again."""


Command = Stop | Save | SetField | Choose | Densify | Prune | Pause | Continue | Once


@dataclass
class Commands:
    """The one queue from the outside to a run; safe to use from any thread and from signal handlers."""

    queue: SimpleQueue = field(default_factory=SimpleQueue)
    held: list[Command] = field(default_factory=list)  # what `wait` has seen arrive

    def put(self, command: Command) -> None:
        """Ask for something before the next step."""
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
