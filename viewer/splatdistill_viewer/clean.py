"""Tools that tidy finished splats. Each says which splats stay; nothing is changed until a file is written."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splatdistill.gaussians import Gaussians

ROWS = 2048  # distances are computed for so many splats at a time


@dataclass(frozen=True)
class Cleaning:
    """Rules by which splats are removed; the defaults remove nothing."""

    low: tuple[float, float, float] = (-math.inf, -math.inf, -math.inf)
    """The crop box's least corner, world units; splats whose centre is outside go."""
    high: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    """Its greatest corner."""
    opacity: float = 0.0
    """Splats less opaque than this go."""
    needle: float | None = None
    """Splats whose longest axis is more than so many times the middle one go; discs stay."""
    floater: float | None = None
    """Splats whose distance to their nearest others is more than so many times the median of all go."""
    neighbours: int = 8
    """A floater is far from so many others."""

    def keep(self, g: Gaussians) -> Bool[Tensor, " n"]:
        """Return a mask (n,) of the splats that stay. Floaters are judged among those that the other rules leave."""
        low, high = (torch.tensor(c, dtype=g.means.dtype) for c in (self.low, self.high))
        stays = ((g.means >= low) & (g.means <= high)).all(1) & (g.opacities >= self.opacity)
        if self.needle is not None:
            longest, middle = g.scales.sort(dim=1, descending=True).values[:, :2].unbind(1)
            stays &= longest <= self.needle * middle
        if self.floater is not None and int(stays.sum()) > self.neighbours:
            rows = torch.nonzero(stays)[:, 0]
            stays = stays.clone()
            stays[rows] = ~floating(g.means[rows], self.floater, self.neighbours)
        return stays


def floating(points: Float[Tensor, "n 3"], times: float, neighbours: int) -> Bool[Tensor, " n"]:
    """Return a mask of the points (n,3) whose mean distance to their nearest neighbours is more than `times` the median of that."""
    far = torch.cat([torch.cdist(rows, points).topk(neighbours + 1, largest=False).values[:, 1:].mean(1) for rows in points.split(ROWS)])
    return far > times * far.median().clamp_min(1e-12)
