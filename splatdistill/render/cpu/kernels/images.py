"""A block's state to and from the images. Images are planar: a channel is a plane of whole tiles, row by row."""

from collections.abc import Sequence

from llvmlite import ir

from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.blocks import ACCUMULATED, FINAL
from splatdistill.render.cpu.kernels.blocks_backward import OUTPUT_GRADIENT, REMAINING, TRANSMITTANCE
from splatdistill.render.cpu.kernels.simd import Simd, Vec, emitted

MIN_COVERED = 1e-10  # expected depth divides by the larger of alpha and this


def _load_block(s: Simd, plane: ir.Value, pixel: ir.Value, stride: ir.Value) -> Vec:
    rows = [s.load(plane, s.index(pixel, s.builder.mul(stride, s.index(y))), layout.BLOCK) for y in range(layout.BLOCK)]
    halves = [s.shuffle(rows[y], rows[y + 1], range(8)) for y in (0, 2)]
    return s.shuffle(halves[0], halves[1], range(16))


def _store_block(s: Simd, block: Vec, plane: ir.Value, pixel: ir.Value, stride: ir.Value) -> None:
    for y in range(layout.BLOCK):
        part = s.shuffle(block, None, range(layout.BLOCK * y, layout.BLOCK * (y + 1)))
        s.store(part, plane, s.index(pixel, s.builder.mul(stride, s.index(y))))


def _planes(s: Simd, images: Sequence[ir.Value], camera, size, pixel, channels: int) -> list[tuple[ir.Value, ir.Value]]:
    """Return (image, index of the block's first pixel) of every channel: rgb, normal if there, depth."""
    rgb, normal, depth = images
    owners = [(rgb, 3, j) for j in range(3)] + [(normal, 3, j) for j in range(channels - 4)] + [(depth, 1, 0)]
    b = s.builder
    return [(image, b.add(b.mul(s.index(s.index(camera, 0, planes), j), size), pixel)) for image, planes, j in owners]


@emitted
def store_block(
    s: Simd, state, state_at, rgb, normal, depth, alpha, transmittance, background,
    camera, size, pixel, stride, channels,
) -> None:  # fmt: skip
    """Write a finished block: rgb over its background, depth divided by alpha.

    camera: which; size: pixels in a plane; pixel: the block's first; stride: pixels in a row of the image.
    """
    end = s.load(state, s.index(state_at, layout.LANES * FINAL), aligned=True)
    covered = 1.0 - end
    plane = s.builder.add(s.builder.mul(camera, size), pixel)
    _store_block(s, end, transmittance, plane, stride)
    _store_block(s, covered, alpha, plane, stride)
    for j, (image, at) in enumerate(_planes(s, (rgb, normal, depth), camera, size, pixel, channels)):
        value = s.load(state, s.index(state_at, layout.LANES * (ACCUMULATED + j)), aligned=True)
        if j < 3:
            value = s.fma(end, s.broadcast(background, s.index(camera, j, 3)), value)
        elif j == channels - 1:
            value = value / s.maximum(covered, MIN_COVERED)
        _store_block(s, value, image, at, stride)


@emitted
def load_block_gradient(
    s: Simd, state, state_at, rgb, normal, depth, v_rgb, v_normal, v_depth, v_alpha, transmittance,
    camera, size, pixel, stride, channels,
) -> None:  # fmt: skip
    """Write the first state of the backward pass: T = 1, dloss/dchannel before the division by alpha, and
    Q = sum_c out_c dloss/dout_c - T_end dloss/dalpha.

    depth = sum / max(alpha, tiny) passes dloss/ddepth / alpha to the sum and -depth dloss/ddepth / alpha to alpha.
    """
    plane = s.builder.add(s.builder.mul(camera, size), pixel)
    end = _load_block(s, transmittance, plane, stride)
    covered = 1.0 - end
    v_covered = _load_block(s, v_alpha, plane, stride)
    remaining = s.constant(0.0)
    gradients = []
    outputs = _planes(s, (rgb, normal, depth), camera, size, pixel, channels)
    wanted = _planes(s, (v_rgb, v_normal, v_depth), camera, size, pixel, channels)
    for j, ((image, at), (v_image, v_at)) in enumerate(zip(outputs, wanted)):
        out, gradient = _load_block(s, image, at, stride), _load_block(s, v_image, v_at, stride)
        remaining = s.fma(gradient, out, remaining)
        if j == channels - 1:
            gradient = gradient / s.maximum(covered, MIN_COVERED)
            v_covered = (covered > MIN_COVERED).select(s.fma(-gradient, out, v_covered), v_covered)
        gradients.append(gradient)
    remaining = s.fma(-end, v_covered, remaining)

    def put(value: Vec, slot: int) -> None:
        s.store(value, state, s.index(state_at, layout.LANES * slot), aligned=True)

    put(s.constant(1.0), TRANSMITTANCE)
    put(remaining, REMAINING)
    for j, gradient in enumerate(gradients):
        put(gradient, OUTPUT_GRADIENT + j)
