"""Events that a run tells the outside, and their lines in its log. Callbacks receive them; they never touch the trainer, but
may queue commands.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from splatdistill.gaussians import Gaussians
from splatdistill.train.commands import Command

Verdict = Literal["nan", "empty", "exploded", "saturated", "oom"]


@dataclass(frozen=True)
class Timing:
    """Seconds of one step by stage."""

    render: float
    guidance: float
    backward: float
    rest: float

    @property
    def total(self) -> float:
        """Return seconds of the whole step."""
        return self.render + self.guidance + self.backward + self.rest


@dataclass(frozen=True)
class StepDone:
    """Event after every optimiser step."""

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
    """Event with pictures of the object, and the prior's estimate of a training view."""

    step: int
    views: Float[Tensor, "b 3 h w"]
    x0: Float[Tensor, "c 3 p p"] | None  # the prior's estimate of the clean image, if one was made


@dataclass(frozen=True)
class Saved:
    """Event after a checkpoint was written."""

    step: int
    path: str


@dataclass(frozen=True)
class Applied:
    """Event after a command took effect, before this step."""

    step: int
    command: Command


@dataclass(frozen=True)
class Refused:
    """Event after a command could not be applied; nothing has changed."""

    step: int
    command: Command
    message: str


@dataclass(frozen=True)
class Paused:
    """Event while the run waits, sent again and again, so that callbacks may use the time."""

    step: int


@dataclass(frozen=True)
class Resumed:
    """Event at the start of a run that continues from the checkpoint of this step."""

    step: int


@dataclass(frozen=True)
class PhaseBegun:
    """Event before the first step of a phase."""

    step: int
    phase: str  # its name


@dataclass(frozen=True)
class Ended:
    """Event at the end of a run: done, stopped by someone, or one of the verdicts."""

    step: int
    how: Literal["done", "stopped", "nan", "empty", "exploded", "saturated", "oom"]
    message: str
    result: Gaussians  # of the first particle
    others: tuple[Gaussians, ...] = ()  # of the second, third, ...
    calls: int = 0  # images that networks were asked about, since the run began or was resumed
    peak_memory: int = 0  # bytes: of the device on CUDA, else of the process


Logged = StepDone | Saved | Applied | Refused | Resumed | PhaseBegun | Ended
Event = StepDone | Preview | Saved | Applied | Refused | Paused | Resumed | PhaseBegun | Ended
Callback = Callable[[Event], None]


def line_of(event: Logged) -> str:
    """Return an event as a line of the log; the scenes themselves are left out."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name not in ("result", "others")}
    if isinstance(event, StepDone):
        if event.particle is None:
            del values["particle"]
        if event.inner == 1:
            del values["inner"]
        values["timing"] = {k: round(v, 5) for k, v in dataclasses.asdict(event.timing).items()}
    if isinstance(event, Applied | Refused):
        values["command"] = {"name": type(event.command).__name__, **dataclasses.asdict(event.command)}
    return json.dumps({"event": type(event).__name__, **values})
