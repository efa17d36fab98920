"""Sizes of pictures: what is rendered, as a prior wants to see it."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors import DiffusionPrior


def to_prior_size(rgb: Float[Tensor, "b 3 h w"], prior: DiffusionPrior) -> Float[Tensor, "b 3 p p"]:
    """Return images in the size that the prior wants to see; averaging where it is smaller."""
    if rgb.shape[-1] == prior.image_size:
        return rgb
    larger = rgb.shape[-1] > prior.image_size
    return F.interpolate(rgb, (prior.image_size,) * 2, mode="bilinear", align_corners=False, antialias=larger)
