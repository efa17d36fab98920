"""Lists of the Gaussians that each tile composites, in order of depth.

Tiles count their Gaussians during projection; the counts' running sum gives every tile its place in one list; and
writing the Gaussians of a camera to their tiles in order of depth leaves each tile's part sorted. So one sort by depth
per camera serves all tiles.
"""

import math

import numpy as np

from splatdistill.render.cpu.cache import compiled
from splatdistill.render.cpu.kernels.layout import MEAN_X, MEAN_Y, REACH, RIDGE_X, ROW, TILE, A, B, C

WIDE = 32  # tiles; from here on a Gaussian's rectangle is narrowed to its ellipse, row by row of tiles
DIGIT = 12  # bits that one pass of the sort looks at


@compiled
def corners(rectangle):
    """Return x0, x1, y0, y1 of a rectangle of tiles; x1 and y1 are one past the last."""
    return rectangle & 0xFFFF, (rectangle >> 16) & 0xFFFF, (rectangle >> 32) & 0xFFFF, (rectangle >> 48) & 0xFFFF


@compiled
def is_wide(x0, x1, y0, y1):
    """Return True if `span` is worth its time."""
    return (x1 - x0) * (y1 - y0) >= WIDE and x1 - x0 > 1 and y1 - y0 > 1


@compiled
def span(rows, row, y, x0, x1):
    """Return the tiles from x0 to x1 - 1 of tile row y that the ellipse -(A dx^2 + B dx dy + C dy^2) <= REACH meets.

    Solved for dx, the ellipse's right end within the row of tiles is at the row's height nearest to that of the
    rightmost point, which is the ridge; likewise the left end.
    """
    mean_x, mean_y = rows[row + MEAN_X], rows[row + MEAN_Y]
    a, b, c, reach = -rows[row + A], -rows[row + B], -rows[row + C], max(rows[row + REACH], 0.0)
    extent = math.sqrt(reach / max(a - 0.25 * b * b / c, 1e-20))  # rightmost dx
    low = y * TILE + 0.5 - mean_y
    high = low + TILE - 1
    ridge = rows[row + RIDGE_X] * extent
    right = min(max(ridge, low), high)
    inside = b * b * right * right - 4.0 * a * (c * right * right - reach)
    if inside < 0:
        return 0, 0
    last = (-b * right + math.sqrt(inside)) / (2.0 * a)
    left = min(max(-ridge, low), high)
    inside = b * b * left * left - 4.0 * a * (c * left * left - reach)
    if inside < 0:
        return 0, 0
    first = (-b * left - math.sqrt(inside)) / (2.0 * a)
    first_pixel = max(x0 * TILE, int(math.ceil(mean_x + first - 0.51)))
    last_pixel = min(x1 * TILE - 1, int(math.floor(mean_x + last - 0.49)))
    if first_pixel > last_pixel:
        return 0, 0
    return first_pixel // TILE, last_pixel // TILE + 1


@compiled
def _sort_one(depth_bits, rectangles, start, n, keys, items, other_keys, other_items, buckets):
    """Sort a camera's visible Gaussians by depth (stable radix sort); return their number, and the array that holds the order.

    The bits of positive floats sort like the floats. Subtracting the least leaves so few bits that two passes do
    for an object in front of a camera.
    """
    count, least, most = 0, np.int64(2**63 - 1), np.int64(0)
    for i in range(n):
        bits = depth_bits[start + i]
        keys[count] = bits
        items[count] = i
        if rectangles[start + i] != 0:
            count += 1
            least = min(least, np.int64(bits))
            most = max(most, np.int64(bits))
    shift = 0
    while count > 0 and (most - least) >> shift != 0:
        for digit in range(1 << DIGIT):
            buckets[digit] = 0
        for j in range(count):
            buckets[((np.int64(keys[j]) - least) >> shift) & ((1 << DIGIT) - 1)] += 1
        total = 0
        for digit in range(1 << DIGIT):
            here = buckets[digit]
            buckets[digit] = total
            total += here
        for j in range(count):
            digit = ((np.int64(keys[j]) - least) >> shift) & ((1 << DIGIT) - 1)
            place = buckets[digit]
            buckets[digit] = place + 1
            other_keys[place] = keys[j]
            other_items[place] = items[j]
        keys, other_keys = other_keys, keys
        items, other_items = other_items, items
        shift += DIGIT
    return count, items


@compiled
def sort_by_depth(
    share, shares, depth_bits, rectangles, padded, keys, items, buckets, order, sorted_rectangles, counts
):
    """Write for each camera the visible Gaussians from near to far, and their rectangles.

    keys, items: two rows per share; buckets: one.
    """
    for camera in range(share, counts.size, shares):
        start = camera * padded
        count, sorted_items = _sort_one(
            depth_bits, rectangles, start, padded,
            keys[2 * share], items[2 * share], keys[2 * share + 1], items[2 * share + 1], buckets[share],
        )  # fmt: skip
        for j in range(count):
            item = sorted_items[j]
            order[start + j] = item
            sorted_rectangles[start + j] = rectangles[start + item]
        counts[camera] = count


@compiled
def tile_starts(histogram, starts):
    """Write the running sum of the counts per tile, summed over the rows of `histogram`; return the total."""
    total = 0
    for tile in range(starts.size - 1):
        starts[tile] = total
        for share in range(histogram.shape[0]):
            total += histogram[share, tile]
    starts[starts.size - 1] = total
    return total


@compiled
def fill_tiles(
    share, shares, stripes, rows, padded, tiles_x, tiles_y, order, counts, sorted_rectangles, starts, cursors, members
):
    """Write members[starts[tile]:starts[tile + 1]]: the tile's entries (camera, Gaussian), near to far.

    Work is cut into (camera, stripe) with the tile rows y of a stripe having y % stripes equal.
    """
    for task in range(share, counts.size * stripes, shares):
        camera = task // stripes
        stripe = task % stripes
        first_tile = camera * tiles_x * tiles_y
        for y in range(stripe, tiles_y, stripes):
            for tile in range(first_tile + y * tiles_x, first_tile + (y + 1) * tiles_x):
                cursors[tile] = starts[tile]
        for j in range(camera * padded, camera * padded + counts[camera]):
            entry = camera * padded + order[j]
            x0, x1, y0, y1 = corners(sorted_rectangles[j])
            wide = is_wide(x0, x1, y0, y1)
            if stripes > 1:
                y0 += (stripe - y0) % stripes
            for y in range(y0, y1, stripes):
                first, last = x0, x1
                if wide:
                    first, last = span(rows, entry * ROW, y, x0, x1)
                for tile in range(first_tile + y * tiles_x + first, first_tile + y * tiles_x + last):
                    place = cursors[tile]
                    cursors[tile] = place + 1
                    members[place] = entry
