"""Splats as a browser wants them, and the single slot through which they go from the run to the page."""

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from splatdistill.gaussians import Gaussians, rotation_matrices

SMALLEST = 1e-3
"""Standard deviations below this (world units) are shown as this. The page receives covariances in half precision, whose
least value is 6e-8: 1e-4 squared would be nothing at all, and 1e-3 is a third of a pixel anyway.
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """Splats after a step, on the CPU, in float32."""

    step: int
    centers: np.ndarray  # (n,3)
    covariances: np.ndarray  # (n,3,3)
    rgbs: np.ndarray  # (n,3), the constant band, in [0, 1]
    opacities: np.ndarray  # (n,1)

    def __len__(self) -> int:
        return len(self.centers)

    def thinned(self, most: int) -> "Snapshot":
        """Return at most `most` of the splats, spread evenly over their order and enlarged to cover the same volume."""
        n = len(self)
        if n <= most:
            return self
        rows = np.linspace(0, n - 1, most).round().astype(np.int64)
        wider = np.float32((n / most) ** (2 / 3))  # the same volume covered; covariances go with the square
        return Snapshot(self.step, self.centers[rows], self.covariances[rows] * wider, self.rgbs[rows], self.opacities[rows])


@torch.no_grad()
def snapshot(g: Gaussians, step: int = 0) -> Snapshot:
    """Return the splats of Gaussians on the CPU, in the page's format; rows with non-finite values are left out."""
    g = g.detach()
    axes = rotation_matrices(g.quats) * g.scales.clamp_min(SMALLEST)[:, None]
    packed = torch.cat([g.means, (axes @ axes.mT).flatten(1), g.rgb.clamp(0, 1), g.opacities[:, None]], 1)
    values = packed.float().cpu().numpy()  # one copy from the device
    good = np.isfinite(values).all(1)
    values = values if good.all() else values[good]
    return Snapshot(step, values[:, :3], values[:, 3:12].reshape(-1, 3, 3), values[:, 12:15], values[:, 15:])


def adjusted(g: Gaussians, size: float = 1.0, cutoff: float = 0.0) -> Gaussians:
    """Return the Gaussians with their sizes multiplied by `size`, without those of an opacity below `cutoff`."""
    if cutoff > 0:
        g = g[g.opacities >= cutoff]
    return g if size == 1 else Gaussians(g.means, g.quats, g.scales * size, g.opacities, g.sh)


class Slot(Generic[T]):
    """Slot for one value: a new value replaces one that nobody has taken. Nothing queues, and putting never waits."""

    def __init__(self) -> None:
        self._there = threading.Condition()
        self._value: T | None = None

    def put(self, value: T) -> None:
        """Set the newest value, in place of one that nobody has taken."""
        with self._there:
            self._value = value
            self._there.notify()

    def take(self, seconds: float) -> T | None:
        """Return the value and empty the slot, after waiting at most `seconds`; None if none came."""
        with self._there:
            if self._value is None:
                self._there.wait(seconds)
            value, self._value = self._value, None
            return value

    @property
    def full(self) -> bool:
        """Return whether there is a value that nobody has taken."""
        return self._value is not None
