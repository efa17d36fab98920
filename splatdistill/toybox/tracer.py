"""Sphere tracing of toybox objects on the CPU: rgb, alpha, depth and normals from any camera.

Signed distance functions as in Hart, "Sphere tracing" (The Visual Computer, 1996). All kernels live in this one file, so that
the on-disk cache of the compiled code notices every edit.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numba import njit
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.toybox.drawing import FAST, LIGHT, Truth, drawn
from splatdistill.toybox.parts import Part, table

REACH = 1.1  # no object leaves this distance from the origin; rays start there


@njit(**FAST)
def _distance(part, x, y, z):
    """Return the signed distance from one part (exact, or a bound that never overshoots)."""
    x -= part[2]
    y -= part[3]
    z -= part[4]
    shape, axis = int(part[0]), int(part[1])
    a, b, c = part[5], part[6], part[7]
    if axis == 1:  # along x: turn it into z
        x, y, z = y, z, x
    elif axis == 2:  # along y
        x, y, z = x, -z, y
    if shape == 0:  # ball
        return math.sqrt(x * x + y * y + z * z) - a
    if shape == 1:  # box with slightly rounded edges
        r = 0.02
        qx, qy, qz = abs(x) - a + r, abs(y) - b + r, abs(z) - c + r
        mx, my, mz = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
        return math.sqrt(mx * mx + my * my + mz * mz) + min(max(qx, max(qy, qz)), 0.0) - r
    q = math.sqrt(x * x + y * y)
    if shape == 2:  # cylinder
        d, h = q - a, abs(z) - b
        md, mh = max(d, 0.0), max(h, 0.0)
        return min(max(d, h), 0.0) + math.sqrt(md * md + mh * mh)
    if shape == 3:  # capped cone, radius a at -b and c at +b: the nearest of side and caps
        dx, dz = c - a, 2.0 * b
        u = min(max(((q - a) * dx + (z + b) * dz) / (dx * dx + dz * dz), 0.0), 1.0)
        sx, sz = q - (a + u * dx), z + b - u * dz
        cap = a if z < 0 else c
        cx, cz = max(q - cap, 0.0), abs(z) - b
        inside = cz < 0 and (q - a) * dz - (z + b) * dx < 0
        d = math.sqrt(min(sx * sx + sz * sz, cx * cx + cz * cz))
        return -d if inside else d
    if shape == 4:  # donut
        r = q - a
        return math.sqrt(r * r + z * z) - b
    if shape == 5:  # capsule
        z -= min(max(z, -b), b)
        return math.sqrt(x * x + y * y + z * z) - a
    if shape == 6:  # ellipsoid, first-order
        k0 = math.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        k1 = math.sqrt((x / a / a) ** 2 + (y / b / b) ** 2 + (z / c / c) ** 2) + 1e-9
        return k0 * (k0 - 1.0) / k1
    return _prism(x, y, z, a, b, c, axis)


@njit(**FAST)
def _prism(x, y, z, a, b, c, axis):
    """Return the signed distance from a triangular prism: base half width a, half height b, half length c; the apex points to world +z."""
    if axis == 1:  # ridge along x: (x, y, z) arrived as (y, z, x)
        across, up, along = x, y, z
    else:  # ridge along y: arrived as (x, -z, y)
        across, up, along = x, -y, z
    s = 1.0 / math.sqrt(a * a + 4.0 * b * b)
    slope = (abs(across) * 2.0 * b + (up - b) * a) * s
    return max(max(slope, -(up + b)), abs(along) - c)


@njit(**FAST)
def _nearest(parts, x, y, z):
    """Return the distance to the object, and the index of the nearest part."""
    best, which = 1e9, 0
    for i in range(parts.shape[0]):
        d = _distance(parts[i], x, y, z)
        if d < best:
            best, which = d, i
    return best, which


@njit(**FAST)
def _painted(part, x, y, z):
    """Return 1 where the pattern's second colour shows, else 0."""
    pattern = int(part[8])
    if pattern == 1:
        return 1.0 if math.sin(20.0 * (z - part[4])) > 0 else 0.0
    if pattern == 2:
        k = math.floor(x * 4.0 + 100.5) + math.floor(y * 4.0 + 100.5) + math.floor(z * 4.0 + 100.5)
        return 1.0 if k % 2 == 0 else 0.0
    if pattern == 3:
        return 1.0 if math.sin(12.0 * x) * math.sin(12.0 * y) * math.cos(11.0 * (z - part[4])) > 0.22 else 0.0
    return 0.0


@njit(**FAST)
def _trace(parts, pose, k, eye, light, samples, sums):
    """Add up one view's samples; see drawing.Draw."""
    ox, oy, oz = eye
    far = math.sqrt(ox * ox + oy * oy + oz * oz)
    pixel = 1.0 / k[0, 0] / samples
    for i in range(sums.shape[1]):
        for j in range(sums.shape[2]):
            acc = sums[:, i, j]
            for s in range(samples * samples):
                u = (j + (s % samples + 0.5) / samples - k[0, 2]) / k[0, 0]
                v = (i + (s // samples + 0.5) / samples - k[1, 2]) / k[1, 1]
                dx = pose[0, 0] * u + pose[1, 0] * v + pose[2, 0]
                dy = pose[0, 1] * u + pose[1, 1] * v + pose[2, 1]
                dz = pose[0, 2] * u + pose[1, 2] * v + pose[2, 2]
                n = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx * n, dy * n, dz * n
                mid = -(ox * dx + oy * dy + oz * dz)  # nearest approach to the origin
                miss = far * far - mid * mid
                hit, which, t = False, 0, 0.0
                if miss < REACH * REACH:
                    half = math.sqrt(REACH * REACH - miss)
                    t = max(mid - half, 0.0)
                    for _ in range(96):
                        d, which = _nearest(parts, ox + t * dx, oy + t * dy, oz + t * dz)
                        if d < 0.2 * pixel * t:
                            hit = True
                            break
                        t += d * 0.95
                        if t > mid + half:
                            break
                if not hit:
                    continue
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                e = 1e-3
                gx = _nearest(parts, x + e, y, z)[0] - _nearest(parts, x - e, y, z)[0]
                gy = _nearest(parts, x, y + e, z)[0] - _nearest(parts, x, y - e, z)[0]
                gz = _nearest(parts, x, y, z + e)[0] - _nearest(parts, x, y, z - e)[0]
                g = 1.0 / math.sqrt(gx * gx + gy * gy + gz * gz + 1e-20)
                gx, gy, gz = gx * g, gy * g, gz * g
                openness = min(max(_nearest(parts, x + 0.12 * gx, y + 0.12 * gy, z + 0.12 * gz)[0] / 0.12, 0.0), 1.0)
                shade = (light[0] * gx + light[1] * gy + light[2] * gz + light[3]) * (light[4] * openness + light[5])
                part = parts[which]
                m = _painted(part, x, y, z)
                for ch in range(3):
                    acc[ch] += min(shade * (part[9 + ch] * (1.0 - m) + part[12 + ch] * m), 1.0)
                acc[3] += 1.0
                acc[4] += t * n  # the ray has unit z before normalisation
                acc[5] += gx
                acc[6] += gy
                acc[7] += gz


def render(
    objects: Sequence[Sequence[Part]],
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None = None,
    samples: int = 3,
    threads: int | None = None,
) -> Truth:
    """Trace object i from camera i (one object: from every camera).

    background: (b,3) in [0,1], white by default. samples: per pixel side. threads: all cores by default.
    """

    def trace(parts: np.ndarray, pose: np.ndarray, k: np.ndarray, eye: np.ndarray, sums: np.ndarray) -> None:
        _trace(parts, pose, k, eye, LIGHT, samples, sums)

    return drawn(trace, [table(list(parts)) for parts in objects], cameras, background, samples, threads)
