"""Conversion of a network's prediction to eps, here and nowhere else.

With x_t = alpha x + sigma eps:

    epsilon        eps
    sample         x
    v_prediction   v = alpha eps - sigma x (Salimans & Ho, arXiv:2202.00512), for alpha^2 + sigma^2 = 1
    flow           u = eps - x, the velocity dx_t/dt of alpha = 1 - t, sigma = t (Liu et al., arXiv:2209.03003)

Channels of which a picture has little may be answered otherwise: there the network answers x / s, s being their scale. Noise of many
such channels does not pass through a network, and what is clean does (Li and He, arXiv:2511.13720).
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Prediction = Literal["epsilon", "sample", "v_prediction", "flow"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


def to_eps(
    kind: Prediction,
    predicted: Float[Tensor, "b *d"],
    x_t: Float[Tensor, "b *d"],
    alpha: Tensor,
    sigma: Tensor,
    scales: Tensor | None = None,
) -> Float[Tensor, "b *d"]:
    """eps of a prediction at x_t. scales: s of the channels that are answered as x / s, and 0 for the others; None: all 0."""
    if scales is not None:
        return torch.where(scales > 0, (x_t - alpha * scales * predicted) / sigma, to_eps(kind, predicted, x_t, alpha, sigma))
    match kind:
        case "epsilon":
            return predicted
        case "sample":
            return (x_t - alpha * predicted) / sigma
        case "v_prediction":
            return sigma * x_t + alpha * predicted
        case "flow":  # x = eps - u, so x_t = (alpha + sigma) eps - alpha u
            return (x_t + alpha * predicted) / (alpha + sigma)


def target(
    kind: Prediction,
    x: Float[Tensor, "b *d"],
    eps: Float[Tensor, "b *d"],
    alpha: Tensor,
    sigma: Tensor,
    scales: Tensor | None = None,
) -> Float[Tensor, "b *d"]:
    """The prediction that would be right for clean latents x and the noise eps; scales as in to_eps."""
    if scales is not None:
        return torch.where(scales > 0, x / torch.where(scales > 0, scales, 1), target(kind, x, eps, alpha, sigma))
    match kind:
        case "epsilon":
            return eps
        case "sample":
            return x
        case "v_prediction":
            return alpha * eps - sigma * x
        case "flow":
            return eps - x
