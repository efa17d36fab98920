"""Clock of a step's stages that a card is not waited for."""

import time
from typing import Literal

import torch

from splatdistill.train.events import Timing

Stage = Literal["render", "guidance", "backward"]


class Clock:
    """Clock that tells how long each stage of a step took: on a CPU by its own clock, on CUDA by events in the card's queue, which
    have times of their own: the CPU only queues the work and is away at once, so that its clock would count everything to the stage
    that first waits.
    """

    def __init__(self, device: torch.device) -> None:
        """Start the clock."""
        self.device = device
        self.laps: list[tuple[Stage, float | torch.cuda.Event]] = []
        self.began, self.start = time.perf_counter(), self.now()

    def now(self) -> "float | torch.cuda.Event":
        """Return this moment: seconds, or an event in the card's queue."""
        if self.device.type != "cuda":
            return time.perf_counter()
        with torch.cuda.device(self.device):
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        return event

    def lap(self, stage: Stage) -> None:
        """Add the time since the last lap to a stage."""
        self.laps.append((stage, self.now()))

    def timing(self) -> Timing:
        """Return the seconds of each stage, and what is left of the CPU's own time. Waits for the last lap, which is done where the
        step's numbers have been read, and not for what the card does after it.
        """
        spent, before = dict.fromkeys(("render", "guidance", "backward"), 0.0), self.start
        for stage, moment in self.laps:
            spent[stage] += between(before, moment)
            before = moment
        return Timing(**spent, rest=max(0.0, time.perf_counter() - self.began - sum(spent.values())))


def between(first: "float | torch.cuda.Event", last: "float | torch.cuda.Event") -> float:
    """Return the seconds from one moment to another."""
    if isinstance(first, torch.cuda.Event):
        assert isinstance(last, torch.cuda.Event)
        last.synchronize()
        return first.elapsed_time(last) / 1e3
    assert not isinstance(last, torch.cuda.Event)
    return last - first
