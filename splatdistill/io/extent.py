"""Extent of splats but for strays: the box and the sphere around what is visible; and an order of places.

All of it is computed in double precision, since objects may lie far from the origin.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splatdistill.gaussians import Gaussians, rotation_matrices

STRAY = 0.002  # of what is visible may stick out of the box on each side
BITS = 10  # of a coordinate along the curve
MOST = 0.9  # of the splats are within the bulk's radius
FAR = 20.0  # radii of the bulk beyond which a splat is a stray, and above which it is oversized


@dataclass(frozen=True)
class Bulk:
    """Bounds of most of an object, by medians: a few splats do not change them, wherever they lie and however large they are."""

    middle: Float[Tensor, "3"]
    radius: float  # that MOST of the centres are within, at least the median size
    size: float  # median of the splats' longest axes


def bulk(g: Gaussians) -> Bulk:
    """Return where most of the splats are."""
    means, sizes = g.means.double(), g.scales.double().amax(1)
    middle = means.median(0).values
    size = sizes.median().item()
    far = (means - middle).norm(dim=1).sort().values
    return Bulk(middle, max(far[math.ceil(MOST * (len(far) - 1))].item(), size, 1e-30), size)


def strays(g: Gaussians) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return which splats lie more than FAR radii from the bulk, and which others are larger than that."""
    most = bulk(g)
    away = ~((g.means.double() - most.middle).norm(dim=1) <= FAR * most.radius)
    return away, ~(g.scales.double().amax(1) <= FAR * most.radius) & ~away


def importance(g: Gaussians) -> Float[Tensor, " n"]:
    """Return how much of a picture a splat can fill: its opacity times its two longest axes."""
    return g.opacities.double() * g.scales.double().sort(dim=1, descending=True).values[:, :2].prod(1)


def box(g: Gaussians) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Return the least and the greatest corner: splats reach one standard deviation from their centres and count by
    importance; strays, and a small share of the rest, do not count. In the precision of the means.
    """
    away, large = strays(g)
    kept = g[~(away | large)]
    reach = (rotation_matrices(kept.quats) * kept.scales[:, None, :]).square().sum(2).sqrt().double()
    weight, means = importance(kept), kept.means.double()
    corners = -_farthest(-means + reach, weight), _farthest(means + reach, weight)
    return corners[0].to(g.means.dtype), corners[1].to(g.means.dtype)


def sphere(g: Gaussians) -> tuple[Float[Tensor, "3"], float]:
    """Return the middle of the box, and the distance from there that holds all but strays."""
    low, high = box(g)
    middle = 0.5 * (low + high)
    away, large = strays(g)
    kept = g[~(away | large)]
    far = (kept.means - middle).norm(dim=1).double() + kept.scales.amax(1).double()
    return middle, max(_farthest(far[:, None], importance(kept)).item(), 1e-6)


def centred(g: Gaussians) -> tuple[Gaussians, float]:
    """Return the splats with their middle at the origin, in single precision, and the radius that holds all but strays."""
    middle, radius = sphere(g)
    return replace(g, means=g.means - middle).to(dtype=torch.float32), radius


def fitting(radius: float, fov: float, room: float = 1.02) -> float:
    """Return the distance from which a sphere of this radius fills a square picture, but for some room; fov in degrees."""
    return room * radius / math.sin(math.radians(fov / 2))


def along_a_curve(places: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """Return an order in which neighbours in space are neighbours: along Morton's curve."""
    low, high = places.min(0), places.max(0)
    cell = ((places - low) / np.where(high > low, high - low, 1) * (2**BITS - 1)).astype(np.int64)
    code = sum((cell[:, axis] >> bit & 1) << (3 * bit + axis) for bit in range(BITS) for axis in range(3))
    return np.argsort(code, kind="stable")


def _farthest(places: Float[Tensor, "n k"], weight: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
    """Return along each axis the place beyond which no more than STRAY of the weight lies."""
    found = []
    for axis in places.unbind(1):
        order = axis.argsort()
        cumulated = weight[order].double().cumsum(0)
        index = torch.searchsorted(cumulated, (1 - STRAY) * cumulated[-1]).clamp_max(len(order) - 1)
        found.append(axis[order[index]])
    return torch.stack(found)
