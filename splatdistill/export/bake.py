"""Colours of splats on their surface: a texture in which every triangle has a place of its own, filled from renders."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from splatdistill.errors import UserError
from splatdistill.export.surface import Seen, Surface
from splatdistill.io.mesh import Mesh

LEAST = 4  # texels along a triangle's cell
USUAL = 1024  # pixels per side, where nothing else is asked for and the triangles need no more
LARGEST = 8192  # pixels per side
TILE = 16  # cells along a tile; a tile is filled before the next, so that near it is what is near in space
AT_ONCE = 1 << 18  # texels coloured at a time


def baked(shape: Surface, seen: Seen, size: int | None = None) -> Mesh:
    """Return the surface with a texture of size x size pixels, by default as many as it needs; UserError if there are too many
    triangles for so many.
    """
    size, across, cell = layout(len(shape.faces), size)
    bare = Mesh(
        shape.vertices, shape.faces, corners(len(shape.faces), across, cell, size), np.zeros((size, size, 3), np.uint8)
    )
    return Mesh(bare.vertices, bare.faces, bare.uv, coloured(bare, seen, across, cell, shape.band))


def layout(count: int, size: int | None) -> tuple[int, int, int]:
    """Return pixels and cells along a side, and texels along a cell. Two triangles share a square cell, each in one half of it."""
    across = math.ceil(math.ceil(count / 2) ** 0.5)
    across = across if across <= TILE else TILE * math.ceil(across / TILE)
    if size is None:
        size = min(max(USUAL, LEAST * across), LARGEST)
    if size > LARGEST:
        raise UserError(f"--texture is at most {LARGEST} pixels; got {size}")
    if size < LEAST * across:
        raise UserError(
            f"{count} triangles need a texture of {LEAST * across} pixels; give --texture {LEAST * across} "
            f"or more (at most {LARGEST}), or fewer --triangles"
        )
    return size, across, size // across


def corners(count: int, across: int, cell: int, size: int) -> Float32[np.ndarray, "count 3 2"]:
    """Return the places of triangles in the texture, (0, 0) its upper left: corners on centres of texels, so that a viewer that
    blends neighbouring texels stays inside the cell.
    """
    column, row = squares(np.arange(count) // 2, across)
    origin = cell * np.stack([column, row], 1)[:, None]
    near, far = 0.5, cell - 0.5
    halves = np.array(
        [[[near, near], [far - 1, near], [near, far - 1]], [[far, far], [near + 1, far], [far, near + 1]]]
    )
    return ((origin + halves[np.arange(count) % 2]) / size).astype(np.float32)


def squares(index: Int[np.ndarray, " n"], across: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return column and row of the cells in order: tile by tile, row by row inside a tile."""
    tile = min(TILE, across)
    block, rest = index // tile**2, index % tile**2
    return block % (across // tile) * tile + rest % tile, block // (across // tile) * tile + rest // tile


@torch.no_grad()
def coloured(mesh: Mesh, seen: Seen, across: int, cell: int, tolerance: float) -> UInt8[np.ndarray, "size size 3"]:
    """Return the texture: for every texel the mean of what views show there, those that see it best counting most."""
    size = mesh.texture.shape[0]
    rows, columns = np.mgrid[0:size, 0:size].reshape(2, -1)
    x, y = columns % cell, rows % cell
    other = x + y >= cell  # the half of the cell that is the second triangle's; the diagonal is the first one's
    inside = (columns < across * cell) & (rows < across * cell)
    table = np.empty((across, across), np.int64)
    column, row = squares(np.arange(across * across), across)
    table[row, column] = np.arange(across * across)
    face = 2 * table[np.minimum(rows // cell, across - 1), np.minimum(columns // cell, across - 1)] + other
    inside &= face < len(mesh.faces)
    face = np.where(inside, face, 0)
    u, v = np.where(other, cell - 1 - x, x) / (cell - 2), np.where(other, cell - 1 - y, y) / (cell - 2)
    weights = torch.from_numpy(np.stack([1 - u - v, u, v], 1).astype(np.float32))
    vertices, normals = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.normals())
    out = np.zeros((size * size, 3), np.uint8)
    for part in np.array_split(np.flatnonzero(inside), max(1, inside.sum() // AT_ONCE)):
        which = torch.from_numpy(mesh.faces[face[part]].copy())
        points = (weights[part][:, :, None] * vertices[which]).sum(1)
        up = torch.nn.functional.normalize((weights[part][:, :, None] * normals[which]).sum(1), dim=1)
        out[part] = (255 * colours(points, up, seen, tolerance)).round().to(torch.uint8).numpy()
    out[~inside] = out[inside].mean(0).round()
    return out.reshape(size, size, 3)


def colours(
    points: Float[torch.Tensor, "n 3"], normals: Float[torch.Tensor, "n 3"], seen: Seen, tolerance: float
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
