"""Sharpness of outlines and pictures, from the pixels alone."""

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement


def edge_width(alpha: Float[Tensor, "v 1 h w"]) -> Measurement:
    """Return how far opacity takes from nothing to all, in percent of the picture's side, averaged along the outline:

        6 sum alpha (1 - alpha) / sum |grad alpha|,

    which is w for a straight ramp of w pixels, along which alpha (1 - alpha) sums to w / 6 and the gradient to 1.
    Parts that are thin all through count as edges. n/a where nothing is seen.
    """
    from kornia.filters import spatial_gradient  # half a second, which kept numbers should not take

    length = spatial_gradient(alpha).norm(dim=2).sum()
    if not length > 0:
        return Measurement("edge_width", None, note="nothing is seen")
    width = 6 * (alpha * (1 - alpha)).clamp(min=0).sum() / length
    return Measurement("edge_width", 100 * float(width) / alpha.shape[-1], "pixels")


def tenengrad(rgb: Float[Tensor, "v 3 h w"]) -> float:
    """Return the mean squared Sobel gradient, the focus measure of Tenenbaum: of a step of height a that takes w pixels about a^2 / w."""
    from kornia.filters import spatial_gradient

    return float(spatial_gradient(rgb).square().sum(2).mean())
