"""Rasterisers of 3D Gaussians behind one interface.

`rasterizer(device)` gives the fastest that works there: gsplat on CUDA, our compiled kernels on a CPU (and, behind copies, for
devices where gsplat does not build), and the plain PyTorch reference, which is the specification of both, where nothing can be compiled.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians

NEAR = 0.01  # Gaussians nearer to the camera plane than this are culled
BLUR = 0.3  # pixel^2 added to the projected covariance's diagonal (gsplat's eps2d)
MAX_ALPHA = 0.999  # of one Gaussian in one pixel; gsplat 1.5.3 (later versions: 0.99)
MIN_ALPHA = 1 / 255  # contributions below are skipped
MIN_TRANSMITTANCE = 1e-4  # a pixel stops before the Gaussian that would take it to or under this


@dataclass(frozen=True)
class Screen:
    """Projected Gaussians, for densification.

    `means` is a leaf whose .grad, after the backward pass, is dloss/d(projected mean) in 1/pixels, per view;
    `means.absgrad` (if the rasteriser was asked) sums absolute values over pixels instead (AbsGS).
    """

    means: Float[Tensor, "b n 2"]  # pixels
    radii: Int[Tensor, "b n"]  # larger half extent in pixels; 0 where culled


@dataclass(frozen=True)
class RenderOutput:
    """Images of a batch of cameras."""

    rgb: Float[Tensor, "b 3 h w"]  # composited over the background; may exceed 1 where colours do
    alpha: Float[Tensor, "b 1 h w"]  # 1 - transmittance
    depth: Float[Tensor, "b 1 h w"]  # expected camera z: sum(w z) / max(alpha, 1e-10)
    normal: Float[Tensor, "b 3 h w"] | None  # alpha-weighted shortest axes facing the camera, world; if asked for
    screen: Screen
    cameras: Cameras

    def normal_from_depth(self) -> Float[Tensor, "b 3 h w"]:
        """Return unit world normals of the depth map, facing the camera: the normalised cross product of central
        differences of the back-projected points (one-sided at the border); 0 where all around is empty.
        Differentiable in depth. Across silhouettes it is the normal of the jump: weight it by alpha.
        """
        c = self.cameras
        b, _, h, w = self.depth.shape
        y, x = torch.meshgrid(
            torch.arange(h, device=self.depth.device, dtype=self.depth.dtype) + 0.5,
            torch.arange(w, device=self.depth.device, dtype=self.depth.dtype) + 0.5,
            indexing="ij",
        )
        k = c.intrinsics.to(self.depth)
        rays = torch.stack(
            [
                (x - k[:, 0, 2, None, None]) / k[:, 0, 0, None, None],
                (y - k[:, 1, 2, None, None]) / k[:, 1, 1, None, None],
                torch.ones(b, h, w).to(self.depth),
            ],
            1,
        )
        points = rays * self.depth
        du, dv = torch.gradient(points, dim=3)[0], torch.gradient(points, dim=2)[0]
        normal = torch.linalg.cross(dv, du, dim=1)
        squared = (normal * normal).sum(1, keepdim=True)
        normal = normal * torch.where(squared > 0, squared, 1).rsqrt()  # an eps would give 1/eps for gradient
        rotation = c.world_to_camera[:, :3, :3].to(self.depth)
        return torch.einsum("bij,bihw->bjhw", rotation, normal)


@runtime_checkable
class Rasterizer(Protocol):
    """Interface of a rasteriser: Gaussians and cameras to images."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "b 3"] | None = None,
        normals: bool = False,
        absgrad: bool = False,
    ) -> RenderOutput:
        """Render every camera. background: one colour per view, black if None; differentiable."""
        ...


def rasterizer(device: torch.device | str) -> Rasterizer:
    """Return the fastest rasteriser for tensors on `device`, with a warning when it is not the usual one."""
    kind = torch.device(device).type
    if kind == "cuda":
        from splatdistill.render.cuda import cuda_rasterizer

        return cuda_rasterizer()
    from splatdistill.render.cpu import cpu_rasterizer

    if kind == "cpu":
        return cpu_rasterizer()
    from splatdistill.render.copies import CopyingRasterizer

    return CopyingRasterizer(cpu_rasterizer())
