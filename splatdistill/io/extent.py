"""Where splats are, but for strays: the box and the sphere around what is visible; and an order of places."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdistill.gaussians import Gaussians, rotation_matrices

STRAY = 0.002  # of what is visible may stick out of the box on each side
BITS = 10  # of a coordinate along the curve


def importance(g: Gaussians) -> Float[Tensor, " n"]:
    """How much of a picture a splat can fill: its opacity times its two longest axes."""
    return g.opacities * g.scales.sort(dim=1, descending=True).values[:, :2].prod(1)


def box(g: Gaussians) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """The least and the greatest corner: splats reach one standard deviation from their centres and count by
    importance, and a few strays do not count.
    """
    reach = (rotation_matrices(g.quats) * g.scales[:, None, :]).square().sum(2).sqrt()
    weight = importance(g)
    return -_farthest(-g.means + reach, weight), _farthest(g.means + reach, weight)


def sphere(g: Gaussians) -> tuple[Float[Tensor, "3"], float]:
    """The middle of the box, and the distance from there that holds all but strays."""
    low, high = box(g)
    middle = 0.5 * (low + high)
    far = (g.means - middle).norm(dim=1) + g.scales.amax(1)
    return middle, max(_farthest(far[:, None], importance(g)).item(), 1e-6)


def along_a_curve(places: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """An order in which neighbours in space are neighbours: along Morton's curve."""
    low, high = places.min(0), places.max(0)
    cell = ((places - low) / np.where(high > low, high - low, 1) * (2**BITS - 1)).astype(np.int64)
    code = sum((cell[:, axis] >> bit & 1) << (3 * bit + axis) for bit in range(BITS) for axis in range(3))
    return np.argsort(code, kind="stable")


def _farthest(places: Float[Tensor, "n k"], weight: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
    """Along each axis the place beyond which no more than STRAY of the weight lies."""
    found = []
    for axis in places.unbind(1):
        order = axis.argsort()
        cumulated = weight[order].double().cumsum(0)
        index = torch.searchsorted(cumulated, (1 - STRAY) * cumulated[-1]).clamp_max(len(order) - 1)
        found.append(axis[order[index]])
    return torch.stack(found)
