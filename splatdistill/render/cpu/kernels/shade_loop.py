"""Colours of all Gaussians for all cameras, and their gradients. Every kernel does share `share` of `shares`."""

from splatdistill.render.cpu.cache import compiled
from splatdistill.render.cpu.kernels.layout import CAMERA, GROUP
from splatdistill.render.cpu.kernels.shade_lanes import BASIS, shade_group, shade_group_backward

CONSTANT = BASIS[0][""]  # Y_0


@compiled
def shade_constant(sh, colours):
    """Write the colours of degree 0: max(sh Y_0 + 1/2, 0), the same from all directions."""
    half, factor, zero = colours.dtype.type(0.5), colours.dtype.type(CONSTANT), colours.dtype.type(0)
    for i in range(sh.size):
        value = half + factor * sh[i]
        colours[i] = zero if value < zero else value  # NaN stays NaN: the image must show it


@compiled
def shade_constant_backward(colours, v_colours):
    """Write dloss/dsh over dloss/dcolour, in place."""
    factor, zero = colours.dtype.type(CONSTANT), colours.dtype.type(0)
    for i in range(v_colours.size):
        v_colours[i] = zero if colours[i] <= zero else factor * v_colours[i]


@compiled
def shade_all(share, shares, sh, means, n, cameras, camera_count, padded, colours, degree):
    """Write the colours (cameras, padded n, 3)."""
    count = padded // GROUP
    for group in range(count * share // shares, count * (share + 1) // shares):
        source = group * GROUP
        for camera in range(camera_count):
            target = camera * padded + source
            shade_group(sh, means, source, n - 1, cameras, camera * CAMERA, colours, target, degree)


@compiled
def shade_all_backward(
    share, shares, sh, means, n, cameras, camera_count, padded, colours, v_colours, v_sh, v_means, degree
):
    """Write dloss/dsh, and add the viewing directions' part to dloss/dmeans."""
    count = padded // GROUP
    width = 3 * (len(degree) + 1) ** 2
    for group in range(count * share // shares, count * (share + 1) // shares):
        source = group * GROUP
        for i in range(source * width, (source + GROUP) * width):
            v_sh[i] = 0
        for camera in range(camera_count):
            at = camera * padded + source
            shade_group_backward(
                sh, means, source, n - 1, cameras, camera * CAMERA, colours, v_colours, at, v_sh, v_means, degree
            )
