"""Ways to carry clean latents to a noise level: the forward process, and DDIM inversion."""

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.guidance.base import Noised, View, cfg_combine, cfg_queries


def diffuse(view: View, t: Float[Tensor, " b"], eps: Float[Tensor, "b *d"] | None = None) -> Noised:
    """x_t = alpha_t x + sigma_t eps, with fresh noise unless given (DDPM, arXiv:2006.11239, eq. 4)."""
    eps = view.randn() if eps is None else eps
    alpha, sigma = view.prior.schedule(t)
    return Noised(alpha * view.x + sigma * eps, t, eps)


def ddim(
    view: View, n: Noised, t: Float[Tensor, " b"], eps_hat: Float[Tensor, "b *d"], eta: float = 0.0, reduce: bool = True
) -> Noised:
    """One move from n.t to t, up or down (DDIM, arXiv:2010.02502, eq. 12 and 16), with s = n.t:

        x_t = alpha_t (x_s - sigma_s eps_hat) / alpha_s + sqrt(sigma_t^2 - v) eps_hat + sqrt(v) z,
        v = eta^2 (sigma_s^2 / sigma_t^2) u going up, u the variance that the schedule adds from s to t, which is
        1 - alpha_t^2 / alpha_s^2 where alpha^2 + sigma^2 = 1; eta 0 is deterministic.

    reduce=False leaves the direction term at sigma_t, as threestudio's SDI does.
    """
    (a0, s0), (a1, s1) = view.prior.schedule(n.t), view.prior.schedule(t)
    x_t = a1 * (n.x_t - s0 * eps_hat) / a0
    if eta == 0:
        return at_level(view, x_t + s1 * eps_hat, t)
    v = eta**2 * (s0**2 / s1**2) * view.prior.noise.added(a0, s0, a1, s1).clamp(min=0)
    direction = (s1**2 - v).clamp(min=0).sqrt() if reduce else s1
    return at_level(view, x_t + direction * eps_hat + v.sqrt() * view.randn(), t)


def at_level(view: View, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"]) -> Noised:
    """The noise that takes x to a given x_t: eps = (x_t - alpha_t x) / sigma_t."""
    alpha, sigma = view.prior.schedule(t)
    return Noised(x_t, t, (x_t - alpha * view.x) / sigma)


def invert(view: View, t: Float[Tensor, " b"], steps: int, scale: float, eta: float = 0.0) -> Noised:
    """DDIM inversion: from the clean latents, taken as x_0, up to t in `steps` equal moves under CFG `scale`."""
    n = Noised(view.x.detach(), torch.zeros_like(t), torch.zeros_like(view.x))
    for k in range(1, steps + 1):
        eps_hat = cfg_combine(view, view.prior.answer(cfg_queries(view, n.x_t, n.t, scale)), scale)
        n = ddim(view, n, t * (k / steps), eps_hat, eta)
    return n
