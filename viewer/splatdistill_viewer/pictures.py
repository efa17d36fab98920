"""Exact pictures from the library's own rasteriser, and what the prior makes of a view."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import to_bytes
from splatdistill.priors import DiffusionPrior
from splatdistill.render import Rasterizer
from splatdistill.train.step import Step

Mode = Literal["rgb", "depth", "normal", "alpha"]
MODES: tuple[Mode, ...] = get_args(Mode)
WHITE = 1.0
TALL, TALL_WAITING, MOVING = 360, 720, 4  # pixels of an exact picture's height, at most; while the camera moves a quarter


@torch.no_grad()
def picture(g: Gaussians, cameras: Cameras, rasterizer: Rasterizer, mode: Mode = "rgb") -> np.ndarray:
    """Return what one camera sees, (h,w,3) bytes on white: colours with all bands of their harmonics; depth from black (far) to
    bright (near) within what is seen; normals as colours, (n + 1) / 2; alpha, black where something is.
    """
    device = g.means.device
    out = rasterizer(g, cameras.to(device), torch.ones(len(cameras), 3, device=device), normals=mode == "normal")
    alpha = out.alpha[0]
    match mode:
        case "rgb":
            image = out.rgb[0]
        case "alpha":
            image = (1 - alpha).expand(3, -1, -1)
        case "normal":
            assert out.normal is not None
            image = 0.5 * (out.normal[0] + alpha) + WHITE * (1 - alpha)
        case "depth":
            image = shaded(out.depth[0], alpha).expand(3, -1, -1)
    return visible(image)


def visible(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """Return a picture as (h,w,3) bytes; magenta where it is no number, so that a run gone wrong is seen to be."""
    magenta = torch.tensor([1.0, 0.0, 1.0]).to(image)[:, None, None]
    return to_bytes(torch.where(image.isnan().any(0), magenta, image))


def shaded(depth: Float[Tensor, "1 h w"], alpha: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Shade near bright and far dark, over the depths of what is at least half opaque; white where nothing is."""
    seen = depth[alpha > 0.5]
    if not len(seen):
        return torch.ones_like(depth)
    near, far = seen.min(), seen.max()
    return (0.1 + 0.8 * (far - depth) / (far - near).clamp_min(1e-6)).clamp(0, 1) * alpha + WHITE * (1 - alpha)


@dataclass(frozen=True)
class Wants:
    """Pictures of what the prior was shown and of what it wants, of the first view of a batch, (h,w,3) bytes each."""

    render: np.ndarray
    noised: np.ndarray  # x_t, decoded
    estimate: np.ndarray  # of the clean image, (x_t - sigma eps_hat) / alpha, decoded
    gradient: np.ndarray  # the change of the picture along the negative gradient, gray is none
    t: float


@torch.no_grad()
def wants(step: Step, prior: DiffusionPrior) -> Wants:
    """Return the panel "what the prior wants", four decoded pictures of the last step."""
    d, x = step.distilled, step.view.x[:1].detach()
    x_t, t, eps_hat, grad = d.noised.x_t[:1], d.noised.t[:1], d.eps_hat[:1], d.grad[:1]
    alpha, sigma = prior.schedule(t)
    length = 0.25 * x.square().mean().sqrt() / grad.square().mean().sqrt().clamp_min(1e-12)  # a visible stretch of the way
    x_t, estimate, here, there = prior.decode(torch.cat([x_t, (x_t - sigma * eps_hat) / alpha, x, x - length * grad])).float()
    change = there - here
    change = 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-12)
    images = (step.out.rgb[0].detach(), x_t, estimate, change)
    return Wants(*map(visible, images), t=float(t))
