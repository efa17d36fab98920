"""Compositing of all tiles and its gradient. Every kernel does the tiles with number % shares == share.

A tile takes its Gaussians in batches, which stay in the first-level cache: copy their rows, find for every block which
of them it needs, then run the blocks one after the other. A block whose pixels are all finished is left out, and a
tile without open blocks ends.
"""

import numpy as np

from splatdistill.render.cpu.cache import compiled
from splatdistill.render.cpu.kernels.blocks import ACCUMULATED, composite_block
from splatdistill.render.cpu.kernels.blocks_backward import (
    OUTPUT_GRADIENT,
    composite_block_backward,
    flush_row,
    sums_width,
)
from splatdistill.render.cpu.kernels.images import load_block_gradient, store_block
from splatdistill.render.cpu.kernels.layout import BATCH, BLOCK, BLOCKS, LANES, MEAN_X, MEAN_Y, ROW, TILE, WORDS
from splatdistill.render.cpu.kernels.masks import gather, gather_with_mask, masks_to_words, zero_rows

AHEAD = 8  # Gaussians between asking for a row and using it
FIRST = 0.5 - TILE // 2  # a tile's first pixel centre, seen from its own centre
ALL_BLOCKS = (1 << BLOCKS) - 1  # one bit per block that has pixels left to finish
MONOMIALS = 8 * LANES  # scalars per block
STATE = max(ACCUMULATED, OUTPUT_GRADIENT)  # vectors of a block's state besides the channels


def scratch_sizes(channels: int) -> tuple[int, int, int, int]:
    """Return the scratch memory of one thread: scalars for a batch's rows, the blocks' states and the sums, and 64-bit words."""
    return BATCH * ROW, BLOCKS * LANES * (STATE + channels), BATCH * LANES * sums_width(channels), BLOCKS * WORDS


def monomials(dtype: np.dtype) -> np.ndarray:
    """Return the constant `monomials` argument: (1, u, v, u^2) and (u v, v^2, 0, 0) at every pixel of a tile."""
    out = np.zeros((BLOCKS, 2, 4, 4, 4), dtype)
    q, x, y = np.meshgrid(np.arange(BLOCKS), np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    u, v = FIRST + BLOCK * (q % 4) + x, FIRST + BLOCK * (q // 4) + y
    out[:, 0] = np.stack([np.ones_like(u), u, v, u * u], -1)
    out[:, 1, :, :, :2] = np.stack([u * v, v * v], -1)
    return out.reshape(-1)


@compiled
def _empty_tile(background, camera, channels, size, origin, stride, rgb, normal, depth, alpha, transmittance):
    for y in range(TILE):
        begin = origin + y * stride
        for x in range(TILE):
            transmittance[camera * size + begin + x] = 1.0
            alpha[camera * size + begin + x] = 0.0
            depth[camera * size + begin + x] = 0.0
        for channel in range(3):
            value = background[3 * camera + channel]
            plane = (3 * camera + channel) * size
            for x in range(TILE):
                rgb[plane + begin + x] = value
            if len(channels) > 4:
                for x in range(TILE):
                    normal[plane + begin + x] = 0.0


@compiled
def composite_tiles(
    share, shares, rows, members, starts, camera_count, tiles_x, tiles_y, background,
    batch, state, words, rgb, normal, depth, alpha, transmittance, masks, used, channels,
):  # fmt: skip
    """Write the images, and for the backward pass the masks and the number of Gaussians that each tile used before it was opaque."""
    block_state = LANES * (STATE + len(channels))
    stride = tiles_x * TILE
    size = stride * tiles_y * TILE
    one, zero, number = rows.dtype.type(1), rows.dtype.type(0), rows.dtype.type
    for task in range(share, camera_count * tiles_x * tiles_y, shares):
        camera = task // (tiles_x * tiles_y)
        tile = task % (tiles_x * tiles_y)
        x, y = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
        origin = y * stride + x
        begin, end = starts[task], starts[task + 1]
        if begin == end:
            used[task] = 0
            _empty_tile(background, camera, channels, size, origin, stride, rgb, normal, depth, alpha, transmittance)
            continue
        for q in range(BLOCKS):
            for lane in range(q * block_state, q * block_state + ACCUMULATED * LANES):
                state[lane] = one
            for lane in range(q * block_state + ACCUMULATED * LANES, (q + 1) * block_state):
                state[lane] = zero
        open_blocks, at = ALL_BLOCKS, begin
        while at < end and open_blocks != 0:
            count = min(BATCH, end - at)
            for i in range(count):
                following = np.int64(members[min(at + i + AHEAD, end - 1)])
                masks[at + i] = gather_with_mask(
                    rows, np.int64(members[at + i]), following, batch, i, number(x + TILE // 2), number(y + TILE // 2)
                )
            masks_to_words(rows, masks, at, count, words)
            for q in range(BLOCKS):
                if (open_blocks >> q) & 1 and composite_block(
                    batch, words, q * WORDS, (count + 63) >> 6, state, q * block_state,
                    number(FIRST + BLOCK * (q % 4)), number(FIRST + BLOCK * (q // 4)), channels,
                ) == 0:  # fmt: skip
                    open_blocks ^= 1 << q
            at += count
        used[task] = at - begin
        for q in range(BLOCKS):
            pixel = origin + (q // 4) * BLOCK * stride + (q % 4) * BLOCK
            store_block(
                state, q * block_state, rgb, normal, depth, alpha, transmittance, background,
                camera, size, pixel, stride, channels,
            )  # fmt: skip


@compiled
def composite_tiles_backward(
    share, shares, rows, members, starts, camera_count, tiles_x, tiles_y,
    batch, state, words, sums, monomials_, rgb, normal, depth, transmittance, masks, used,
    v_rgb, v_normal, v_depth, v_alpha, gradients, channels, absgrad,
):  # fmt: skip
    """Write this share's gradient rows: every Gaussian's sums over the tiles of the share."""
    block_state = LANES * (STATE + len(channels))
    width = 2 + (len(channels) + 3) // 4  # sums_width
    stride = tiles_x * TILE
    size = stride * tiles_y * TILE
    number = rows.dtype.type
    zero_rows(gradients, 0, gradients.size // ROW)
    for task in range(share, camera_count * tiles_x * tiles_y, shares):
        if used[task] == 0:
            continue
        camera = task // (tiles_x * tiles_y)
        tile = task % (tiles_x * tiles_y)
        x, y = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
        origin = y * stride + x
        for q in range(BLOCKS):
            pixel = origin + (q // 4) * BLOCK * stride + (q % 4) * BLOCK
            load_block_gradient(
                state, q * block_state, rgb, normal, depth, v_rgb, v_normal, v_depth, v_alpha, transmittance,
                camera, size, pixel, stride, channels,
            )  # fmt: skip
        open_blocks, at, end = ALL_BLOCKS, starts[task], starts[task] + used[task]
        while at < end:
            count = min(BATCH, end - at)
            zero_rows(sums, 0, count * width)
            for i in range(count):
                following = np.int64(members[min(at + i + AHEAD, end - 1)])
                gather(
                    rows, np.int64(members[at + i]), following, batch, i,
                    number(x + TILE // 2), number(y + TILE // 2), gradients,
                )  # fmt: skip
            masks_to_words(rows, masks, at, count, words)
            for q in range(BLOCKS):
                if (open_blocks >> q) & 1 and composite_block_backward(
                    batch, words, q * WORDS, (count + 63) >> 6, state, q * block_state,
                    number(FIRST + BLOCK * (q % 4)), number(FIRST + BLOCK * (q // 4)),
                    sums, monomials_, q * MONOMIALS, channels, absgrad,
                ) == 0:  # fmt: skip
                    open_blocks ^= 1 << q
            for i in range(count):
                mean_x, mean_y = batch[i * ROW + MEAN_X], batch[i * ROW + MEAN_Y]
                flush_row(sums, i, mean_x, mean_y, gradients, np.int64(members[at + i]), channels)
            at += count
