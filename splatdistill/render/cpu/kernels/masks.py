"""Masks of the blocks of a tile that a Gaussian touches: rows copied next to each other, and one bit per Gaussian and block."""

from llvmlite import ir
from numba.core import cgutils

from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.simd import INT64, Simd, Vec, emitted

# Centre of each block's first pixel, seen from the tile's centre.
BLOCK_X = [-layout.TILE // 2 + layout.BLOCK * (q % 4) + 0.5 for q in range(layout.BLOCKS)]
BLOCK_Y = [-layout.TILE // 2 + layout.BLOCK * (q // 4) + 0.5 for q in range(layout.BLOCKS)]


def _copy_row(s: Simd, rows, source, following, batch, i, centre_x, centre_y) -> tuple[ir.Value, Vec]:
    """Copy row `source` to row i of the batch, its mean relative to the tile's centre; prefetch row `following`."""
    s.prefetch(rows, s.index(following, 0, layout.ROW))
    b = s.builder
    row = s.load(rows, s.index(source, 0, layout.ROW), aligned=True)
    centre = s.constant(0.0).value
    for lane, value in ((layout.MEAN_X, centre_x), (layout.MEAN_Y, centre_y)):
        centre = b.insert_element(centre, value, ir.Constant(ir.IntType(32), lane))
    row = row - Vec(s, centre)
    target = s.index(i, 0, layout.ROW)
    s.store(row, batch, target, aligned=True)
    return target, row


@emitted
def gather_with_mask(s: Simd, rows, source, following, batch, i, centre_x, centre_y) -> int:
    """Copy a row and return the 16-bit mask of the blocks where alpha can reach MIN_ALPHA.

    Exactly: -(A dx^2 + B dx dy + C dy^2), a convex function, has its least value over a block's rectangle of pixel
    centres at the rectangle's point nearest to the mean if that is the mean itself, or on one of the two edges that
    face the mean; on an edge it lies at the ridge, clamped to the edge.
    """
    _, row = _copy_row(s, rows, source, following, batch, i, centre_x, centre_y)

    def entry(lane: int) -> Vec:
        return s.broadcast(rows, s.index(s.index(source, 0, layout.ROW), lane))

    def mean(lane: int) -> Vec:
        return s.splat(s.builder.extract_element(row.value, ir.Constant(ir.IntType(32), lane)))

    low_x, low_y = s.constants(BLOCK_X) - mean(layout.MEAN_X), s.constants(BLOCK_Y) - mean(layout.MEAN_Y)
    high_x, high_y = low_x + (layout.BLOCK - 1.0), low_y + (layout.BLOCK - 1.0)
    zero = s.constant(0.0)
    near_x = s.minimum(s.maximum(zero, low_x), high_x)
    near_y = s.minimum(s.maximum(zero, low_y), high_y)
    a, b, c = entry(layout.A), entry(layout.B), entry(layout.C)
    ridge_y = s.minimum(s.maximum(near_x * entry(layout.RIDGE_X), low_y), high_y)
    ridge_x = s.minimum(s.maximum(near_y * entry(layout.RIDGE_Y), low_x), high_x)
    upright = s.fma(s.fma(a, near_x, b * ridge_y), near_x, c * ridge_y * ridge_y)
    level = s.fma(s.fma(a, ridge_x, b * near_y), ridge_x, c * near_y * near_y)
    touched = s.maximum(upright, level) + entry(layout.REACH) >= 0.0
    return s.builder.zext(touched.bits(), INT64)


@emitted
def gather(s: Simd, rows, source, following, batch, i, centre_x, centre_y, gradients) -> None:
    """Copy a row without a mask (the backward pass kept them), and ask for its gradient row."""
    s.prefetch(gradients, s.index(source, 0, layout.ROW), write=True)
    _copy_row(s, rows, source, following, batch, i, centre_x, centre_y)


@emitted
def masks_to_words(s: Simd, rows, masks, first, count, words) -> None:
    """Transpose a batch's masks (a bit per block for each Gaussian) into words (a bit per Gaussian for each block)."""
    b = s.builder
    sixty_four = ir.VectorType(ir.IntType(layout.BLOCKS), 64)
    used = b.lshr(s.index(count, 63), ir.Constant(INT64, 6))
    with cgutils.for_range(b, used, intp=INT64) as loop:
        before = b.shl(loop.index, ir.Constant(INT64, 6))
        pointer = b.bitcast(s.address(masks, b.add(first, before)), sixty_four.as_pointer())
        group = b.load(pointer, align=layout.BLOCKS // 8)
        left = b.sub(count, before)
        full = b.icmp_signed(">=", left, ir.Constant(INT64, 64))
        one = ir.Constant(INT64, 1)
        part = b.sub(b.shl(one, b.and_(left, ir.Constant(INT64, 63))), one)
        keep = b.select(full, ir.Constant(INT64, -1), part)
        for q in range(layout.BLOCKS):
            bit = ir.Constant(sixty_four, [1 << q if q < layout.BLOCKS - 1 else -(1 << q)] * 64)
            is_set = b.icmp_unsigned("!=", b.and_(group, bit), ir.Constant(sixty_four, [0] * 64))
            word = b.and_(b.bitcast(is_set, INT64), keep)
            b.store(word, s.address(words, s.index(loop.index, q * layout.WORDS)))


@emitted
def zero_rows(s: Simd, array, start, count) -> None:
    """Clear `count` rows of 16 scalars from array[start] on."""
    with cgutils.for_range(s.builder, count, intp=INT64) as loop:
        s.store(s.constant(0.0), array, s.index(loop.index, start, 16), aligned=True)
