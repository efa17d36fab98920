"""Our world and the one that viewers of .ply files expect.

Ours: z up, front along +x, +y to the right of whoever looks at the front. Theirs, from COLMAP: x right, y down,
z away from the viewer, so that the front looks along -z. SuperSplat turns files by 180 degrees about z when it loads
them, pages on three.js (Spark, GaussianSplats3D) are told to by 180 degrees about x; both then have y up.

Where their cameras stand by default: Spark's examples and GaussianSplats3D's `Viewer` look straight at the front,
SuperSplat's viewer, with its default settings for objects, from azimuth -45. The cameras of SuperSplat's editor and of
GaussianSplats3D's demos stand on the other side and see the back: no one file faces them all, and `facing=180` serves
those.
"""

import math
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import sh
from splatdistill.gaussians import Gaussians

Up = Literal["viewer", "raw"]
Quaternion = tuple[float, float, float, float]  # wxyz, unit

VIEWER: Quaternion = (0.5, 0.5, 0.5, -0.5)  # (x, y, z) -> (y, -z, -x)


def to_viewer(facing: float = 0.0) -> Quaternion:
    """The rotation from our world to the viewers', after which azimuth `facing` (degrees) looks at the viewer."""
    half = math.radians(-facing) / 2
    return _product(VIEWER, (math.cos(half), 0.0, 0.0, math.sin(half)))


def inverse(q: Quaternion) -> Quaternion:
    """The rotation back."""
    return q[0], -q[1], -q[2], -q[3]


def matrix(q: Quaternion) -> Float[Tensor, "3 3"]:
    """The rotation matrix of a unit quaternion, float64."""
    w, x, y, z = q
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def rotated(gaussians: Gaussians, q: Quaternion) -> Gaussians:
    """All of it turned about the origin: R mu, q q_i, and colours seen along R d as they were along d."""
    rotation = matrix(q)
    return replace(
        gaussians,
        means=gaussians.means @ rotation.T.to(gaussians.means),
        quats=torch.stack(_product(q, gaussians.quats.unbind(1)), 1),
        sh=sh.rotate(gaussians.sh, rotation),
    )


def _product(a: tuple, b: tuple) -> tuple:
    """Hamilton's product of quaternions wxyz, of numbers or of tensors."""
    w, x, y, z = a
    v, i, j, k = b
    return (
        w * v - x * i - y * j - z * k,
        w * i + x * v + y * k - z * j,
        w * j - x * k + y * v + z * i,
        w * k + x * j - y * i + z * v,
    )
