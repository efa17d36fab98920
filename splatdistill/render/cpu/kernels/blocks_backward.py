"""The gradient of compositing over one block, front to back like the forward pass.

With g_i = sum_c channel_ic dloss/dchannel_c, f_i = alpha_i T_i, and V = dloss/dalpha_out, alpha_i acts by

    dloss/dalpha_i = T_i g_i - Q_i / (1 - alpha_i)
    Q_i = (sum_c out_c dloss/dchannel_c - T_end V) - sum_{j <= i} f_j g_j

Q starts from the finished image and loses what has passed, so that nothing has to be stored per Gaussian and pixel.
By sigma = -ln(alpha / o) (no gradient where alpha was clamped), s_i = dloss/dsigma_i = -alpha_i dloss/dalpha_i.

A Gaussian's row collects sums over the block's pixels of s_i (1, u, v, u^2, u v, v^2), (u, v) the pixel seen from the
tile's centre, and of f_i dloss/dchannel_c. They stay 16 lanes wide, lane 4 y + m: quantity m summed over the four
pixels of row y alone. `flush_row` adds the rest once per tile.
"""

from collections.abc import Sequence

from llvmlite import ir

from splatdistill.render import MAX_ALPHA
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.blocks import (
    blend,
    for_each_set_bit,
    offsets,
    pixel_centres,
    unclamped_alpha,
)
from splatdistill.render.cpu.kernels.simd import INT64, Simd, Vec, emitted

# State of a block between batches, one vector each:
TRANSMITTANCE, REMAINING, OUTPUT_GRADIENT = 0, 1, 2  # T, Q, then dloss/dchannel

ROWS = range(4)  # of pixels in a block


def quads(channels: int) -> int:
    """Return the number of vectors that hold `channels` channels, four in each."""
    return (channels + 3) // 4


def sums_width(channels: int) -> int:
    """Return the vectors per Gaussian: two of moments, the rest of channels."""
    return 2 + quads(channels)


def _by_pixel(s: Simd, four: Sequence[Vec]) -> list[Vec]:
    """Return the vector of each x with lanes (y, c), from four channels' vectors with lanes (y, x): a transpose within each row of
    pixels.
    """
    def mixed(a: Vec, b: Vec, x: int) -> Vec:  # lanes (y; a_x, b_x, a_x+1, b_x+1)
        return s.shuffle(a, b, [i for y in ROWS for i in (4 * y + x, 16 + 4 * y + x, 4 * y + x + 1, 17 + 4 * y + x)])

    def paired(a: Vec, b: Vec, half: int) -> Vec:
        return s.shuffle(a, b, [i + 4 * y + 2 * half for y in ROWS for i in (0, 1, 16, 17)])

    a, b, c, d = four
    return [paired(mixed(a, b, x), mixed(c, d, x), half) for x in (0, 2) for half in (0, 1)]


def _row_sums(s: Simd, a: Vec, b: Vec) -> Vec:
    """Return lanes (y; 0, 0, sum_x a, sum_x b)."""
    first = s.shuffle(a, b, [i + 4 * y for y in ROWS for i in (0, 2, 16, 18)])
    second = s.shuffle(a, b, [i + 4 * y for y in ROWS for i in (1, 3, 17, 19)])
    pairs = first + second  # (y; a01, a23, b01, b23)
    return s.shuffle(pairs + s.shuffle(pairs, None, [4 * y + i for y in ROWS for i in (1, 0, 3, 2)]), s.constant(0.0),
                     [i + 4 * y for y in ROWS for i in (16, 16, 0, 2)])  # fmt: skip


@emitted
def composite_block_backward(
    s: Simd, rows, words, first_word, word_count, state, state_at, x, y, sums, monomials, monomials_at,
    channels, absgrad,
) -> int:  # fmt: skip
    """Add the block's part to the sums of every Gaussian that the words select; returns whether a pixel is open.

    monomials: for the block, [half][x] of lanes (y, m): (1, u, v, u^2) and (u v, v^2, 0, 0) at pixel (x, y).
    """
    px, py = pixel_centres(s, x, y)
    at = [s.index(state_at, layout.LANES * j) for j in range(OUTPUT_GRADIENT + channels)]
    before = [s.load(state, i, aligned=True) for i in at]
    output = before[OUTPUT_GRADIENT:]
    padded = output + [s.constant(0.0)] * (4 * quads(channels) - channels)
    output_by_pixel = [_by_pixel(s, padded[4 * q : 4 * q + 4]) for q in range(quads(channels))]
    moments = [[s.load(monomials, s.index(monomials_at, 16 * (4 * half + i)), aligned=True) for i in range(4)]
               for half in range(2)]  # fmt: skip
    width = sums_width(channels)

    def step(i: ir.Value, now: Sequence[Vec]) -> list[Vec]:
        row = s.index(i, 0, layout.ROW)
        dx, dy = offsets(s, rows, row, px, py)
        free = unclamped_alpha(s, rows, row, dx, dy)
        alpha = s.minimum(free, MAX_ALPHA)
        rest = 1.0 - alpha
        inverse_rest = 1.0 / rest
        gain = s.dot(output[::-1], [s.broadcast(rows, s.index(row, layout.CHANNEL + j)) for j in range(channels)][::-1])
        transmittance, remaining = now
        counts, weight, following = blend(s, transmittance, alpha, rest)
        remaining = s.fma(-weight, gain, remaining)
        minus_v_alpha = s.fma(remaining, inverse_rest, -(transmittance * gain))
        v_sigma = (counts & (free <= MAX_ALPHA)).select(free * minus_v_alpha, 0.0)
        _accumulate(i, v_sigma, weight, (row, dx, dy))
        return [following, remaining]

    def _accumulate(i: ir.Value, v_sigma: Vec, weight: Vec, geometry: tuple[ir.Value, Vec, Vec]) -> None:
        places = [s.index(s.index(i, 0, 16 * width), 16 * j) for j in range(width)]
        total = [s.load(sums, place, aligned=True) for place in places]
        for x_ in range(4):
            every = [4 * y_ + x_ for y_ in ROWS for _ in range(4)]  # pixel x of each row in all its lanes
            v, f = s.shuffle(v_sigma, None, every), s.shuffle(weight, None, every)
            total[0] = s.fma(v, moments[0][x_], total[0])
            total[1] = s.fma(v, moments[1][x_], total[1])
            for q in range(width - 2):
                total[2 + q] = s.fma(f, output_by_pixel[q][x_], total[2 + q])
        if absgrad:  # dloss/dmean = -dloss/dsigma dsigma/dpixel, and sigma = -ln 2 log2 alpha + const
            row, dx, dy = geometry
            a, b, c = (s.broadcast(rows, s.index(row, j)) for j in (layout.A, layout.B, layout.C))
            slope_x, slope_y = s.fma(b, dy, 2.0 * a * dx), s.fma(b, dx, 2.0 * c * dy)
            total[1] = total[1] + _row_sums(s, s.abs(v_sigma * slope_x), s.abs(v_sigma * slope_y))
        for vector, place in zip(total, places):
            s.store(vector, sums, place, aligned=True)

    after, still_open = for_each_set_bit(s, words, first_word, word_count, before[:2], step)
    for vector, place in zip(after, at):
        s.store(vector, state, place, aligned=True)
    return s.builder.zext(still_open, INT64)


@emitted
def flush_row(s: Simd, sums, i, mean_x, mean_y, gradients, target, channels) -> None:
    """Finish the sums of Gaussian i of a batch and add them to gradient row `target`.

    mean: seen from the tile's centre, like (u, v). The gradient row wants moments of d = mean - pixel, so with
    (a, b) = mean, sum s d_x = a sum s - sum s u, and sum s d_x^2 = a^2 sum s - 2 a sum s u + sum s u^2, and so on.
    """
    width = sums_width(channels)
    start = s.index(i, 0, 16 * width)
    quarters = []
    for j in range(width):
        v = s.load(sums, s.index(start, 16 * j), aligned=True)
        half = s.shuffle(v, None, range(8)) + s.shuffle(v, None, range(8, 16))
        quarters.append(s.shuffle(half, None, range(4)) + s.shuffle(half, None, range(4, 8)))
    quarters += [s.constants([0.0] * 4)] * (4 - width)
    halves = [s.shuffle(quarters[j], quarters[j + 1], range(8)) for j in (0, 2)]
    row = s.shuffle(halves[0], halves[1], range(16))
    signs = [1.0] * 16
    signs[layout.SUM_X] = signs[layout.SUM_Y] = -1.0
    signs[layout.ABS_X] = signs[layout.ABS_Y] = layout.LN_2
    row = row * s.constants(signs)

    def moved(v: Vec, moves: dict[int, tuple[int, float]]) -> Vec:
        """Return a vector whose lane `to` is factor * lane `source`; other lanes are 0."""
        source = [moves.get(lane, (lane, 0.0))[0] for lane in range(16)]
        return s.shuffle(v, None, source) * s.constants([moves.get(lane, (lane, 0.0))[1] for lane in range(16)])

    one, x, y, xx, xy, yy = layout.SUM, layout.SUM_X, layout.SUM_Y, layout.SUM_XX, layout.SUM_XY, layout.SUM_YY
    a, b = s.splat(mean_x), s.splat(mean_y)
    row = s.fma(a * a, moved(row, {xx: (one, 1.0)}),
                s.fma(a, moved(row, {x: (one, 1.0), xx: (x, 2.0), xy: (y, 1.0)}), row))  # fmt: skip
    row = s.fma(b * b, moved(row, {yy: (one, 1.0)}),
                s.fma(b, moved(row, {y: (one, 1.0), yy: (y, 2.0), xy: (x, 1.0)}), row))  # fmt: skip
    place = s.index(target, 0, layout.ROW)
    s.store(s.load(gradients, place, aligned=True) + row, gradients, place, aligned=True)
