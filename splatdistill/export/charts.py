"""Texture coordinates of a mesh, in charts that are cut and packed by xatlas, and the triangle behind each texel."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from splatdistill.io.mesh import xatlas_library

PADDING = 6  # texels between charts as they are packed; what they are scaled to leaves 4 and more
FILLED = 0.8  # share of the side that packing needs less than it says
AT_ONCE = 1 << 20  # texels looked at in one go


@dataclass(frozen=True)
class Charts:
    """Places of triangles in a texture, (0, 0) its upper left."""

    uv: Float32[np.ndarray, "u 2"]
    corners: Int[np.ndarray, "f 3"]  # of each face: rows of uv
    count: int


def unwrapped(vertices: Float32[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], normals: Float32[np.ndarray, "v 3"], size: int) -> Charts:
    """Cut a surface into charts and pack them into a texture of size x size texels, corners half a texel inside."""
    xatlas = xatlas_library()
    atlas, options = xatlas.Atlas(), xatlas.PackOptions()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32), normals.astype(np.float32))
    options.resolution, options.padding, options.blockAlign = round(FILLED * size), PADDING, True
    atlas.generate(xatlas.ChartOptions(), options)
    _, corners, uv = atlas[0]
    across = np.array([atlas.width, atlas.height], np.float32) / max(atlas.width, atlas.height, 1)
    return Charts(((uv * across * (size - 1) + 0.5) / size).astype(np.float32), corners.astype(np.int64), atlas.chart_count)


@dataclass(frozen=True)
class Texels:
    """Texels whose centres triangles cover."""

    index: Int[np.ndarray, " n"]  # row by row
    face: Int[np.ndarray, " n"]
    weights: Float32[np.ndarray, "n 3"]  # barycentric coordinates of the centre


def covered(charts: Charts, size: int) -> Iterator[Texels]:
    """Yield the texels of a texture of size x size that triangles cover, some triangles at a time."""
    corners = (charts.uv.astype(np.float64) * size - 0.5)[charts.corners]  # centres of texels at whole numbers
    low = np.ceil(corners.min(1) - 1e-6).astype(np.int64).clip(0, size - 1)
    span = np.floor(corners.max(1) + 1e-6).astype(np.int64).clip(0, size - 1) - low + 1
    boxes = span.clip(0).prod(1)
    cuts = np.searchsorted(boxes.cumsum(), np.arange(AT_ONCE, boxes.sum() + AT_ONCE, AT_ONCE), "right")
    for chosen in np.split(np.arange(len(boxes)), np.unique(cuts)):
        face = chosen.repeat(boxes[chosen])
        if not len(face):
            continue
        inside = np.arange(len(face)) - (boxes[chosen].cumsum() - boxes[chosen]).repeat(boxes[chosen])
        x, y = low[face, 0] + inside % span[face, 0], low[face, 1] + inside // span[face, 0]
        weights = barycentric(corners[face], np.stack([x, y], 1))
        hit = (weights > -1e-6).all(1)
        yield Texels((y * size + x)[hit], face[hit], weights[hit].astype(np.float32))


def barycentric(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the coordinates (n, 3) of points (n, 2) in triangles (n, 3, 2); not finite where a triangle has no area."""
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / area
        t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / area
    return np.stack([1 - s - t, s, t], 1)
