"""Zero-1-to-3 as one of SSD's baselines: how far a noisy view is from what the object's other views promise."""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.guidance.types import View
from splatdistill.priors import Condition, DiffusionPrior, weights
from splatdistill.priors.precision import Precision
from splatdistill.priors.zero123 import Zero123Prior


def load(source: str, prior: DiffusionPrior) -> Zero123Prior:
    """Load Zero-1-to-3 or Stable Zero123 beside a prior; UserError where the weights are of something else."""
    precision = str(getattr(prior, "precision", prior.dtype)).removeprefix("torch.")
    loaded = weights.load(weights.find(source), str(prior.device), cast(Precision, precision))
    if not isinstance(loaded, Zero123Prior):
        raise UserError(f"The baseline zero123 needs weights of Zero-1-to-3 or Stable Zero123, and {Path(source).name} are others; take another --guidance.zero123")
    return loaded


def view_loss(
    zero: Zero123Prior, view: View, picture: Float[Tensor, "b 3 h w"], t: Float[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """Return mean |x0_hat(z_t; another view) - z|^2 of each view: z are Zero-1-to-3's latents of the render, z_t those of the decoded x_t, and
    x0_hat its estimate of the clean view from z_t, the batch's next view as the picture, and both cameras. Differentiable in the picture,
    through encoder and network. UserError where there is no render.
    """
    out = view.render
    if out is None:
        raise UserError(
            "The baseline zero123 compares views of a rendered scene, and there is none in two dimensions. Take --guidance.baselines clip, or none."
        )

    def sized(rgb: Tensor) -> Tensor:
        side = (zero.image_size,) * 2
        return F.interpolate(rgb.to(zero.device, zero.dtype), side, mode="bilinear", align_corners=False, antialias=True)

    with torch.no_grad():
        rgb, poses = sized(out.rgb.detach()).clamp(0, 1), out.cameras.camera_to_world.to(zero.device, zero.dtype)
        z = zero.encode(rgb)
        blind = zero.embed([""]).expand(len(rgb))
        told = Condition(tokens=blind.tokens, image=rgb.roll(-1, 0), image_camera=poses.roll(-1, 0), camera=poses)
    z_t = zero.encode(sized(picture))
    alpha, sigma = zero.schedule(t)
    estimate = (z_t - sigma * zero.eps(z_t, t, told)) / alpha
    return (estimate - z).square().flatten(1).mean(1)
