"""Coverage of a distribution by the n particles that were distilled from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdistill.priors import Condition
from splatdistill.priors.exact import GaussianMixturePrior, log_weights


@dataclass(frozen=True)
class Coverage:
    """Particles against the truth p(x | prompt); for draws from p itself every field but `missed` is about 1."""

    spread: float
    """sqrt(tr Cov of the particles / tr Cov of p)."""
    within: float
    """The same inside the modes: each particle belongs to its likeliest component."""
    missed: float
    """Share of p's mass on components that no particle, or too few, belong to: total variation, 0 to 1."""
    likelihood: float
    """exp(mean log p of the particles - mean log p of draws from p): above 1, particles sit on the peaks."""


@torch.no_grad()
def coverage(x: Float[Tensor, "n *d"], prior: GaussianMixturePrior, prompt: str, rng: torch.Generator) -> Coverage:
    """Compare particles with a mixture; 4,096 draws stand in for E_p[log p] and the mass of each mode."""
    truth = prior.draw(prompt, 4096, rng)
    text = prior.embed([prompt])
    log_p = [prior.log_prob(v, None, text.expand(len(v))).mean() for v in (x, truth)]
    mine, theirs = (components(v, prior, prompt) for v in (x, truth))
    shares = [torch.bincount(k, minlength=len(prior.means)) / len(k) for k in (mine, theirs)]
    return Coverage(
        spread=_spread(x) / _spread(truth),
        within=_within(x, mine) / _within(truth, theirs),
        missed=0.5 * float((shares[0] - shares[1]).abs().sum()),
        likelihood=float((log_p[0] - log_p[1]).exp()),
    )


def diversity(images: Float[Tensor, "n 3 h w"]) -> float:
    """Return the root mean square difference of two pictures' values, over all pairs; 0 for one picture."""
    n = len(images)
    # the mean over ordered pairs of |a - b|^2 is twice the variance; pairs of a picture with itself do not count
    return float((2 * images.double().var(0, unbiased=True).mean()).sqrt()) if n > 1 else 0.0


@torch.no_grad()
def components(x: Float[Tensor, "n *d"], prior: GaussianMixturePrior, prompt: str) -> Int[Tensor, " n"]:
    """Return the component of the mixture that each particle most likely came from: argmax_k w_k N(x; m_k, C_k)."""
    alone = torch.eye(len(prior.means), dtype=prior.dtype, device=prior.device).log()  # weights of one component each
    log_density = torch.stack([prior.log_prob(x, None, Condition(w.expand(len(x), 1, -1))) for w in alone], 1)
    return (log_density + log_weights(prior.embed([prompt]))).argmax(1)


def _spread(x: Tensor) -> float:
    return float((x - x.mean(0)).square().flatten(1).sum(1).mean().sqrt())


def _within(x: Tensor, mode: Tensor) -> float:
    off = torch.cat([x[mode == k] - x[mode == k].mean(0) for k in mode.unique()])
    return float(off.square().flatten(1).sum(1).mean().sqrt())
