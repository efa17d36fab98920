"""The stages of a render in order, each cut into shares for the threads: what runs when, on which memory.

forward:  shade -> project -> sort by depth -> fill tiles -> composite
backward: the gradients of composite -> project -> shade
"""

import numpy as np

from splatdistill.render.cpu import pool
from splatdistill.render.cpu.buffers import CameraBuffers, Composited, Images, ProjectionBuffers, ShapeGradients, Shapes, Tag, Tiles
from splatdistill.render.cpu.kernels import binning, compositing, layout, project_loop, shade_loop
from splatdistill.render.cpu.memory import empty

# Handing work to another thread takes some 40 microseconds; a stage with less to do stays on the caller.
SPLIT_PROJECTION = 16_384  # (camera, Gaussian) pairs
SPLIT_SHADING = 8_192  # the same, for view-dependent colours
SPLIT_SORTING = 40_000  # the same
SPLIT_FILLING = 60_000  # (tile, Gaussian) pairs
SPLIT_COMPOSITING = 6_000  # the same

_monomials: dict[np.dtype, np.ndarray] = {}


def shade(sh: np.ndarray, n: int, shapes: Shapes, view: CameraBuffers, degree: Tag) -> np.ndarray:
    """Return colours (b, padded n, 3), flat; (1, padded n, 3) at degree 0, where they are the same from everywhere."""
    padded, dtype = shapes.padded, shapes.means.dtype
    if not degree:
        colours = empty(padded * 3, dtype)
        shade_loop.shade_constant(sh, colours)
        return colours
    entries = view.count * padded
    colours = empty(entries * 3, dtype)
    shares = pool.threads() if entries >= SPLIT_SHADING else 1

    def work(share: int) -> None:
        shade_loop.shade_all(share, shares, sh, shapes.means, n, view.cameras, view.count, padded, colours, degree)

    pool.run(work, shares)
    return colours


def shade_backward(
    sh: np.ndarray, n: int, shapes: Shapes, view: CameraBuffers, degree: Tag, colours: np.ndarray, g: ShapeGradients
) -> np.ndarray:
    """Return dloss/dsh (padded n, k, 3), flat; adds what viewing directions contribute to g.means."""
    padded = shapes.padded
    if not degree:
        shade_loop.shade_constant_backward(colours, g.colours)
        return g.colours
    v_sh = empty(padded * 3 * (len(degree) + 1) ** 2, sh.dtype)
    shares = pool.threads() if view.count * padded >= SPLIT_SHADING else 1

    def work(share: int) -> None:
        shade_loop.shade_all_backward(
            share, shares, sh, shapes.means, n, view.cameras, view.count, padded,
            colours, g.colours, v_sh, g.means, degree,
        )  # fmt: skip

    pool.run(work, shares)
    return v_sh


def project(
    shapes: Shapes, colours: np.ndarray, shared: bool, view: CameraBuffers, channels: Tag
) -> ProjectionBuffers:
    """Project; colours: (b or 1, padded n, 3), flat; shared: the same for all cameras."""
    dtype, padded = shapes.means.dtype, shapes.padded
    entries = view.count * padded
    shares = pool.threads() if entries >= SPLIT_PROJECTION else 1
    out = ProjectionBuffers(
        rows=empty(entries * layout.ROW, dtype),
        screen=empty(entries * 2, dtype),
        radii=empty(entries, np.int32),
        rectangles=empty(entries, np.int64),
        depths=empty(entries, dtype),
        histogram=empty((shares, view.count * view.tiles_x * view.tiles_y), np.int32),
    )

    def work(share: int) -> None:
        project_loop.project_all(
            share, shares, shapes.means, shapes.quats, shapes.scales, shapes.opacities,
            view.cameras, view.count, colours, 0 if shared else padded,
            out.rows, out.screen, out.radii, out.depths, out.rectangles, out.histogram[share],
            view.tiles_x, view.tiles_y, channels,
        )  # fmt: skip

    pool.run(work, shares)
    return out


def bin_tiles(projection: ProjectionBuffers, padded: int, view: CameraBuffers) -> Tiles:
    """Sort by depth, then fill the tiles."""
    cameras, entries = view.count, view.count * padded
    bits = projection.depths.astype(np.float32, copy=False).view(np.uint32)  # in float64 too, like gsplat's sort keys
    shares = min(pool.threads(), cameras) if entries >= SPLIT_SORTING else 1
    keys, items = empty((2 * shares, padded), bits.dtype), empty((2 * shares, padded), np.int32)
    buckets = empty((shares, 1 << binning.DIGIT), np.int32)
    order, rectangles = empty(entries, np.int32), empty(entries, np.int64)
    counts = empty(cameras, np.int64)

    def sort(share: int) -> None:
        binning.sort_by_depth(
            share, shares, bits, projection.rectangles, padded, keys, items, buckets, order, rectangles, counts
        )

    pool.run(sort, shares)
    starts = empty(cameras * view.tiles_x * view.tiles_y + 1, np.int64)
    total = binning.tile_starts(projection.histogram, starts)
    members = empty(total, np.int32)
    cursors = empty(starts.size - 1, np.int64)
    workers = pool.threads() if total >= SPLIT_FILLING else 1
    stripes = -(-workers // max(cameras, 1))

    def fill(share: int) -> None:
        binning.fill_tiles(
            share, workers, stripes, projection.rows, padded, view.tiles_x, view.tiles_y,
            order, counts, rectangles, starts, cursors, members,
        )  # fmt: skip

    pool.run(fill, workers)
    return Tiles(members, starts)


def composite(
    rows: np.ndarray, tiles: Tiles, view: CameraBuffers, background: np.ndarray, images: Images, channels: Tag
) -> Composited:
    """Write the images."""
    shares = pool.threads() if tiles.members.size >= SPLIT_COMPOSITING else 1
    batch, state, _, words = compositing.scratch_sizes(len(channels))
    batches, states = empty((shares, batch), rows.dtype), empty((shares, state), rows.dtype)
    bits = empty((shares, words), np.int64)
    out = Composited(
        transmittance=empty(images.alpha.size, rows.dtype),
        masks=empty(tiles.members.size + 64, np.uint16),  # read in groups of 64
        used=empty(tiles.starts.size - 1, np.int64),
        shares=shares,
    )

    def work(share: int) -> None:
        compositing.composite_tiles(
            share, shares, rows, tiles.members, tiles.starts, view.count, view.tiles_x, view.tiles_y, background,
            batches[share], states[share], bits[share], images.rgb, images.normal, images.depth, images.alpha,
            out.transmittance, out.masks, out.used, channels,
        )  # fmt: skip

    pool.run(work, shares)
    return out


def composite_backward(
    rows: np.ndarray, tiles: Tiles, view: CameraBuffers, images: Images, composited: Composited, wanted: Images,
    channels: Tag, absgrad: Tag,
) -> np.ndarray:  # fmt: skip
    """Return gradient rows (threads, entries * ROW) from dloss/dimages."""
    shares, dtype = composited.shares, rows.dtype
    batch, state, sums, words = compositing.scratch_sizes(len(channels))
    batches, states = empty((shares, batch), dtype), empty((shares, state), dtype)
    totals, bits = empty((shares, sums), dtype), empty((shares, words), np.int64)
    gradients = empty((shares, rows.size), dtype)
    if dtype not in _monomials:
        values = compositing.monomials(dtype)
        aligned = empty(values.size, dtype)
        aligned[:] = values
        _monomials[dtype] = aligned

    def work(share: int) -> None:
        compositing.composite_tiles_backward(
            share, shares, rows, tiles.members, tiles.starts, view.count, view.tiles_x, view.tiles_y,
            batches[share], states[share], bits[share], totals[share], _monomials[dtype],
            images.rgb, images.normal, images.depth, composited.transmittance, composited.masks, composited.used,
            wanted.rgb, wanted.normal, wanted.depth, wanted.alpha, gradients[share], channels, absgrad,
        )  # fmt: skip

    pool.run(work, shares)
    return gradients


def project_backward(
    shapes: Shapes, radii: np.ndarray, gradients: np.ndarray, shared: bool, view: CameraBuffers,
    channels: Tag, absgrad: Tag,
) -> ShapeGradients:  # fmt: skip
    """Write the gradients of the inputs from the gradient rows."""
    dtype, padded = shapes.means.dtype, shapes.padded
    entries = view.count * padded
    out = ShapeGradients(
        means=empty(padded * 3, dtype),
        quats=empty(padded * 4, dtype),
        scales=empty(padded * 3, dtype),
        opacities=empty(padded, dtype),
        colours=empty(padded * 3 * (1 if shared else view.count), dtype),
        screen=empty(entries * 2, dtype),
        absolute=empty(entries * 2 if absgrad else 0, dtype),
    )
    shares = pool.threads() if entries >= SPLIT_PROJECTION else 1
    threads, flat = len(gradients), gradients.reshape(-1)

    def work(share: int) -> None:
        project_loop.project_all_backward(
            share, shares, shapes.means, shapes.quats, shapes.scales, shapes.opacities,
            view.cameras, view.count, radii, flat, threads,
            out.means, out.quats, out.scales, out.opacities, out.colours, 0 if shared else padded,
            out.screen, out.absolute, channels, absgrad,
        )  # fmt: skip

    pool.run(work, shares)
    return out
