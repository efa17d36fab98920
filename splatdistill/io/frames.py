"""Our world and the one that viewers of .ply files expect.

Ours: z up, front along +x, +y to the right of whoever looks at the front. Theirs, from COLMAP: x right, y down,
z away from the viewer, so that the front looks along -z. SuperSplat turns files by 180 degrees about z when it loads
them, pages on three.js (Spark, GaussianSplats3D) are told to by 180 degrees about x; both then have y up.

Where their cameras stand by default: Spark's examples and GaussianSplats3D's `Viewer` look straight at the front,
SuperSplat's viewer, with its default settings for objects, from azimuth -45. The cameras of SuperSplat's editor and of
GaussianSplats3D's demos stand on the other side and see the back: no one file faces them all, and `facing=180` serves
those.

Other programs have worlds of their own, and importers that take a file's numbers as they are; `Up` names them:

    blender   z up, the front along -y, as Blender's front view sees it
    unity     y up, the front along +z, left-handed
    unreal    z up, the front along +x, left-handed; lengths in centimetres are up to the scale
    gltf      y up, the front along +z: what glTF, .obj files and .spz (which calls it RUB) prescribe
"""

import math
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import sh
from splatdistill.gaussians import Gaussians

Up = Literal["viewer", "raw", "blender", "unity", "unreal", "gltf"]
Quaternion = tuple[float, float, float, float]  # wxyz, unit

ROWS: dict[Up, tuple[tuple[int, int, int], ...]] = {  # of the matrix from our world to another
    "viewer": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "raw": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "blender": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "unity": ((0, -1, 0), (0, 0, 1), (1, 0, 0)),
    "unreal": ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "gltf": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
}


def into(up: Up, facing: float = 0.0) -> Float[Tensor, "3 3"]:
    """Return the orthogonal matrix from our world to another, float64, after which azimuth `facing` (degrees) is the front
    there; of determinant -1 where that world is left-handed.
    """
    a = math.radians(-facing)
    turn = torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]], dtype=torch.float64)
    return torch.tensor(ROWS[up], dtype=torch.float64) @ turn


def placed(gaussians: Gaussians, world: Float[Tensor, "3 3"]) -> Gaussians:
    """Move all of it through an orthogonal matrix M, which may mirror: M mu, covariances M Sigma M^T, and colours seen along
    M d as they were along d. A mirroring M turns Gaussians as -M does, for they are symmetric about their centres.
    """
    proper = world * torch.linalg.det(world).sign()
    return replace(
        gaussians,
        means=gaussians.means @ world.T.to(gaussians.means),
        quats=torch.stack(_product(quaternion(proper), gaussians.quats.unbind(1)), 1),
        sh=sh.rotate(gaussians.sh, world),
    )


def quaternion(rotation: Float[Tensor, "3 3"]) -> Quaternion:
    """Return the unit quaternion of a rotation matrix, by its largest component, where nothing cancels."""
    r = rotation.tolist()
    trace = r[0][0] + r[1][1] + r[2][2]
    fourfold = [1 + trace, *(1 - trace + 2 * r[i][i] for i in range(3))]  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    mixed = [
        [fourfold[0], r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]],
        [r[2][1] - r[1][2], fourfold[1], r[0][1] + r[1][0], r[0][2] + r[2][0]],
        [r[0][2] - r[2][0], r[0][1] + r[1][0], fourfold[2], r[1][2] + r[2][1]],
        [r[1][0] - r[0][1], r[0][2] + r[2][0], r[1][2] + r[2][1], fourfold[3]],
    ]
    row = mixed[max(range(4), key=lambda i: fourfold[i])]
    length = math.hypot(*row)
    return row[0] / length, row[1] / length, row[2] / length, row[3] / length


def _product(a: tuple, b: tuple) -> tuple:
    """Return Hamilton's product of quaternions wxyz, of numbers or of tensors."""
    w, x, y, z = a
    v, i, j, k = b
    return (
        w * v - x * i - y * j - z * k,
        w * i + x * v + y * k - z * j,
        w * j - x * k + y * v + z * i,
        w * k + x * j - y * i + z * v,
    )
