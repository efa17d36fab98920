"""Colours of 16 Gaussians from spherical harmonics, max(sum_k sh_k Y_k(direction) + 1/2, 0), and their gradients.

The sum runs along a Gaussian's coefficients, which lie one after the other (k, channel), 15 at a time: lane i belongs
to channel i % 3 in every such chunk, so chunks simply add up. Basis values are computed with a Gaussian per lane and
turned into a coefficient per lane by a transposition; so are the sums, back.
"""


from llvmlite import ir

from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.functions import join, split, transpose
from splatdistill.render.cpu.kernels.simd import Simd, Vec, emitted

C1, C2, C3 = 0.4886025119029199, 1.0925484305920792, 0.5900435899266435

# Y_k as polynomials of the unit direction: {monomial: factor}; the same functions as splatdistill.sh.basis.
BASIS: tuple[dict[str, float], ...] = (
    {"": 0.2820947917738781},
    {"y": -C1},
    {"z": C1},
    {"x": -C1},
    {"xy": C2},
    {"yz": -C2},
    {"zz": 0.9461746957575601, "": -0.31539156525252005},
    {"xz": -C2},
    {"xx": 0.5462742152960396, "yy": -0.5462742152960396},
    {"xxy": -3 * C3, "yyy": C3},
    {"xyz": 2.890611442640554},
    {"yzz": -5 * 0.4570457994644658, "y": 0.4570457994644658},
    {"zzz": 5 * 0.3731763325901154, "z": -3 * 0.3731763325901154},
    {"xzz": -5 * 0.4570457994644658, "x": 0.4570457994644658},
    {"xxz": 1.445305721320277, "yyz": -1.445305721320277},
    {"xxx": -C3, "xyy": 3 * C3},
)

CHUNK = 15  # coefficients, five of each channel


def derivative(polynomial: dict[str, float], by: str) -> dict[str, float]:
    """Return the partial derivative by one of x, y, z."""
    terms = ((m.replace(by, "", 1), m.count(by) * factor) for m, factor in polynomial.items() if by in m)
    out: dict[str, float] = {}
    for monomial, factor in terms:
        out[monomial] = out.get(monomial, 0.0) + factor
    return out


class Direction:
    """Unit vectors from the camera to 16 Gaussians, and polynomials of them."""

    def __init__(self, s: Simd, means: ir.Value, source: ir.Value, cameras: ir.Value, camera_at: ir.Value) -> None:
        self.s = s
        mean = split(s, means, s.index(source, 0, 3), 3)
        away = [m - s.broadcast(cameras, s.index(camera_at, layout.POSITION + i)) for i, m in enumerate(mean)]
        self.inverse_length = 1.0 / s.maximum(s.sqrt(s.dot(away, away)), 1e-12)
        self.unit = [a * self.inverse_length for a in away]
        self._monomials = {"": s.constant(1.0), **dict(zip("xyz", self.unit))}

    def _monomial(self, name: str) -> Vec:
        if name not in self._monomials:
            self._monomials[name] = self._monomial(name[:-1]) * self._monomials[name[-1]]
        return self._monomials[name]

    def value(self, polynomial: dict[str, float]) -> Vec:
        """Return the polynomial at the directions."""
        total = self.s.constant(0.0)
        for name, factor in polynomial.items():
            total = self.s.fma(self._monomial(name), factor, total)
        return total

    def by_coefficient(self, count: int) -> list[Vec]:
        """Return for each Gaussian the values of the first `count` basis functions, one per lane; other lanes are 0."""
        values = [self.value(p) for p in BASIS[:count]]
        return transpose(self.s, values + [self.s.constant(0.0)] * (16 - count))


def _chunks(count: int) -> list[tuple[int, int]]:
    """Return (first, length) of the chunks of 3 * count coefficients."""
    return [(start, min(CHUNK, 3 * count - start)) for start in range(0, 3 * count, CHUNK)]


def _load_chunk(s: Simd, sh: ir.Value, row: ir.Value, start: int, length: int, total: int) -> Vec:
    """Return coefficients row + start onwards; lanes from `length` on are 0, or one more coefficient of the same Gaussian."""
    if start + 16 <= total:
        return s.load(sh, s.index(row, start))
    short = s.load(sh, s.index(row, start), length)
    return s.shuffle(short, s.constants([0.0] * length), [min(i, length) for i in range(16)])


def _spread(s: Simd, basis: Vec, start: int, length: int) -> Vec:
    """Return each basis value in the three lanes of its coefficients; 0 in lanes from `length` on."""
    return s.shuffle(basis, s.constant(0.0), [(start + i) // 3 if i < length else 16 for i in range(16)])


def _row(s: Simd, source: ir.Value, lane: int, last: ir.Value, width: int) -> ir.Value:
    """Return the offset of the coefficients of Gaussian source + lane; the last Gaussian's for those that pad a group."""
    b = s.builder
    i = s.index(source, lane)
    return s.index(b.select(b.icmp_signed("<", i, last), i, last), 0, width)


@emitted
def shade_group(s: Simd, sh, means, source, last, cameras, camera_at, colours, target, degree) -> None:
    """Write colours[target...] of Gaussians source to source + 15 (of which `last` is the last that exists)."""
    count = (degree + 1) ** 2
    basis = Direction(s, means, source, cameras, camera_at).by_coefficient(count)
    sums = []
    for lane in range(16):
        row = _row(s, source, lane, last, 3 * count)
        total = s.constant(0.0)
        for start, length in _chunks(count):
            chunk = _load_chunk(s, sh, row, start, length, 3 * count)
            total = s.fma(chunk, _spread(s, basis[lane], start, length), total)
        sums.append(total)
    by_lane = transpose(s, sums)
    out = []
    for channel in range(3):
        parts = by_lane[channel : min(CHUNK, 3 * count) : 3]
        value = sum(parts[1:], parts[0]) + 0.5
        out.append((value < 0.0).select(0.0, value))  # NaN stays NaN: the image must show it
    s.store(join(s, out), colours, s.index(target, 0, 3))


@emitted
def shade_group_backward(
    s: Simd, sh, means, source, last, cameras, camera_at, colours, v_colours, at, v_sh, v_means, degree
) -> None:
    """Add one camera's part to dloss/dsh and dloss/dmean; entries of both colour arrays begin at `at`."""
    count = (degree + 1) ** 2
    zero = s.constant(0.0)
    direction = Direction(s, means, source, cameras, camera_at)
    basis = direction.by_coefficient(count)
    seen = split(s, colours, s.index(at, 0, 3), 3)
    v = [(c <= 0.0).select(zero, g) for c, g in zip(seen, split(s, v_colours, s.index(at, 0, 3), 3))]
    v_by_coefficient = transpose(s, v * 5 + [zero])  # lane i: channel i % 3
    v_basis: list[Vec] = []
    for start, length in _chunks(count):
        products = []
        for lane in range(16):
            gradient = v_by_coefficient[lane]
            row = _row(s, source, lane, last, 3 * count)
            products.append(_load_chunk(s, sh, row, start, length, 3 * count) * gradient)
            target = s.index(s.index(source, lane), start, 3 * count)
            part = _spread(s, basis[lane], start, length) * gradient
            _add(s, v_sh, target, part, 16 if start + 16 <= 3 * count else length)
        by_lane = transpose(s, products)
        v_basis += [by_lane[i] + by_lane[i + 1] + by_lane[i + 2] for i in range(0, length, 3)]

    slopes = [[direction.value(derivative(p, axis)) for p in BASIS[1:count]] for axis in "xyz"]
    v_unit = [s.dot(v_basis[1:], slope) for slope in slopes]
    along = s.dot(v_unit, direction.unit)
    v_mean = [(g - u * along) * direction.inverse_length for g, u in zip(v_unit, direction.unit)]
    _add(s, v_means, s.index(source, 0, 3), join(s, v_mean), 48)


def _add(s: Simd, array: ir.Value, start: ir.Value, values: Vec, count: int) -> None:
    """Add values[:count] to array[start : start + count]."""
    part = values if count == values.count else s.shuffle(values, None, range(count))
    s.store(s.load(array, start, count) + part, array, start)
