"""Colours of splats on their surface: a texture of charts, filled from renders, and beyond the charts' rims by their nearest."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from splatdistill.errors import UserError
from splatdistill.export.charts import Charts, covered, unwrapped
from splatdistill.export.surface import Surface, SurfaceViews
from splatdistill.io.mesh import Mesh, vertex_normals

LEAST = 3  # texels for a triangle, on average
USUAL = 1024  # pixels per side, where nothing else is asked for and the triangles need no more
LARGEST = 8192  # pixels per side
AT_ONCE = 1 << 18  # texels coloured at a time


def baked(shape: Surface, seen: SurfaceViews, size: int | None = None) -> Mesh:
    """Return the surface with a texture of size x size pixels, by default as many as it needs; UserError if there are too many
    triangles for so many.
    """
    size = side(len(shape.faces), size)
    normals = vertex_normals(shape.vertices, shape.faces)
    charts = unwrapped(shape.vertices, shape.faces, normals, size)
    texture = coloured(shape, normals, charts, seen, size)
    return Mesh(shape.vertices, shape.faces, charts.uv, charts.corners, texture, charts.count)


def side(count: int, size: int | None) -> int:
    """Return the pixels along a side of a texture for so many triangles; UserError if `size` is no such number."""
    least = 64 * -(-round((LEAST * count) ** 0.5) // 64)
    if size is None:
        return min(max(USUAL, least), LARGEST)
    if size > LARGEST:
        raise UserError(f"--texture is at most {LARGEST} pixels; got {size}")
    if size < least:
        raise UserError(
            f"{count} triangles need a texture of {least} pixels; give --texture {least} or more (at most {LARGEST}), "
            "or fewer --triangles"
        )
    return size


@torch.no_grad()
def coloured(
    shape: Surface, up: Float32[np.ndarray, "v 3"], charts: Charts, seen: SurfaceViews, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the texture: for every texel of a chart the mean of what views show there, those that see it best counting most;
    for every other one the colour of the nearest, so that no blending of texels meets anything else.
    """
    from scipy import ndimage

    vertices, normals = torch.from_numpy(shape.vertices), torch.from_numpy(up)
    out, known = np.zeros((size * size, 3), np.uint8), np.zeros(size * size, bool)
    for texels in covered(charts, size):
        for part in np.array_split(np.arange(len(texels.index)), 1 + len(texels.index) // AT_ONCE):
            corners = torch.from_numpy(shape.faces[texels.face[part]].copy())
            weights = torch.from_numpy(texels.weights[part])[:, :, None]
            towards = torch.nn.functional.normalize((weights * normals[corners]).sum(1), dim=1)
            shown = colours((weights * vertices[corners]).sum(1), towards, seen, shape.band)
            out[texels.index[part]] = (255 * shown).round().to(torch.uint8).numpy()
        known[texels.index] = True
    row, column = np.asarray(ndimage.distance_transform_edt(~known.reshape(size, size), return_distances=False, return_indices=True))
    return out.reshape(size, size, 3)[row, column]


def colours(
    points: Float[torch.Tensor, "n 3"], normals: Float[torch.Tensor, "n 3"], seen: SurfaceViews, tolerance: float
) -> Float[torch.Tensor, "n 3"]:
    """Return the colours of points of the surface: views that look at them squarely and see them count, by the fourth power of
    the cosine; where none does, all that are on the outer side, a little.
    """
    total, weight = torch.zeros(len(points), 3), torch.full((len(points), 1), 1e-12)
    for view in range(len(seen.alpha)):
        shown, z = seen.at(view, points)
        towards = torch.nn.functional.normalize(seen.cameras.position[view] - points, dim=1)
        cosine = (towards * normals).sum(1).clamp_min(0)
        visible = ((z - shown[:, 4]).abs() < tolerance) & (shown[:, 3] > 0.5)
        share = (cosine**4 * (visible + 1e-4) + 1e-9)[:, None] * shown[:, 3:4].clamp_min(1e-3)
        total += share * shown[:, :3]
        weight += share
    return (total / weight).clamp(0, 1)
