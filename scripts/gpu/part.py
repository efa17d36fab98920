"""A part of the measurement, and where it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Where:
    """Folder of the results, and the size of the measurements."""

    out: Path
    small: bool
    """A rehearsal: on the CPU, with everything small."""

    @property
    def device(self) -> str:
        """Return the device under test."""
        return "cpu" if self.small else "cuda"

    def wait(self) -> None:
        """Wait for the device to be idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], object], repeats: int, warm: int = 1) -> float:
        """Return milliseconds of one call, by CUDA's events on a GPU."""
        for _ in range(warm):
            work()
        if self.device == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            for _ in range(repeats):
                work()
            last.record()
            torch.cuda.synchronize()
            return first.elapsed_time(last) / repeats
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        return 1e3 * (time.perf_counter() - began) / repeats

    def peak(self, work: Callable[[], object]) -> float:
        """Return GiB at the peak of one call, beyond what was there before; nan where nothing counts them."""
        if self.device != "cuda":
            work()
            return float("nan")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**30


@dataclass(frozen=True)
class Part:
    """Part of the measurements: its function, and its time limit."""

    name: str
    run: Callable[[Where], dict[str, Any]]
    limit: float
    renders: bool = False
    """It needs the rasteriser, and waits for its build."""
    background: bool = False
