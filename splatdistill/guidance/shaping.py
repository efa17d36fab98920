"""Operations on predictions and gradients that all methods share: weights, contrast, directions, clipping."""

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Weight = Literal["sigma2", "sigma", "sigma_alpha", "alpha_sigma2", "one_minus_alpha", "inverse_alpha", "one"]


def weight_of(kind: Weight, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return w(t): sigma2 DreamFusion's; sigma SDI's; sigma_alpha makes x - grad the prior's estimate of x; alpha_sigma2
    Fantasia3D's; one_minus_alpha, 1 - sqrt(alphas_cumprod), what threestudio's unified guidance calls "dreamfusion";
    inverse_alpha RFDS's, on a flow prior 1 / (1 - t); one SJC's.
    """
    match kind:
        case "sigma2":
            return sigma**2
        case "sigma":
            return sigma
        case "sigma_alpha":
            return sigma / alpha
        case "alpha_sigma2":
            return alpha * sigma**2
        case "one_minus_alpha":
            return 1 - alpha
        case "inverse_alpha":
            return 1 / alpha
        case "one":
            return torch.ones_like(sigma)


def rescaled(eps_hat: Float[Tensor, "b *d"], pos: Float[Tensor, "b *d"], phi: float) -> Float[Tensor, "b *d"]:
    """Return eps_hat after guidance rescale (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891,
    eq. 15 and 16), each view by itself, on eps whatever the network predicts:

        phi eps_hat std(pos) / std(eps_hat) + (1 - phi) eps_hat.
    """
    ratio = pos.flatten(1).std(1) / eps_hat.flatten(1).std(1).clamp(min=torch.finfo(pos.dtype).tiny)
    return (phi * per_view(ratio, eps_hat) + 1 - phi) * eps_hat


def perpendicular(
    weights: Float[Tensor, "b 2"], others: tuple[Tensor, ...], pos: Float[Tensor, "b *d"], neg: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    """Return Perp-Neg's part of the guidance direction (Armandpour et al., "Re-imagine the Negative Prompt Algorithm",
    arXiv:2304.04968): sum_i w_i perp(other_i - neg, pos - neg), with perp(a, d) = a - <a, d> / <d, d> d in each view.
    """
    d = pos - neg
    square = d.square().flatten(1).sum(1).clamp(min=1e-6)  # threestudio's bound
    total = torch.zeros_like(d)
    for w, other in zip(weights.to(d).unbind(1), others):
        a = other - neg
        along = (a * d).flatten(1).sum(1) / square
        total = total + per_view(w, d) * (a - per_view(along, d) * d)
    return total


def shaped(grad: Float[Tensor, "b *d"], clip: float | None, normalise: bool) -> Float[Tensor, "b *d"]:
    """Return the gradient after elementwise clipping (threestudio's grad_clip), then division by the norm of the whole batch, as in Classifier
    Score Distillation's code (arXiv:2310.19415): grad / (|grad| + 1e-8).
    """
    grad = grad if clip is None else grad.clamp(-clip, clip)
    return grad / (grad.norm() + 1e-8) if normalise else grad


def per_view(number: Shaped[Tensor, " b"], x: Float[Tensor, "b *d"]) -> Shaped[Tensor, "b *one"]:
    """Return one number per view, shaped to broadcast against latents."""
    return number.view(-1, *[1] * (x.ndim - 1))
