"""Compositing over one block of 4 x 4 pixels, front to back, and what the backward pass shares with it.

Pixel by pixel, with the Gaussians i of the pixel in order of depth:

    alpha_i = min(MAX_ALPHA, 2^(OFFSET + A dx^2 + B dx dy + C dy^2)),  skipped below MIN_ALPHA
    T_{i+1} = T_i (1 - alpha_i),  stopping before the Gaussian with T_{i+1} <= MIN_TRANSMITTANCE
    channel = sum_i alpha_i T_i channel_i + T_end background,  alpha = 1 - T_end

T only ever falls. So it simply runs on, and a Gaussian counts where its T_{i+1} > MIN_TRANSMITTANCE: the same rule as
stopping, without a flag that every step would have to wait for.
"""

import math
from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import cgutils

from splatdistill.render import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.functions import exp2
from splatdistill.render.cpu.kernels.simd import BIT, INT64, Mask, Simd, Vec, emitted

LANE_X = [lane % layout.BLOCK for lane in range(layout.LANES)]
LANE_Y = [lane // layout.BLOCK for lane in range(layout.LANES)]

# State of a block between batches, one vector each:
RUNNING, FINAL, ACCUMULATED = 0, 1, 2  # T as it runs on; T after the last Gaussian that counts; one per channel


def pixel_centres(s: Simd, x: ir.Value, y: ir.Value) -> tuple[Vec, Vec]:
    """Return the centres of a block's pixels, given that of its first."""
    return s.splat(x) + s.constants(LANE_X), s.splat(y) + s.constants(LANE_Y)


def offsets(s: Simd, rows: ir.Value, row: ir.Value, x: Vec, y: Vec) -> tuple[Vec, Vec]:
    """Return pixel - mean for the row that begins at rows[row]."""
    dx = x - s.broadcast(rows, s.index(row, layout.MEAN_X))
    dy = y - s.broadcast(rows, s.index(row, layout.MEAN_Y))
    return dx, dy


def unclamped_alpha(s: Simd, rows: ir.Value, row: ir.Value, dx: Vec, dy: Vec) -> Vec:
    """Return 2^(log2 alpha); 0 below MIN_ALPHA, where exp2's bits are meaningless and could be slow denormal numbers."""
    a, b, c, offset = (s.broadcast(rows, s.index(row, i)) for i in (layout.A, layout.B, layout.C, layout.OFFSET))
    along_x = s.fma(b, dy, a * dx)
    exponent = s.fma(c * dy, dy, s.fma(along_x, dx, offset))
    return (exponent >= math.log2(MIN_ALPHA)).select(exp2(s, exponent), 0.0)


def blend(s: Simd, transmittance: Vec, alpha: Vec, rest: Vec) -> tuple[Mask, Vec, Vec]:
    """Return whether the Gaussian counts, its weight alpha T (0 if not), and the next T; rest: 1 - alpha."""
    following = transmittance * rest
    counts = following > MIN_TRANSMITTANCE
    return counts, counts.select(alpha * transmittance, 0.0), following


def for_each_set_bit(
    s: Simd,
    words: ir.Value,
    first: ir.Value,
    count: ir.Value,
    state: Sequence[Vec],
    step: Callable[[ir.Value, Sequence[Vec]], Sequence[Vec]],
) -> tuple[list[Vec], ir.Value]:
    """Run state = step(i, state) for the set bits i, ascending, of the `count` words from words[first] on.

    Ends early once no lane of state[0], the transmittance, is above MIN_TRANSMITTANCE. Returns the last state and
    whether a pixel is still open. The state lives in registers throughout.
    """
    b = s.builder
    zero, one = ir.Constant(INT64, 0), ir.Constant(INT64, 1)
    entry = b.block
    next_word, next_bit, body, word_done, end = (
        b.append_basic_block(name) for name in ("next_word", "next_bit", "body", "word_done", "end")
    )

    def opened(transmittance: ir.Value) -> ir.Value:
        return (Vec(s, transmittance) > MIN_TRANSMITTANCE).any()

    b.cbranch(b.and_(b.icmp_signed(">", count, zero), opened(state[0].value)), next_word, end)

    b.position_at_end(next_word)
    word_index = b.phi(INT64)
    at_word = [b.phi(v.value.type) for v in state]
    word = b.load(s.address(words, b.add(first, word_index)))
    b.branch(next_bit)

    b.position_at_end(next_bit)
    left = b.phi(INT64)
    at_bit = [b.phi(v.value.type) for v in state]
    open_ = opened(at_bit[0])
    b.cbranch(b.and_(b.icmp_unsigned("!=", left, zero), open_), body, word_done)

    b.position_at_end(body)
    trailing_zeros = cgutils.get_or_insert_function(b.module, ir.FunctionType(INT64, [INT64, BIT]), "llvm.cttz.i64")
    bit = b.call(trailing_zeros, [left, ir.Constant(BIT, 1)])
    rest = b.and_(left, b.sub(left, one))
    new = step(s.index(word_index, bit, 64), [Vec(s, v) for v in at_bit])
    body_end = b.block
    b.branch(next_bit)

    b.position_at_end(word_done)
    following = b.add(word_index, one)
    b.cbranch(b.and_(b.icmp_signed("<", following, count), open_), next_word, end)

    b.position_at_end(end)
    last = [b.phi(v.value.type) for v in state]
    word_index.add_incoming(zero, entry)
    word_index.add_incoming(following, word_done)
    left.add_incoming(word, next_word)
    left.add_incoming(rest, body_end)
    for outer, inner, final, start, stepped in zip(at_word, at_bit, last, state, new):
        outer.add_incoming(start.value, entry)
        outer.add_incoming(inner, word_done)
        inner.add_incoming(outer, next_word)
        inner.add_incoming(stepped.value, body_end)
        final.add_incoming(start.value, entry)
        final.add_incoming(inner, word_done)
    return [Vec(s, v) for v in last], opened(last[0])


@emitted
def composite_block(s: Simd, rows, words, first_word, word_count, state, state_at, x, y, channels) -> int:
    """Composite the Gaussians that the words select out of a batch; returns whether a pixel is still open."""
    px, py = pixel_centres(s, x, y)
    at = [s.index(state_at, layout.LANES * j) for j in range(ACCUMULATED + channels)]

    def step(i: ir.Value, now: Sequence[Vec]) -> list[Vec]:
        row = s.index(i, 0, layout.ROW)
        dx, dy = offsets(s, rows, row, px, py)
        alpha = s.minimum(unclamped_alpha(s, rows, row, dx, dy), MAX_ALPHA)
        counts, weight, following = blend(s, now[RUNNING], alpha, 1.0 - alpha)
        new = [following, counts.select(following, now[FINAL])]
        for j in range(channels):
            value = s.broadcast(rows, s.index(row, layout.CHANNEL + j))
            new.append(s.fma(weight, value, now[ACCUMULATED + j]))
        return new

    before = [s.load(state, i, aligned=True) for i in at]
    after, still_open = for_each_set_bit(s, words, first_word, word_count, before, step)
    for vector, i in zip(after, at):
        s.store(vector, state, i, aligned=True)
    return s.builder.zext(still_open, INT64)
