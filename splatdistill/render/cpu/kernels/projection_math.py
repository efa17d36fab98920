"""The mathematics of projecting 16 Gaussians at once: EWA splatting (Zwicker et al. 2001), as 3DGS (arXiv 2308.04079).

With the camera's rotation W, the Gaussian's rotation R(q) and scales S = diag(s), and the perspective's Jacobian J
at the mean, the screen covariance is  (J W R S)(J W R S)^T + BLUR I.  All of it is written as the 2 x 3 matrix
F = J W R S, whose rows give covariance and, in the backward pass, every gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from splatdistill.render import BLUR
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.simd import Mask, Simd, Vec

Matrix = list[Vec]  # 3 x 3, row major


@dataclass(frozen=True)
class Rotations:
    """Rotation matrices R(q) of 16 quaternions of any length."""

    matrix: Matrix
    unit: list[Vec]  # q / |q|, wxyz
    inverse_norm: Vec


def rotations(s: Simd, quats: Sequence[Vec]) -> Rotations:
    """Return R(q / |q|)."""
    inverse_norm = 1.0 / s.maximum(s.sqrt(s.dot(quats, quats)), 1e-12)
    w, x, y, z = unit = [c * inverse_norm for c in quats]
    matrix = [
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    ]  # fmt: skip
    return Rotations(matrix, unit, inverse_norm)


@dataclass(frozen=True)
class CameraLanes:
    """Scalars of one camera, each in every lane."""

    rotation: Matrix
    translation: list[Vec]
    focal: list[Vec]
    centre: list[Vec]
    limits: list[Vec]
    size: list[Vec]
    position: list[Vec]


def camera(s: Simd, cameras: ir.Value, start: ir.Value) -> CameraLanes:
    """Load the camera whose scalars begin at cameras[start]."""
    v = [s.broadcast(cameras, s.index(start, j)) for j in range(layout.CAMERA)]
    pairs = [v[i : i + 2] for i in (layout.FOCAL, layout.CENTRE, layout.SIZE)]
    return CameraLanes(v[:9], v[9:12], pairs[0], pairs[1], v[16:20], pairs[2], v[layout.POSITION :])


@dataclass(frozen=True)
class Projected:
    """16 Gaussians as one camera sees them, with the intermediates that the gradient needs."""

    point: list[Vec]  # mean in camera axes
    inverse_z: Vec
    inside: list[Mask]  # x/z, y/z within the limits where the linearisation is not clamped
    tangent: list[Vec]  # x/z, y/z clamped to the limits
    jacobian: list[Vec]  # J's entries xx, yy, xz, yz
    turned: Matrix  # W R S
    factor: list[list[Vec]]  # F = J W R S, two rows
    mean: list[Vec]  # pixels
    covariance: list[Vec]  # xx, xy, yy with BLUR
    conic: list[Vec]  # its inverse


def project(s: Simd, cam: CameraLanes, mean: Sequence[Vec], rotation: Matrix, scales: Sequence[Vec]) -> Projected:
    """Project; the Jacobian is taken at the mean clamped to the image plus 30 % of the half field of view."""
    w = cam.rotation
    point = [s.fma(w[r], mean[0], s.fma(w[r + 1], mean[1], s.fma(w[r + 2], mean[2], t)))
             for r, t in zip((0, 3, 6), cam.translation)]  # fmt: skip
    inverse_z = 1.0 / point[2]
    ratio = [p * inverse_z for p in point[:2]]
    lows, highs = cam.limits[::2], cam.limits[1::2]
    inside = [(r >= low) & (r <= high) for r, low, high in zip(ratio, lows, highs)]
    tangent = [s.minimum(s.maximum(r, low), high) for r, low, high in zip(ratio, lows, highs)]
    jxx, jyy = (f * inverse_z for f in cam.focal)
    jxz, jyz = -(jxx * tangent[0]), -(jyy * tangent[1])
    stretched = [rotation[3 * i + j] * scales[j] for i in range(3) for j in range(3)]
    turned = [s.dot(w[3 * i : 3 * i + 3], stretched[j::3]) for i in range(3) for j in range(3)]
    fx = [s.fma(jxx, turned[j], jxz * turned[6 + j]) for j in range(3)]
    fy = [s.fma(jyy, turned[3 + j], jyz * turned[6 + j]) for j in range(3)]
    xx, xy, yy = s.dot(fx, fx) + BLUR, s.dot(fx, fy), s.dot(fy, fy) + BLUR
    inverse_det = 1.0 / s.maximum(xx * yy - xy * xy, 1e-10)
    return Projected(
        point=point,
        inverse_z=inverse_z,
        inside=inside,
        tangent=tangent,
        jacobian=[jxx, jyy, jxz, jyz],
        turned=turned,
        factor=[fx, fy],
        mean=[s.fma(f, r, c) for f, r, c in zip(cam.focal, ratio, cam.centre)],
        covariance=[xx, xy, yy],
        conic=[yy * inverse_det, -(xy * inverse_det), xx * inverse_det],
    )


@dataclass(frozen=True)
class ShortAxes:
    """World direction of each Gaussian's smallest scale, turned towards the camera."""

    smallest: list[Mask]  # which axis it is; exactly one of three
    sign: Vec  # +-1: the turn
    normal: list[Vec]


def short_axes(s: Simd, cam: CameraLanes, mean: Sequence[Vec], rotation: Matrix, scales: Sequence[Vec]) -> ShortAxes:
    """Return the column of R at the smallest scale (the first of equals), with normal . (mean - camera) <= 0."""
    x, y, z = scales
    first, second = (x <= y) & (x <= z), (y < x) & (y <= z)
    axis = [first.select(rotation[r], second.select(rotation[r + 1], rotation[r + 2])) for r in (0, 3, 6)]
    away = s.dot(axis, [m - p for m, p in zip(mean, cam.position)]) > 0.0
    sign = away.select(-1.0, 1.0)
    third = (z < x) & (z < y)
    return ShortAxes([first, second, third], sign, [sign * a for a in axis])
