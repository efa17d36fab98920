"""Splats that the viewer's tests look at."""

import dataclasses

import torch

from splatdistill.gaussians import Gaussians
from splatdistill.scene.initial import Ball


def some(n: int = 50, scale: float | None = None, seed: int = 0) -> Gaussians:
    """Return rotated ellipsoids in a ball."""
    rng = torch.Generator().manual_seed(seed)
    g = Ball(count=n, scale=scale, colour="random").make(rng)
    quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1)
    return dataclasses.replace(g, quats=quats, scales=g.scales * (0.3 + torch.rand(n, 3, generator=rng)))
