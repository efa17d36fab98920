"""Shape in a picture as a frozen network estimates it, and distances between two such estimates.

Conventions: inverse depth is relative, larger is nearer, known up to a factor and a shift; normals are unit vectors
in OpenCV camera axes (x right, y down, z away from the camera), facing the camera; foreground is in [0,1].
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Kind = Literal["depth", "normal", "segment"]


@dataclass(frozen=True)
class Geometry:
    """Maps in the resolution of the picture; None for those that the network does not estimate."""

    inverse_depth: Float[Tensor, "b 1 h w"] | None = None
    normal: Float[Tensor, "b 3 h w"] | None = None
    foreground: Float[Tensor, "b 1 h w"] | None = None


@runtime_checkable
class GeometryEstimator(Protocol):
    """Interface of a frozen network from pictures to maps, differentiable in the pictures."""

    name: str  # goes beside every figure
    tells: frozenset[Kind]  # which maps it gives

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Geometry:
        """Return the maps of pictures in about [0,1]; decoded noise may leave that range, and is not clamped."""
        ...


def geometry_of(maps: Float[Tensor, "b 5 h w"]) -> Geometry:
    """Return the maps of GeometryNet, whose values are premultiplied by the foreground."""
    return Geometry(maps[:, :1], unit(maps[:, 1:4]), maps[:, 4:].sigmoid())


def unit(v: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return vectors of length one; those near zero stay short, so that no gradient grows without bound."""
    return v * (v.square().sum(1, keepdim=True) + 1e-4).rsqrt()


def correlation(
    a: Float[Tensor, "b 1 h w"], b: Float[Tensor, "b 1 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Return Pearson's correlation over weighted pixels, in [-1,1]: blind to factor and shift. 0 where a map is flat or
    nothing has weight.
    """
    w = weight / weight.sum((1, 2, 3), keepdim=True).clamp(min=1e-8)
    a, b = (v - (w * v).sum((1, 2, 3), keepdim=True) for v in (a, b))
    covariance, va, vb = ((w * p).sum((1, 2, 3)) for p in (a * b, a * a, b * b))
    return covariance * (va * vb + 1e-12).rsqrt()


def cosine(
    a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Return the mean cosine between vectors over weighted pixels."""
    c = (unit(a) * unit(b)).sum(1, keepdim=True)
    return (weight * c).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-8)


def angle(
    a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Return the mean angle between vectors over weighted pixels, degrees."""
    c = (F.normalize(a, dim=1) * F.normalize(b, dim=1)).sum(1, keepdim=True).clamp(-1, 1).arccos().rad2deg()
    return (weight * c).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-8)


def overlap(a: Float[Tensor, "b 1 h w"], b: Float[Tensor, "b 1 h w"], level: float = 0.5) -> Float[Tensor, " b"]:
    """Return the intersection over union of what is above a level in each."""
    a, b = a > level, b > level
    return (a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)


def normal_of_inverse_depth(
    inverse_depth: Float[Tensor, "b 1 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Return camera normals from the spatial derivatives of relative inverse depth, as SteinDreamer takes MiDaS's.

    Scale and shift mean nothing, so the map is first given mean 0 and variance 1 over weighted pixels. It is then read
    as a relief, nearer is higher, of which one unit is an eighth of the picture's width: normal ~ (-d_u, -d_v, -1) with
    u right and v down. The same relief from both maps that are to be compared; not true normals.
    """
    w = weight / weight.sum((1, 2, 3), keepdim=True).clamp(min=1e-8)
    d = inverse_depth - (w * inverse_depth).sum((1, 2, 3), keepdim=True)
    d = d * ((w * d * d).sum((1, 2, 3), keepdim=True) + 1e-12).rsqrt() * (d.shape[-1] / 8)
    return unit(torch.cat([-torch.gradient(d, dim=3)[0], -torch.gradient(d, dim=2)[0], -torch.ones_like(d)], 1))
