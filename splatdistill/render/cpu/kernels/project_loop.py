"""Projection of all Gaussians for all cameras, and its gradient.

Every kernel does share `share` of `shares`. Inputs come in whole groups of Gaussians."""

from splatdistill.render.cpu.cache import compiled
from splatdistill.render.cpu.kernels.binning import corners, is_wide, span
from splatdistill.render.cpu.kernels.layout import (
    CAMERA,
    CENTRE,
    FOCAL,
    GROUP,
    LIMITS,
    POSITION,
    ROW,
    SIZE,
    TRANSLATION,
)
from splatdistill.render.cpu.kernels.project_backward import project_group_backward
from splatdistill.render.cpu.kernels.project_lanes import project_group


@compiled
def pack_cameras(poses, intrinsics, width, height, out):
    """Write cameras in the kernels' layout. poses: world to camera (b,4,4), intrinsics (b,3,3) in pixels."""
    for i in range(poses.shape[0]):
        c = i * CAMERA
        for r in range(3):
            out[c + TRANSLATION + r] = poses[i, r, 3]
            position = 0.0
            for k in range(3):
                out[c + 3 * r + k] = poses[i, r, k]
                position -= poses[i, k, r] * poses[i, k, 3]
            out[c + POSITION + r] = position
        for axis in range(2):
            size = height if axis else width
            focal, centre = intrinsics[i, axis, axis], intrinsics[i, axis, 2]
            margin = 0.3 * 0.5 * size / focal
            out[c + FOCAL + axis] = focal
            out[c + CENTRE + axis] = centre
            out[c + SIZE + axis] = size
            out[c + LIMITS + 2 * axis] = -centre / focal - margin
            out[c + LIMITS + 2 * axis + 1] = (size - centre) / focal + margin


@compiled
def project_all(
    share, shares, means, quats, scales, opacities, cameras, camera_count, colours, colour_stride,
    rows, screen, radii, depths, rectangles, histogram, tiles_x, tiles_y, channels,
):  # fmt: skip
    """Write rows, screen positions, radii, depths and rectangles of all (camera, Gaussian), and this share's count per tile.

    colour_stride: entries per camera if every camera has its own colours, else 0.
    """
    for tile in range(histogram.size):
        histogram[tile] = 0
    padded = opacities.size
    count = padded // GROUP
    for group in range(count * share // shares, count * (share + 1) // shares):
        source = group * GROUP
        for camera in range(camera_count):
            target = camera * padded + source
            project_group(
                means, quats, scales, opacities, source, cameras, camera * CAMERA,
                colours, 3 * (camera * colour_stride + source),
                rows, screen, radii, depths, rectangles, target, channels,
            )  # fmt: skip
            first_tile = camera * tiles_x * tiles_y
            for entry in range(target, target + GROUP):
                rectangle = rectangles[entry]
                if rectangle == 0:
                    continue
                x0, x1, y0, y1 = corners(rectangle)
                wide = is_wide(x0, x1, y0, y1)
                for y in range(y0, y1):
                    begin, end = x0, x1
                    if wide:
                        begin, end = span(rows, entry * ROW, y, x0, x1)
                    for tile in range(first_tile + y * tiles_x + begin, first_tile + y * tiles_x + end):
                        histogram[tile] += 1


@compiled
def project_all_backward(
    share, shares, means, quats, scales, opacities, cameras, camera_count, radii, gradients, threads,
    v_means, v_quats, v_scales, v_opacities, v_colours, colour_stride, v_screen, absolute, channels, absgrad,
):  # fmt: skip
    """Write the gradients of all inputs from the gradient rows, of which `gradients` has one copy per thread."""
    padded = opacities.size
    count = padded // GROUP
    for group in range(count * share // shares, count * (share + 1) // shares):
        source = group * GROUP
        project_group_backward(
            means, quats, scales, opacities, source, cameras, camera_count, radii, gradients, threads, padded,
            v_means, v_quats, v_scales, v_opacities, v_colours, colour_stride, v_screen, absolute, channels, absgrad,
        )  # fmt: skip
