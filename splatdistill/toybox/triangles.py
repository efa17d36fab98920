"""Rasterising of triangle meshes on the CPU: rgb, alpha, depth and normals from any camera.

A z-buffer at several samples a pixel finds the nearest face of each sample; the samples of a pixel are then shaded and
averaged. Faces are two-sided: the models at hand have no consistent winding. All kernels live in this one file, so that the
on-disk cache of the compiled code notices every edit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numba import njit
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.toybox.drawing import FAST, LIGHT, Truth, drawn

NEAR = 0.05  # faces that come nearer to the camera's plane are not drawn


@dataclass(frozen=True)
class CornerMesh:
    """Triangles as the rasteriser reads them: all values per corner of a face."""

    corners: np.ndarray  # (faces, 3, 3) float32, world
    normals: np.ndarray  # (faces, 3, 3) float32, unit; either side
    uv: np.ndarray  # (faces, 3, 2) float32; textures repeat
    openness: np.ndarray  # (faces, 3) float32 in [0, 1]: share of the surroundings that the surface sees
    material: np.ndarray  # (faces,) int32
    materials: np.ndarray  # (materials, 6) float32: red, green, blue, first texel or -1, width, height
    texels: np.ndarray  # (texels, 3) uint8, each texture row by row; the material's colour multiplies them


@njit(**FAST)
def _cover(corners, pose, k, height, width, samples, nearest, face):
    """Fill the z-buffer: nearest (h s, w s) holds 1/z, face the face's number or -1."""
    tall, wide = height * samples, width * samples
    fx, fy = k[0, 0] * samples, k[1, 1] * samples
    cx, cy = k[0, 2] * samples - 0.5, k[1, 2] * samples - 0.5  # sample j has its centre at j + 0.5
    for f in range(corners.shape[0]):
        x0, y0, z0 = _project(corners[f, 0], pose, fx, fy, cx, cy)
        x1, y1, z1 = _project(corners[f, 1], pose, fx, fy, cx, cy)
        x2, y2, z2 = _project(corners[f, 2], pose, fx, fy, cx, cy)
        if min(z0, min(z1, z2)) <= 0.0:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        left = max(int(math.ceil(min(x0, min(x1, x2)))), 0)
        right = min(int(math.floor(max(x0, max(x1, x2)))), wide - 1)
        top = max(int(math.ceil(min(y0, min(y1, y2)))), 0)
        bottom = min(int(math.floor(max(y0, max(y1, y2)))), tall - 1)
        if left > right or top > bottom:
            continue
        inv = 1.0 / area
        # barycentric coordinates are affine in the pixel: a step of one pixel adds a constant
        a0, b0 = (y1 - y2) * inv, (x2 - x1) * inv
        a1, b1 = (y2 - y0) * inv, (x0 - x2) * inv
        for i in range(top, bottom + 1):
            w0 = (left - x2) * a0 + (i - y2) * b0
            w1 = (left - x2) * a1 + (i - y2) * b1
            for j in range(left, right + 1):
                w2 = 1.0 - w0 - w1
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    z = w0 * z0 + w1 * z1 + w2 * z2  # 1/z is affine on the screen
                    if z > nearest[i, j]:
                        nearest[i, j] = z
                        face[i, j] = f
                w0 += a0
                w1 += a1


@njit(**FAST)
def _project(point, pose, fx, fy, cx, cy):
    """Sample coordinates of a point, and 1/z; 0 before the near plane."""
    z = pose[2, 0] * point[0] + pose[2, 1] * point[1] + pose[2, 2] * point[2] + pose[2, 3]
    if z < NEAR:
        return 0.0, 0.0, 0.0
    x = pose[0, 0] * point[0] + pose[0, 1] * point[1] + pose[0, 2] * point[2] + pose[0, 3]
    y = pose[1, 0] * point[0] + pose[1, 1] * point[1] + pose[1, 2] * point[2] + pose[1, 3]
    return fx * x / z + cx, fy * y / z + cy, 1.0 / z


@njit(**FAST)
def _texel(row, texels, u, v, ch):
    """Return a texture's channel at (u, v), bilinear and repeated; v points up."""
    first, w, h = int(row[3]), int(row[4]), int(row[5])
    x, y = (u - math.floor(u)) * w - 0.5, (1.0 - (v - math.floor(v))) * h - 0.5
    x0, y0 = int(math.floor(x)), int(math.floor(y))
    p, q = x - x0, y - y0
    x1, y1 = (x0 + 1) % w, (y0 + 1) % h
    x0, y0 = (x0 + w) % w, (y0 + h) % h
    above = texels[first + y0 * w + x0, ch] * (1.0 - p) + texels[first + y0 * w + x1, ch] * p
    below = texels[first + y1 * w + x0, ch] * (1.0 - p) + texels[first + y1 * w + x1, ch] * p
    return (above * (1.0 - q) + below * q) / 255.0


@njit(**FAST)
def _shade(corners, normals, uv, openness, material, materials, texels, pose, k, eye, light, samples, nearest, face, sums):
    """Add up one view's samples; see drawing.Draw. nearest, face: the z-buffer, see `_cover`."""
    ox, oy, oz = eye
    for i in range(sums.shape[1]):
        for j in range(sums.shape[2]):
            acc = sums[:, i, j]
            for s in range(samples * samples):
                row, col = i * samples + s // samples, j * samples + s % samples
                f = face[row, col]
                if f < 0:
                    continue
                z = 1.0 / nearest[row, col]
                xc = ((col + 0.5) / samples - k[0, 2]) / k[0, 0] * z - pose[0, 3]
                yc = ((row + 0.5) / samples - k[1, 2]) / k[1, 1] * z - pose[1, 3]
                zc = z - pose[2, 3]
                x = pose[0, 0] * xc + pose[1, 0] * yc + pose[2, 0] * zc
                y = pose[0, 1] * xc + pose[1, 1] * yc + pose[2, 1] * zc
                w = pose[0, 2] * xc + pose[1, 2] * yc + pose[2, 2] * zc
                # barycentric coordinates of the point in its face
                ax, ay, az = corners[f, 0, 0], corners[f, 0, 1], corners[f, 0, 2]
                e1x, e1y, e1z = corners[f, 1, 0] - ax, corners[f, 1, 1] - ay, corners[f, 1, 2] - az
                e2x, e2y, e2z = corners[f, 2, 0] - ax, corners[f, 2, 1] - ay, corners[f, 2, 2] - az
                px, py, pz = x - ax, y - ay, w - az
                d11, d12 = e1x * e1x + e1y * e1y + e1z * e1z, e1x * e2x + e1y * e2y + e1z * e2z
                d22 = e2x * e2x + e2y * e2y + e2z * e2z
                p1, p2 = px * e1x + py * e1y + pz * e1z, px * e2x + py * e2y + pz * e2z
                det = d11 * d22 - d12 * d12
                b1 = (d22 * p1 - d12 * p2) / det if det > 0.0 else 0.33
                b2 = (d11 * p2 - d12 * p1) / det if det > 0.0 else 0.33
                b1, b2 = min(max(b1, 0.0), 1.0), min(max(b2, 0.0), 1.0)
                b0 = max(1.0 - b1 - b2, 0.0)
                gx = b0 * normals[f, 0, 0] + b1 * normals[f, 1, 0] + b2 * normals[f, 2, 0]
                gy = b0 * normals[f, 0, 1] + b1 * normals[f, 1, 1] + b2 * normals[f, 2, 1]
                gz = b0 * normals[f, 0, 2] + b1 * normals[f, 1, 2] + b2 * normals[f, 2, 2]
                nx, ny, nz = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
                seen = nx * (ox - x) + ny * (oy - y) + nz * (oz - w)
                side = nx * gx + ny * gy + nz * gz
                g = 1.0 / math.sqrt(gx * gx + gy * gy + gz * gz + 1e-20)
                if seen * side < 0.0:  # the corner normals point to the far side
                    g = -g
                gx, gy, gz = gx * g, gy * g, gz * g
                free = b0 * openness[f, 0] + b1 * openness[f, 1] + b2 * openness[f, 2]
                shade = (light[0] * gx + light[1] * gy + light[2] * gz + light[3]) * (light[4] * free + light[5])
                paint = materials[material[f]]
                u = b0 * uv[f, 0, 0] + b1 * uv[f, 1, 0] + b2 * uv[f, 2, 0]
                v = b0 * uv[f, 0, 1] + b1 * uv[f, 1, 1] + b2 * uv[f, 2, 1]
                for ch in range(3):
                    colour = paint[ch]
                    if paint[3] >= 0.0:
                        colour *= _texel(paint, texels, u, v, ch)
                    acc[ch] += min(shade * colour, 1.0)
                acc[3] += 1.0
                acc[4] += z
                acc[5] += gx
                acc[6] += gy
                acc[7] += gz


def rasterise(
    meshes: Sequence[CornerMesh],
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None = None,
    samples: int = 2,
    threads: int | None = None,
) -> Truth:
    """Rasterise mesh i from camera i (one mesh: from every camera).

    background: (b,3) in [0,1], white by default. samples: per pixel side. threads: all cores by default.
    """

    def draw(m: CornerMesh, pose: np.ndarray, k: np.ndarray, eye: np.ndarray, sums: np.ndarray) -> None:
        height, width = sums.shape[1:]
        nearest = np.zeros((height * samples, width * samples), np.float32)
        face = np.full((height * samples, width * samples), -1, np.int32)
        _cover(m.corners, pose, k, height, width, samples, nearest, face)
        surface = (m.corners, m.normals, m.uv, m.openness, m.material, m.materials, m.texels)
        _shade(*surface, pose, k, eye, LIGHT, samples, nearest, face, sums)

    return drawn(draw, meshes, cameras, background, samples, threads)


def nearest_faces(corners: Float32[np.ndarray, "f 3 3"], cameras: Cameras, samples: int = 2) -> Int[np.ndarray, "b y x"]:
    """Return the number of the face that each sample of each view sees, -1 for none; `samples` per pixel side."""
    shape = (len(cameras), cameras.height * samples, cameras.width * samples)
    face, nearest = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    poses, intrinsics = (v.cpu().double().numpy() for v in (cameras.world_to_camera, cameras.intrinsics))
    for k in range(len(cameras)):
        _cover(np.ascontiguousarray(corners, np.float32), poses[k], intrinsics[k], cameras.height, cameras.width, samples, nearest[k], face[k])
    return face


def corner_normals(corners: np.ndarray, crease: float = 50.0) -> np.ndarray:
    """Return (faces, 3, 3) unit normals: each corner's mean, weighted by area, of the faces that meet there within `crease` degrees.

    Faces that meet at a place count whether or not they share a vertex; those wound the other way do not.
    """
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    _, place = np.unique(np.round(corners.reshape(-1, 3), 4), axis=0, return_inverse=True)
    return _smooth(flat, unit, place.reshape(-1).astype(np.int64), math.cos(math.radians(crease)))


@njit(**FAST)
def _smooth(flat, unit, place, least):
    """Return the normals of corner_normals; place: (3 faces,) the number of each corner's place."""
    count = np.zeros(place.max() + 2, np.int64)
    for p in place:
        count[p + 1] += 1
    start = np.cumsum(count)
    meets, filled = np.empty(len(place), np.int64), start.copy()
    for c in range(len(place)):
        meets[filled[place[c]]] = c // 3
        filled[place[c]] += 1
    out = np.zeros((len(flat), 3, 3), np.float32)
    for c in range(len(place)):
        f, x, y, z = c // 3, 0.0, 0.0, 0.0
        for m in range(start[place[c]], start[place[c] + 1]):
            o = meets[m]
            if unit[f, 0] * unit[o, 0] + unit[f, 1] * unit[o, 1] + unit[f, 2] * unit[o, 2] >= least:
                x, y, z = x + flat[o, 0], y + flat[o, 1], z + flat[o, 2]
        length = math.sqrt(x * x + y * y + z * z)
        for a, value in enumerate((x, y, z)):
            out[f, c % 3, a] = value / length if length > 1e-20 else unit[f, a]
    return out
