"""The gradient of projection for 16 Gaussians, summed over all cameras."""

from llvmlite import ir
from numba.core import cgutils

from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.functions import join, split, transpose
from splatdistill.render.cpu.kernels.projection_math import (
    CameraLanes,
    Projected,
    Rotations,
    camera,
    project,
    rotations,
    short_axes,
)
from splatdistill.render.cpu.kernels.simd import INT32, INT64, Mask, Simd, Vec, emitted


@emitted
def project_group_backward(
    s: Simd, means, quats, scales, opacities, source, cameras, camera_count, radii, gradients, threads,
    stride, mean_out, quat_out, scale_out, opacity_out, colour_out, colour_stride, screen_out, abs_out,
    channels, absgrad,
) -> None:  # fmt: skip
    """Write the gradients of Gaussians source to source + 15 from their gradient rows.

    Camera i's rows begin at entry i * stride of `gradients`, one copy per thread. Its colour gradients go to entry
    i * colour_stride and further, and are summed over cameras if that is 0.
    """
    b = s.builder
    mean = split(s, means, s.index(source, 0, 3), 3)
    rotation = rotations(s, split(s, quats, s.index(source, 0, 4), 4))
    scale = split(s, scales, s.index(source, 0, 3), 3)
    opacity = s.load(opacities, source)
    zero = s.constant(0.0)
    # dloss/d: mean (3), R S (9), R by way of the normal (9, if there), opacity (1)
    sums = [cgutils.alloca_once(b, s.vector) for _ in range(13 + (9 if channels == 7 else 0))]
    colour_sums = [cgutils.alloca_once(b, s.vector) for _ in range(3)]
    for slot in sums + colour_sums:
        b.store(zero.value, slot)

    with cgutils.for_range(b, camera_count, intp=INT64) as loop:
        entry = s.index(source, b.mul(loop.index, stride))
        seen = _seen(s, radii, entry)
        row = _summed_rows(s, gradients, threads, entry, b.mul(camera_count, stride))
        cam = camera(s, cameras, s.index(loop.index, 0, layout.CAMERA))
        p = project(s, cam, mean, rotation.matrix, scale)
        depth = row[layout.CHANNEL_GRADIENT + channels - 1]
        screen = [s.fma(p.conic[0], row[layout.SUM_X], p.conic[1] * row[layout.SUM_Y]),
                  s.fma(p.conic[1], row[layout.SUM_X], p.conic[2] * row[layout.SUM_Y])]  # fmt: skip
        v_mean, v_stretched = _projection_gradient(s, cam, p, row, screen, depth)
        v_opacity = -(row[layout.SUM] / opacity)  # alpha = o exp(-sigma): dalpha/do = alpha / o = -dalpha/dsigma / o
        new = [*v_mean, *v_stretched, v_opacity]
        if channels == 7:
            axes = short_axes(s, cam, mean, rotation.matrix, scale)
            v_normal = row[layout.CHANNEL_GRADIENT + 3 : layout.CHANNEL_GRADIENT + 6]
            new += [axes.smallest[j].select(axes.sign * v_normal[i], zero) for i in range(3) for j in range(3)]
        for slot, v in zip(sums, new):
            b.store((Vec(s, b.load(slot)) + seen.select(v, zero)).value, slot)
        s.store(join(s, [seen.select(v, zero) for v in screen]), screen_out, s.index(entry, 0, 2))
        if absgrad:
            s.store(join(s, row[layout.ABS_X : layout.ABS_Y + 1]), abs_out, s.index(entry, 0, 2))
        colour = row[layout.CHANNEL_GRADIENT : layout.CHANNEL_GRADIENT + 3]
        shared = b.icmp_signed("==", colour_stride, ir.Constant(INT64, 0))
        colour = [Vec(s, b.select(shared, (Vec(s, b.load(slot)) + v).value, v.value))
                  for slot, v in zip(colour_sums, colour)]  # fmt: skip
        for slot, v in zip(colour_sums, colour):
            b.store(v.value, slot)
        at = s.index(source, b.mul(loop.index, colour_stride))
        s.store(join(s, colour), colour_out, s.index(at, 0, 3))

    total = [Vec(s, b.load(slot)) for slot in sums]
    v_stretched = total[3:12]
    # M = R S: dR_ij = dM_ij s_j, ds_j = sum_i dM_ij R_ij
    v_scale = [s.dot(v_stretched[j::3], rotation.matrix[j::3]) for j in range(3)]
    v_rotation = [v_stretched[3 * i + j] * scale[j] for i in range(3) for j in range(3)]
    if channels == 7:
        v_rotation = [v + n for v, n in zip(v_rotation, total[13:])]
    v_quat = _quaternion_gradient(s, rotation, v_rotation)
    # A Gaussian that is not finite was culled; its gradient must say so instead of being zero.
    poison = 0.0 * sum([*mean, *rotation.unit, *scale], opacity)
    s.store(join(s, [v + poison for v in total[:3]]), mean_out, s.index(source, 0, 3))
    s.store(join(s, [v + poison for v in v_quat]), quat_out, s.index(source, 0, 4))
    s.store(join(s, [v + poison for v in v_scale]), scale_out, s.index(source, 0, 3))
    s.store(total[12] + poison, opacity_out, source)


def _seen(s: Simd, radii: ir.Value, entry: ir.Value) -> Mask:
    """Return the mask of the 16 Gaussians from `entry` on that were not culled."""
    b = s.builder
    kind = ir.VectorType(INT32, s.lanes)
    values = b.load(b.bitcast(s.address(radii, entry), kind.as_pointer()), align=4)
    return Mask(s, b.icmp_signed(">", values, ir.Constant(kind, [0] * s.lanes)))


def _summed_rows(s: Simd, gradients: ir.Value, threads: ir.Value, entry: ir.Value, copy: ir.Value) -> list[Vec]:
    """Return the 16 gradient rows from `entry` on, summed over the threads' copies, as one vector per column."""
    b = s.builder
    slots = [cgutils.alloca_once(b, s.vector) for _ in range(s.lanes)]
    at = [s.index(s.index(entry, lane), 0, layout.ROW) for lane in range(s.lanes)]
    for slot, start in zip(slots, at):
        b.store(s.load(gradients, start, aligned=True).value, slot)
    more = b.sub(threads, ir.Constant(INT64, 1))
    with cgutils.for_range(b, more, intp=INT64) as loop:
        skip = b.mul(s.index(loop.index, 1), s.index(copy, 0, layout.ROW))
        for slot, start in zip(slots, at):
            other = s.load(gradients, b.add(start, skip), aligned=True)
            b.store((Vec(s, b.load(slot)) + other).value, slot)
    return transpose(s, [Vec(s, b.load(slot)) for slot in slots])


def _projection_gradient(
    s: Simd, cam: CameraLanes, p: Projected, row: list[Vec], screen: list[Vec], depth: Vec
) -> tuple[list[Vec], list[Vec]]:
    """Return dloss/d: mean (3) and R S (9, row major).

    screen, depth: dloss/d(projected mean), dloss/dz. With K the conic, K's gradient V holds half the second moments,
    since sigma = d^T K d / 2. K = covariance^-1 gives dloss/dcovariance = -K V K; covariance = F F^T gives
    dloss/dF = 2 (-K V K) F; and F = J W R S the rest.
    """
    zero = s.constant(0.0)
    a, b, c = p.conic
    vxx, vxy, vyy = (0.5 * row[i] for i in (layout.SUM_XX, layout.SUM_XY, layout.SUM_YY))
    kv = [s.fma(a, vxx, b * vxy), s.fma(a, vxy, b * vyy), s.fma(b, vxx, c * vxy), s.fma(b, vxy, c * vyy)]
    kvk = [s.fma(kv[0], a, kv[1] * b), s.fma(kv[0], b, kv[1] * c), s.fma(kv[2], b, kv[3] * c)]
    gxx, gxy, gyy = (-2.0 * g for g in kvk)
    fx, fy = p.factor
    v_fx = [s.fma(gxx, fx[j], gxy * fy[j]) for j in range(3)]
    v_fy = [s.fma(gxy, fx[j], gyy * fy[j]) for j in range(3)]

    jxx, jyy, jxz, jyz = p.jacobian
    tx, ty, tz = p.turned[:3], p.turned[3:6], p.turned[6:]
    v_jxx, v_jxz, v_jyy, v_jyz = s.dot(v_fx, tx), s.dot(v_fx, tz), s.dot(v_fy, ty), s.dot(v_fy, tz)
    v_turned = [[jxx * v for v in v_fx], [jyy * v for v in v_fy], [s.fma(jxz, v, jyz * u) for v, u in zip(v_fx, v_fy)]]
    w = cam.rotation
    v_stretched = [s.dot(w[i::3], [v_turned[r][j] for r in range(3)]) for i in range(3) for j in range(3)]

    # With q = 1/z: jxx = fx q, jxz = -fx q clamp(x q), mean x = fx x q + cx; likewise y. The clamp passes nothing.
    v_ratio = [s.fma(f, v, inside.select(-(j * v_jz), zero))
               for f, v, inside, j, v_jz in zip(cam.focal, screen, p.inside, (jxx, jyy), (v_jxz, v_jyz))]  # fmt: skip
    v_q = cam.focal[0] * (v_jxx - p.tangent[0] * v_jxz) + cam.focal[1] * (v_jyy - p.tangent[1] * v_jyz)
    v_q = v_q + v_ratio[0] * p.point[0] + v_ratio[1] * p.point[1]
    q = p.inverse_z
    v_point = [v_ratio[0] * q, v_ratio[1] * q, depth - v_q * q * q]
    return [s.dot(w[i::3], v_point) for i in range(3)], v_stretched


def _quaternion_gradient(s: Simd, rotation: Rotations, v: list[Vec]) -> list[Vec]:
    """Return dloss/dq of R(q / |q|) from dloss/dR: through the unit quaternion, then orthogonal to it, over the length."""
    w, x, y, z = rotation.unit
    xx, xy, xz, yx, yy, yz, zx, zy, zz = v
    unit = [
        2.0 * (x * (zy - yz) + y * (xz - zx) + z * (yx - xy)),
        2.0 * (y * (xy + yx) + z * (xz + zx) + w * (zy - yz) - 2.0 * x * (yy + zz)),
        2.0 * (x * (xy + yx) + z * (yz + zy) + w * (xz - zx) - 2.0 * y * (xx + zz)),
        2.0 * (x * (xz + zx) + y * (yz + zy) + w * (yx - xy) - 2.0 * z * (xx + yy)),
    ]
    along = s.dot(rotation.unit, unit)
    return [(u - c * along) * rotation.inverse_norm for u, c in zip(unit, rotation.unit)]
