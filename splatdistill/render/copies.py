"""The CPU's rasteriser for tensors that live elsewhere: copies there and back, through which gradients flow."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer, RenderOutput


@dataclass(frozen=True)
class CopyingRasterizer:
    """CPU rasteriser behind copies, for devices without one of their own, such as Apple's mps. The projected
    means of `screen`, whose gradient is read after the backward pass, stay on the CPU.
    """

    inner: Rasterizer

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "b 3"] | None = None,
        normals: bool = False,
        absgrad: bool = False,
    ) -> RenderOutput:
        """Render every camera. See Rasterizer."""
        device = gaussians.means.device
        behind = None if background is None else background.cpu()
        out = self.inner(gaussians.to("cpu"), cameras.to("cpu"), behind, normals, absgrad)
        normal = None if out.normal is None else out.normal.to(device)
        return replace(
            out, rgb=out.rgb.to(device), alpha=out.alpha.to(device), depth=out.depth.to(device), normal=normal, cameras=cameras
        )
