"""Exact pictures from the library's own rasteriser, and what the prior makes of a view."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import to_bytes
from splatdistill.priors import DiffusionPrior
from splatdistill.render import Rasterizer
from splatdistill.train.step import Step
from splatdistill_viewer.lighting import Background, Light, composed, shading

Mode = Literal["rgb", "depth", "normal", "alpha", "clay"]
MODES: tuple[Mode, ...] = get_args(Mode)
TALL, TALL_WAITING, MOVING = 360, 720, 4  # pixels of an exact picture's height, at most; while the camera moves a quarter
CLAY = 0.8  # albedo


@dataclass(frozen=True)
class Style:
    """Contents and look of an exact picture."""

    mode: Mode = "rgb"
    background: Background = "white"
    light: Light = "as trained"

    @property
    def normals(self) -> bool:
        """Return whether this style needs normals."""
        return self.mode in ("normal", "clay") or (self.mode == "rgb" and self.light != "as trained")


@torch.no_grad()
def image(g: Gaussians, cameras: Cameras, rasterizer: Rasterizer, style: Style = Style()) -> Float[Tensor, "c h w"]:
    """Return what one camera sees, in [0, 1]: three channels over the background, or colour (not multiplied by opacity) and
    opacity where the background is transparent.

    rgb: colours with all bands of their harmonics, times a light's shading; clay: a grey surface under the light; depth:
    near bright, far dark, within what is seen; normal: world normals facing the camera as colours, (n + 1) / 2; alpha:
    opacity, white is opaque.
    """
    device = g.means.device
    out = rasterizer(g, cameras.to(device), torch.zeros(len(cameras), 3, device=device), normals=style.normals)
    rgb, alpha, normal = out.rgb[0], out.alpha[0], None if out.normal is None else out.normal[0]
    if style.mode == "alpha":
        return alpha.expand(3, -1, -1)
    if style.mode == "depth":
        seen = shaded(out.depth[0], alpha).expand(3, -1, -1)
    elif style.mode == "normal":
        assert normal is not None
        seen = 0.5 * (normal + alpha)
    elif style.mode == "clay":
        assert normal is not None
        seen = CLAY * alpha * shading(normal, cameras, "studio" if style.light == "as trained" else style.light)
    else:
        seen = rgb if normal is None else rgb * shading(normal, cameras, style.light)
    return composed(seen, alpha, style.background)


def picture(g: Gaussians, cameras: Cameras, rasterizer: Rasterizer, style: Style = Style()) -> np.ndarray:
    """Return what one camera sees as (h,w,3) bytes, before an opaque background."""
    return visible(image(g, cameras, rasterizer, style)[:3])


def visible(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """Return a picture as (h,w,3) bytes; non-finite pixels are magenta."""
    magenta = torch.tensor([1.0, 0.0, 1.0]).to(image)[:, None, None]
    return to_bytes(torch.where(image.isnan().any(0), magenta, image))


def shaded(depth: Float[Tensor, "1 h w"], alpha: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Shade depth, near bright and far dark, over the range of pixels at least half opaque, times opacity."""
    seen = depth[alpha > 0.5]
    if not len(seen):
        return torch.zeros_like(depth)
    near, far = seen.min(), seen.max()
    return (0.1 + 0.8 * (far - depth) / (far - near).clamp_min(1e-6)).clamp(0, 1) * alpha


class Kernels:
    """Compilation of the kernels of exact pictures, beside the run: the first picture with normals takes seconds without a cache.

    call: runs a function whose errors the viewer's guard catches.
    """

    def __init__(self, rasterizer: Rasterizer, call: Callable[..., None]) -> None:
        self.rasterizer, self.call = rasterizer, call
        self.ready: set[bool] = set()
        self.begun: set[bool] = set()

    def there(self, g: Gaussians, style: Style) -> bool:
        """Return whether a picture in this style can be rendered at once; start compilation at the first request. Some of the
        splats are copied for it.
        """
        kind = style.normals
        if kind not in self.begun:
            self.begun.add(kind)
            few = g[:8].detach()
            few = Gaussians(*(t.clone() for t in (few.means, few.quats, few.scales, few.opacities, few.sh)))
            threading.Thread(target=self.call, args=(self.compile, few, style), name="splatdistill-viewer-kernels", daemon=True).start()
        return kind in self.ready

    def compile(self, few: Gaussians, style: Style) -> None:
        """Render a small picture, which compiles and caches the kernels."""
        image(few, orbit([0.0], width=16), self.rasterizer, style)
        self.ready.add(style.normals)


@dataclass(frozen=True)
class Wants:
    """Decoded pictures of the prior's input and output for the first view of a batch, (h,w,3) bytes each."""

    render: np.ndarray
    noised: np.ndarray  # x_t, decoded
    estimate: np.ndarray  # of the clean image, (x_t - sigma eps_hat) / alpha, decoded
    gradient: np.ndarray  # the change of the picture along the negative gradient, gray is none
    t: float


@torch.no_grad()
def wants(step: Step, prior: DiffusionPrior) -> Wants:
    """Return four decoded pictures of the last step: rendering, x_t, the estimate of x_0, and the gradient's change."""
    d, x = step.distilled, step.view.x[:1].detach()
    x_t, t, eps_hat, grad = d.noised.x_t[:1], d.noised.t[:1], d.eps_hat[:1], d.grad[:1]
    alpha, sigma = prior.schedule(t)
    length = 0.25 * x.square().mean().sqrt() / grad.square().mean().sqrt().clamp_min(1e-12)  # a visible stretch of the way
    x_t, estimate, here, there = prior.decode(torch.cat([x_t, (x_t - sigma * eps_hat) / alpha, x, x - length * grad])).float()
    change = there - here
    change = 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-12)
    images = (step.out.rgb[0].detach(), x_t, estimate, change)
    return Wants(*map(visible, images), t=float(t))


