"""Elementary functions and data movement on vectors."""

import math
from collections.abc import Sequence

from llvmlite import ir

from splatdistill.render.cpu.kernels.simd import Simd, Vec

# 2^f on [-1/2, 1/2], lowest power first. float32: Chebyshev interpolation, relative error 1.1e-7.
EXP2_SINGLE = (
    1.0000000754548972,
    0.6931471880262273,
    0.2402210748530968,
    0.05550357114222094,
    0.009676031918255982,
    0.001339086336353527,
)
EXP2_DOUBLE = tuple(math.log(2) ** i / math.factorial(i) for i in range(15))  # Taylor, relative error < 1e-16


def exp2(s: Simd, x: Vec) -> Vec:
    """Return 2^x = 2^n 2^f with n = round(x): a polynomial in f, and n added to the exponent's bits.

    Only for results that are normal numbers (|x| < 126 in float32); the caller masks other lanes.
    """
    single = s.suffix == "f32"
    coefficients = EXP2_SINGLE if single else EXP2_DOUBLE
    n = s.rint(x)
    f = x - n
    power = s.constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        power = s.fma(power, f, c)
    b = s.builder
    shift = ir.Constant(s.integers, [23 if single else 52] * s.lanes)
    exponent = b.shl(b.fptosi(n.value, s.integers), shift)
    return Vec(s, b.bitcast(b.add(b.bitcast(power.value, s.integers), exponent), s.vector))


def log2(s: Simd, x: Vec) -> Vec:
    """Return log2 of positive normal numbers: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and
    log2 m = 2 / ln 2 * (t + t^3 / 3 + t^5 / 5 + ...) with t = (m - 1) / (m + 1).
    """
    single = s.suffix == "f32"
    b = s.builder

    def every(n: int) -> ir.Constant:
        return ir.Constant(s.integers, [n] * s.lanes)

    root_half = every(0x3F3504F3 if single else 0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
    mantissa_bits = every(23 if single else 52)
    bits = b.bitcast(x.value, s.integers)
    e = b.ashr(b.sub(bits, root_half), mantissa_bits)
    m = Vec(s, b.bitcast(b.sub(bits, b.shl(e, mantissa_bits)), s.vector))
    t = (m - 1.0) / (m + 1.0)
    terms = 5 if single else 12
    series = s.constant(2 / math.log(2) / (2 * terms + 1))
    for i in range(terms - 1, -1, -1):
        series = s.fma(series, t * t, 2 / math.log(2) / (2 * i + 1))
    return s.fma(series, t, Vec(s, b.sitofp(e, s.vector)))


def to_int32(s: Simd, x: Vec) -> ir.Value:
    """Return integral floats as 32-bit integers."""
    return s.builder.fptosi(x.value, ir.VectorType(ir.IntType(32), x.count))


def split(s: Simd, array: ir.Value, index: ir.Value, width: int) -> list[Vec]:
    """Return 16 consecutive structures of `width` scalars as `width` vectors."""
    wide = s.load(array, index, s.lanes * width)
    return [s.shuffle(wide, None, range(j, s.lanes * width, width)) for j in range(width)]


def join(s: Simd, vectors: Sequence[Vec]) -> Vec:
    """Return the inverse of `split`: lane l of every vector, then lane l + 1, ..."""
    n = s.lanes
    wide, count = vectors[0], n
    for v in vectors[1:]:  # append, filling the second operand up to the first one's length
        padded = v if count == n else s.shuffle(v, None, [min(i, n - 1) for i in range(count)])
        wide = s.shuffle(wide, padded, range(count + n))
        count += n
    return s.shuffle(wide, None, [n * j + lane for lane in range(n) for j in range(len(vectors))])


def transpose(s: Simd, rows: Sequence[Vec]) -> list[Vec]:
    """Return 16 vectors as the 16 columns of their matrix: scalars within quarters first, then quarters, because
    shuffles within 128 bits are cheap everywhere.
    """
    quads = [4 * g for g in range(4)]
    low = [i for q in quads for i in (q, 16 + q, q + 1, 17 + q)]
    high = [i for q in quads for i in (q + 2, 18 + q, q + 3, 19 + q)]
    low_pair = [i for q in quads for i in (q, q + 1, 16 + q, 17 + q)]
    high_pair = [i for q in quads for i in (q + 2, q + 3, 18 + q, 19 + q)]
    by_four: list[Vec] = []  # by_four[4 r + c], quarter g: rows 4 r to 4 r + 3 of column 4 g + c
    for r in range(0, 16, 4):
        a, b, c, d = rows[r : r + 4]
        ab, cd = s.shuffle(a, b, low), s.shuffle(c, d, low)
        by_four += [s.shuffle(ab, cd, low_pair), s.shuffle(ab, cd, high_pair)]
        ab, cd = s.shuffle(a, b, high), s.shuffle(c, d, high)
        by_four += [s.shuffle(ab, cd, low_pair), s.shuffle(ab, cd, high_pair)]

    def quarters(a: Vec, b: Vec, first: int, second: int) -> Vec:
        return s.shuffle(a, b, [16 * (v // 2) + 4 * (first, second)[v % 2] + i for v in range(4) for i in range(4)])

    columns: list[Vec] = [rows[0]] * 16
    for c in range(4):
        a, b, d, e = (by_four[4 * r + c] for r in range(4))
        even, odd = (quarters(a, b, g, g + 1) for g in (0, 2))  # quarters 0 1 of both, quarters 2 3 of both
        even_, odd_ = (quarters(d, e, g, g + 1) for g in (0, 2))
        columns[c], columns[4 + c] = quarters(even, even_, 0, 2), quarters(even, even_, 1, 3)
        columns[8 + c], columns[12 + c] = quarters(odd, odd_, 0, 2), quarters(odd, odd_, 1, 3)
    return columns
