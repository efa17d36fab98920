"""The compiled rasteriser's front: Gaussians and cameras in, RenderOutput out."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput, Screen
from splatdistill.render.cpu.buffers import View
from splatdistill.render.cpu.function import Call, Rasterize
from splatdistill.render.cpu.kernels.layout import CAMERA
from splatdistill.render.cpu.kernels.projecting import pack_cameras

PRECISIONS = (torch.float32, torch.float64)


def pack_view(cameras: Cameras, dtype: torch.dtype) -> View:
    """Cameras for the kernels. They are constants: no gradient reaches them."""
    poses = cameras.world_to_camera.detach().to("cpu", dtype).contiguous().numpy()
    intrinsics = cameras.intrinsics.detach().to("cpu", dtype).contiguous().numpy()
    packed = np.empty(len(cameras) * CAMERA, poses.dtype)
    pack_cameras(poses, intrinsics, cameras.width, cameras.height, packed)
    return View(packed, len(cameras), cameras.width, cameras.height)


def _checked(gaussians: Gaussians) -> None:
    dtype, device = gaussians.means.dtype, gaussians.means.device
    if device.type != "cpu":
        raise UserError(f"the CPU rasteriser got Gaussians on {device}: move them with .to('cpu'), or ask for "
                        f"rasterizer('{device.type}')")  # fmt: skip
    if dtype not in PRECISIONS:
        raise UserError(f"the CPU rasteriser got {dtype}; it renders float32 or float64: convert with .to(dtype=torch.float32)")


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None = None,
    normals: bool = False,
    absgrad: bool = False,
) -> RenderOutput:
    """Render every camera; see `splatdistill.render.Rasterizer`."""
    _checked(gaussians)
    dtype = gaussians.means.dtype
    view = pack_view(cameras, dtype)
    shapes = [x.to(dtype) for x in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)]
    coefficients = gaussians.sh.to(dtype)
    background = None if background is None else background.to("cpu", dtype)
    inputs = [*shapes, coefficients, *([] if background is None else [background])]
    graph = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    screen = torch.empty(view.count, len(gaussians), 2, dtype=dtype).requires_grad_(graph)
    if absgrad and graph:
        screen.absgrad = torch.zeros(screen.shape, dtype=dtype)
    call = Call(view, normals, absgrad, graph, screen)
    rgb, alpha, depth, normal = Rasterize.apply(*shapes, coefficients, screen, background, call)
    assert call.radii is not None
    return RenderOutput(rgb, alpha, depth, normal, Screen(screen, call.radii), cameras)
