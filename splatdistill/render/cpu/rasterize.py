"""The compiled rasteriser's front: Gaussians and cameras in, RenderOutput out."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput, Screen
from splatdistill.render.cpu.buffers import CameraBuffers
from splatdistill.render.cpu.function import Call, Rasterize
from splatdistill.render.cpu.kernels.layout import CAMERA, TILE
from splatdistill.render.cpu.kernels.project_loop import pack_cameras

PRECISIONS = (torch.float32, torch.float64)
LARGEST = 32_767 * TILE  # pixels on a side: tiles are counted in 15 bits


def pack_view(cameras: Cameras, dtype: torch.dtype) -> CameraBuffers:
    """Return cameras for the kernels. They are constants: no gradient reaches them."""
    poses = cameras.world_to_camera.detach().to("cpu", dtype).contiguous().numpy()
    intrinsics = cameras.intrinsics.detach().to("cpu", dtype).contiguous().numpy()
    packed = np.empty(len(cameras) * CAMERA, poses.dtype)
    pack_cameras(poses, intrinsics, cameras.width, cameras.height, packed)
    return CameraBuffers(packed, len(cameras), cameras.width, cameras.height)


def _check(gaussians: Gaussians, cameras: Cameras, background: Tensor | None) -> None:
    """Check what is given to compiled code, which trusts it."""
    dtype, device, n, views = gaussians.means.dtype, gaussians.means.device, len(gaussians.means), len(cameras)
    if device.type != "cpu":
        raise UserError(f"The CPU rasteriser got Gaussians on {device}: move them with .to('cpu'), or ask for "
                        f"rasterizer('{device.type}').")  # fmt: skip
    if dtype not in PRECISIONS:
        raise UserError(f"The CPU rasteriser got {dtype} and renders float32 or float64: use .to(dtype=torch.float32).")
    coefficients = {(n, k, 3) for k in (1, 4, 9, 16)}
    expected = {"means": {(n, 3)}, "quats": {(n, 4)}, "scales": {(n, 3)}, "opacities": {(n,)}, "sh": coefficients}
    given = {name: getattr(gaussians, name) for name in expected}
    if background is not None:
        expected["background"], given["background"] = {(views, 3)}, background
    for name, shapes in expected.items():
        if tuple(given[name].shape) not in shapes:
            raise UserError(f"{name} has shape {tuple(given[name].shape)}; for {n} Gaussians and {views} cameras it is "
                            f"{' or '.join(str(shape) for shape in sorted(shapes))}.")  # fmt: skip
    if not (0 < cameras.width <= LARGEST and 0 < cameras.height <= LARGEST):
        raise UserError(f"Images of {cameras.width}x{cameras.height} pixels: sides of 1 to {LARGEST} can be rendered.")


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None = None,
    normals: bool = False,
    absgrad: bool = False,
) -> RenderOutput:
    """Render every camera; see `splatdistill.render.Rasterizer`."""
    _check(gaussians, cameras, background)
    dtype = gaussians.means.dtype
    view = pack_view(cameras, dtype)
    shapes = [x.to(dtype) for x in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)]
    coefficients = gaussians.sh.to(dtype)
    background = None if background is None else background.to("cpu", dtype)
    inputs = [*shapes, coefficients, *([] if background is None else [background])]
    graph = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    screen = torch.empty(view.count, len(gaussians), 2, dtype=dtype).requires_grad_(graph)
    if absgrad and graph:
        setattr(screen, "absgrad", torch.zeros(screen.shape, dtype=dtype))  # noqa: B010 (where gsplat puts it too)
    call = Call(view, normals, absgrad, graph, screen)
    rgb, alpha, depth, normal = Rasterize.apply(*shapes, coefficients, screen, background, call)
    assert call.radii is not None
    return RenderOutput(rgb, alpha, depth, normal, Screen(screen, call.radii), cameras)
