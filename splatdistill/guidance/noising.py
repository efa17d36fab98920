"""Ways to carry clean latents to a noise level: the forward process, and DDIM inversion."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.shaping import per_view
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Query
from splatdistill.priors.random import sent


def diffuse(
    view: View, t: Float[Tensor, " b"], eps: Float[Tensor, "b *d"] | None = None, x: Float[Tensor, "b *d"] | None = None
) -> Noised:
    """Return x_t = alpha_t x + sigma_t eps, with fresh noise unless given (DDPM, arXiv:2006.11239, eq. 4); x is the view's unless given."""
    eps = view.randn() if eps is None else eps
    alpha, sigma = view.prior.schedule(t)
    return Noised(alpha * (view.x if x is None else x) + sigma * eps, t, eps)


def ddim(
    view: View, n: Noised, t: Float[Tensor, " b"], eps_hat: Float[Tensor, "b *d"], eta: float = 0.0, reduce: bool = True
) -> Noised:
    """Return one move from n.t to t, up or down (DDIM, arXiv:2010.02502, eq. 12 and 16), with s = n.t:

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
    """Return a given x_t with the noise that takes x there: eps = (x_t - alpha_t x) / sigma_t."""
    alpha, sigma = view.prior.schedule(t)
    return Noised(x_t, t, (x_t - alpha * view.x) / sigma)


def invert(view: View, t: Float[Tensor, " b"], steps: int, cfg: CFG, eta: float = 0.0) -> Noised:
    """Return DDIM inversion: from the clean latents, taken as x_0, up to t in `steps` equal moves under `cfg`."""
    n = beginning(view, t)
    first = n.t
    for k in range(1, steps + 1):
        eps_hat = cfg.combine(view, view.prior.answer(cfg.queries(view, n.x_t, n.t)))
        n = ddim(view, n, first + (t - first) * (k / steps), eps_hat, eta)
    return n


def rescaled_clean(
    n: Noised, alpha: Tensor, sigma: Tensor, eps_hat: Float[Tensor, "b *d"], pos: Float[Tensor, "b *d"], phi: float, views: int
) -> Float[Tensor, "b *d"]:
    """Return eps_hat after its estimate of the clean latents had a share phi of its excess contrast taken back, as in MVDream's code
    (arXiv:2308.16512): x0 (phi std(x0 of pos) / std(x0) + 1 - phi), with deviations over all of a set of views.
    """
    guided, own = ((n.x_t - sigma * e) / alpha for e in (eps_hat, pos))
    ratio = own.reshape(len(own) // views, -1).std(1) / guided.reshape(len(own) // views, -1).std(1).clamp(min=torch.finfo(own.dtype).tiny)
    factor = per_view((phi * ratio + 1 - phi).repeat_interleave(views), guided)
    return (n.x_t - alpha * factor * guided) / sigma


def beginning(view: View, t: Float[Tensor, " b"]) -> Noised:
    """Return where an inversion up to t begins: the clean latents, taken as x_0; or x with fresh noise, at the level
    where the prior's answers begin to mean something.
    """
    if view.prior.begins == 0:
        return Noised(view.x.detach(), torch.zeros_like(t), torch.zeros_like(view.x))
    return diffuse(view, t.clamp(max=view.prior.begins))


def unprompted(view: View, n: Noised) -> Float[Tensor, "b *d"]:
    """Return the prior's prediction under the null prompt."""
    return view.prior.answer((Query(n.x_t, n.t, view.text.null),))[0]


def invert_in_strides(view: View, n: Noised, end: Float[Tensor, " b"], stride: float) -> Noised:
    """Return DDIM inversion under the null prompt, from n up to `end` in moves of `stride`, the last one shorter (ISM's)."""
    first = n.t
    for k in range(1, math.ceil(float((end - first).max()) / stride - 1e-6) + 1):
        n = ddim(view, n, (first + k * stride).minimum(end), unprompted(view, n))
    return n


def invert_on_grid(view: View, t: Float[Tensor, " b"], end: Float[Tensor, " b"], cfg: CFG, eta: float) -> Float[Tensor, "b *d"]:
    """Return x at `end` by threestudio's inversion of SDI: moves between the steps -99, 1, 101, ... of 1000 that are below
    t, each view's own, and from the last of them to `end`. The direction terms are not reduced by the noise that is added.
    """
    last, x = (1000 * t).round(), beginning(view, t).x_t
    lowest = t.clamp(max=view.prior.begins)
    for step in (-99.0, *(float(k) for k in range(1, 1000, 100))):
        here = torch.full_like(t, step)
        going = here < last
        if not going.any():
            break
        there = torch.where(here + 100 < last, (here + 100).clamp(min=1) / 1000, end)
        here, there = ((here / 1000).maximum(lowest), there.maximum(lowest)) if view.prior.begins else (here / 1000, there)
        eps_hat = cfg.combine(view, view.prior.answer(cfg.queries(view, x, here)))
        moved = ddim(view, Noised(x, here, torch.zeros_like(x)), there, eps_hat, eta, reduce=False).x_t
        x = torch.where(sent(per_view(going, x), x.device), moved, x)
    return x
