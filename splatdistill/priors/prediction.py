"""Conversion of a network's prediction to eps, here and nowhere else.

With x_t = alpha x + sigma eps:

    epsilon        eps
    sample         x
    v_prediction   v = alpha eps - sigma x (Salimans & Ho, arXiv:2202.00512), for alpha^2 + sigma^2 = 1
    flow           u = eps - x, the velocity dx_t/dt of alpha = 1 - t, sigma = t (Liu et al., arXiv:2209.03003)
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors.schedule import Schedule

Prediction = Literal["epsilon", "sample", "v_prediction", "flow"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


def to_eps(
    kind: Prediction,
    predicted: Float[Tensor, "b *d"],
    x_t: Float[Tensor, "b *d"],
    alpha: Tensor,
    sigma: Tensor,
) -> Float[Tensor, "b *d"]:
    """Return eps (b, *d) of a prediction at x_t."""
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
) -> Float[Tensor, "b *d"]:
    """Return the correct prediction (b, *d) for clean latents x and the noise eps."""
    match kind:
        case "epsilon":
            return eps
        case "sample":
            return x
        case "v_prediction":
            return alpha * eps - sigma * x
        case "flow":
            return eps - x


def trusted_from(schedule: Schedule, noise: float = 0.3) -> float:
    """Return the lowest time, in thousandths, at which sigma is at least `noise`.

    A network that answers x errs by some d at any level, and eps = (x_t - alpha x) / sigma then errs by alpha d / sigma: without
    bound where there is no noise. 0.3 is where the loss that such networks are trained with stops to weigh x by 1 / sigma^2.
    """
    times = torch.arange(1000, dtype=torch.float64) / 1000
    return float(times[schedule.at(times)[1] >= noise][0])
