"""Projection of 16 Gaussians for one camera: their rows for compositing, and what binning and densifiers need."""

import math

from llvmlite import ir

from splatdistill.render import MIN_ALPHA, NEAR
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.functions import join, log2, split, to_int32, transpose
from splatdistill.render.cpu.kernels.projection_math import camera, project, rotations, short_axes
from splatdistill.render.cpu.kernels.simd import INT32, Mask, Simd, Vec, emitted

SIGMAS = 3.33  # a Gaussian ends here at the latest: exp(-3.33^2 / 2) < MIN_ALPHA
LARGEST = 2.0**30  # pixels; a screen radius beyond (or not a number) is culled


@emitted
def project_group(
    s: Simd, means, quats, scales, opacities, source, cameras, camera_at, colours, colour_at,
    rows, screen, radii, depths, rectangles, target, channels,
) -> None:  # fmt: skip
    """Project Gaussians source to source + 15 of the inputs; write entries target to target + 15 of the outputs.

    Culled are Gaussians nearer than NEAR, fainter than MIN_ALPHA everywhere, outside the image, or not finite:
    radius 0 and an empty rectangle.
    """
    mean = split(s, means, s.index(source, 0, 3), 3)
    rotation = rotations(s, split(s, quats, s.index(source, 0, 4), 4))
    scale = split(s, scales, s.index(source, 0, 3), 3)
    opacity = s.load(opacities, source)
    cam = camera(s, cameras, camera_at)
    p = project(s, cam, mean, rotation.matrix, scale)
    z, (xx, _, yy), (mx, my) = p.point[2], p.covariance, p.mean

    # log2 alpha = offset + a dx^2 + b dx dy + c dy^2
    a, b, c = (k * f for k, f in zip(p.conic, (-0.5 * layout.LOG2_E, -layout.LOG2_E, -0.5 * layout.LOG2_E)))
    offset = log2(s, s.maximum(opacity, 1e-30))
    reach = offset - math.log2(MIN_ALPHA)
    # alpha >= MIN_ALPHA up to `sigmas` standard deviations: sigma = sigmas^2 / 2 = ln 2 * reach
    sigmas = s.minimum(s.sqrt(s.maximum(reach, 0.0) * (2 * layout.LN_2)), SIGMAS)
    extent_x, extent_y = sigmas * s.sqrt(xx), sigmas * s.sqrt(yy)
    rx, ry = s.ceil(extent_x), s.ceil(extent_y)
    width, height = cam.size
    seen = (z >= NEAR) & (reach >= 0.0) & (rx > 0.0) & (rx < LARGEST) & (ry > 0.0) & (ry < LARGEST)
    seen = seen & (mx + rx > 0.0) & (mx - rx < width) & (my + ry > 0.0) & (my - ry < height)

    columns, rows_ = _tile_span(s, mx, extent_x, width), _tile_span(s, my, extent_y, height)
    _store_rectangles(s, seen, columns, rows_, rectangles, target)
    zero = s.constant(0.0)
    s.store(to_int32(s, seen.select(s.maximum(rx, ry), zero)), radii, target)
    s.store(z, depths, target)
    s.store(join(s, [seen.select(m, zero) for m in p.mean]), screen, s.index(target, 0, 2))

    row = [mx, my, a, b, c, offset, -(b / (2.0 * c)), -(b / (2.0 * a)), reach + 0.004]
    row += split(s, colours, colour_at, 3)
    if channels == 7:
        row += short_axes(s, cam, mean, rotation.matrix, scale).normal
    row.append(z)
    row += [zero] * (layout.ROW - len(row))
    for lane, vector in enumerate(transpose(s, row)):
        s.store(vector, rows, s.index(s.index(target, lane), 0, layout.ROW), aligned=True)


def _tile_span(s: Simd, mean: Vec, extent: Vec, size: Vec) -> tuple[ir.Value, ir.Value, Mask]:
    """Return the first tile, one past the last tile, and whether there is one, of the pixel centres within the extent."""
    extent = extent * 1.001  # rounding never loses a pixel
    first = s.maximum(s.ceil(mean - extent - 0.5), 0.0)
    last = s.minimum(s.floor(mean + extent - 0.5), size - 1.0)
    some = first <= last
    tile = 1.0 / layout.TILE
    return to_int32(s, s.floor(first * tile)), to_int32(s, s.floor(last * tile) + 1.0), some


def _store_rectangles(s: Simd, seen: Mask, columns, rows, rectangles: ir.Value, target: ir.Value) -> None:
    """Write tile rectangles as four 16-bit numbers x0, x1, y0, y1 (x0 lowest) in two 32-bit halves; 0 where culled."""
    b = s.builder
    seen = seen & columns[2] & rows[2]
    count = s.lanes
    sixteen = ir.Constant(ir.VectorType(INT32, count), [16] * count)
    nothing = ir.Constant(ir.VectorType(INT32, count), [0] * count)
    halves = [b.or_(span[0], b.shl(span[1], sixteen)) for span in (columns, rows)]
    halves = [b.select(seen.value, half, nothing) for half in halves]
    mixed = ir.Constant(ir.VectorType(INT32, 2 * count), [i for lane in range(count) for i in (lane, count + lane)])
    s.store(b.shuffle_vector(halves[0], halves[1], mixed), rectangles, target)
