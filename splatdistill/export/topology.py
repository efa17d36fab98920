"""Handles and cavities of a solid on a grid that are too small to be meant: tunnels closed, voids filled, threads cut.

The genus of a surface around a solid follows from its Euler characteristic, chi = pieces - tunnels + cavities (Kong and
Rosenfeld, "Digital Topology: Introduction and Survey", CVGIP 1989). What a ball of growing radius cannot enter is looked at
piece by piece: a piece is filled if that raises chi, so if it closes a tunnel. Dents and creases, which are no tunnels,
stay as they are.
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float32, Int

TOUCHING = np.ones((3, 3, 3), bool)  # voxels of a solid that share a corner are neighbours
THREAD = 1.0  # cells: radius of a ball that does not fit into threads, which are cut where they make a handle
SMALL = 0.02  # pieces with fewer than this share of the largest one's voxels are strays

Solid = Bool[np.ndarray, "x y z"]


def mended(field: Float32[np.ndarray, "x y z"], radii: Iterable[float], step: float) -> Float32[np.ndarray, "x y z"]:
    """Return a field, negative inside, whose solid is without strays, cavities, tunnels that balls of these radii (cells)
    do not enter, and threads that make handles. step: what the field changes by along a cell.
    """
    before = field < 0
    solid = sound(largest(before))
    for radius in radii:
        if genus(solid) <= 0:
            break
        solid = sound(without_handles(solid, radius, True))
    if genus(solid) > 0:
        solid = sound(largest(without_handles(solid, THREAD, False)))
    out = np.where(solid & ~before, np.float32(-0.5 * step), field)
    return np.where(~solid & before, np.float32(0.5 * step), out)


def sound(solid: Solid) -> Solid:
    """Return the solid without cavities, and where voxels touch by an edge or a corner alone, with the voxels around filled
    in: marching cubes and neighbours of every kind then agree on what hangs together (Latecki, Eckhardt and Rosenfeld,
    "Well-Composed Sets", CVIU 1995).
    """
    from scipy import ndimage

    while True:
        solid = np.asarray(ndimage.binary_fill_holes(solid), bool)
        more = solid | around_contacts(solid)
        if (more == solid).all():
            return solid
        solid = more


def around_contacts(solid: Solid) -> Solid:
    """Return the cubes of 2 x 2 x 2 voxels in which two of the solid, or two outside, meet by an edge or a corner alone."""
    cube = {at: solid[tuple(slice(k, n - 1 + k) for k, n in zip(at, solid.shape))] for at in np.ndindex(2, 2, 2)}
    found = np.zeros_like(cube[0, 0, 0])
    for axis in range(3):
        for side in (0, 1):  # a square of four; opposite ones alike, the others not
            a, b, c, d = (cube[(*four[:axis], side, *four[axis:])] for four in np.ndindex(2, 2))
            found |= (a == d) & (b == c) & (a != b)
    for at in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)):  # two opposite corners alike, the other six not
        one, other = cube[at], cube[1 - at[0], 1 - at[1], 1 - at[2]]
        rest = [cube[k] for k in cube if k != at and k != (1 - at[0], 1 - at[1], 1 - at[2])]
        found |= (one == other) & np.logical_and.reduce([each != one for each in rest])
    out = np.zeros_like(solid)
    for at in cube:
        out[tuple(slice(k, n - 1 + k) for k, n in zip(at, solid.shape))] |= found
    return out


def genus(solid: Solid) -> int:
    """Return how many handles the pieces of a solid have together, where it has no cavities."""
    return pieces(solid)[1] - characteristic(solid)


def pieces(solid: Solid) -> tuple[Int[np.ndarray, "x y z"], int]:
    """Return for each voxel the number of its piece, from 1, and how many there are."""
    from scipy import ndimage

    labels = np.zeros(solid.shape, np.int32)
    count = ndimage.label(solid, TOUCHING, output=labels)
    assert isinstance(count, int)
    return labels, count


def largest(solid: Solid) -> Solid:
    """Return the pieces of a solid that are no strays."""
    labels, count = pieces(solid)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.isin(labels, 1 + np.flatnonzero(sizes >= SMALL * sizes.max(initial=0)))


def without_handles(solid: Solid, radius: float, fill: bool) -> Solid:
    """Return the solid with each piece filled that a ball outside does not enter, if that closes a tunnel; or, if not `fill`,
    with each piece cut off that a ball inside does not enter, if that opens a handle.
    """
    from scipy import ndimage

    out = solid.copy()
    base = solid if fill else ~solid
    labels, _ = pieces(closed(base, radius) & ~base)
    for k, place in enumerate(ndimage.find_objects(labels), 1):
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in place)
        part, piece = out[around], labels[around] == k
        changed = part | piece if fill else part & ~piece
        if characteristic(changed) > characteristic(part):
            out[around] = changed
    return out


def closed(solid: Solid, radius: float) -> Solid:
    """Return the solid with all that a ball of this radius (cells) outside of it does not reach."""
    from scipy import ndimage

    edge = math.ceil(radius) + 1
    wide = np.pad(solid, edge)
    grown = np.asarray(ndimage.distance_transform_edt(~wide)) <= radius
    inner = np.asarray(ndimage.distance_transform_edt(grown)) > radius
    return inner[edge:-edge, edge:-edge, edge:-edge] | solid


def characteristic(solid: Solid) -> int:
    """Return Euler's characteristic of a solid whose voxels touch by their corners."""
    from skimage.measure import euler_number

    return int(euler_number(np.pad(solid, 1), 3))
