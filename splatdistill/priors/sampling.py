"""Pictures from a prior alone: what it knows before any splats are involved."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors import Condition, DiffusionPrior, Query, guided
from splatdistill.priors.random import normal


@torch.no_grad()
def ddim(
    prior: DiffusionPrior,
    x: Float[Tensor, "b *d"],
    positive: Condition,
    negative: Condition,
    scale: float,
    steps: int,
) -> Float[Tensor, "b *d"]:
    """Return clean latents by deterministic DDIM (Song et al., arXiv:2010.02502, eta = 0) from noise x at t = 1.

    x_s = alpha_s x_hat + sigma_s eps with x_hat = (x_t - sigma_t eps) / alpha_t, at the even times 1, ..., 1/steps
    ("trailing" of Lin et al., arXiv:2305.08891); the last x_hat is the answer.
    """
    times = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    for k, time in enumerate(times.to(x.dtype)):
        t = time.expand(len(x)).to(x.device)
        if scale == 1:
            (eps,) = prior.answer([Query(x, t, positive)])
        else:
            eps = guided(*prior.answer([Query(x, t, positive), Query(x, t, negative)]), scale)
        alpha, sigma = prior.schedule(t)
        clean = (x - sigma * eps) / alpha
        if k + 1 == steps:
            break
        alpha, sigma = prior.schedule(times[k + 1].to(x.dtype).expand(len(x)).to(x.device))
        x = alpha * clean + sigma * eps
    return clean


def sample(
    prior: DiffusionPrior,
    prompts: Sequence[str],
    scale: float = 5.0,
    steps: int = 50,
    *,
    rng: torch.Generator,
    negative: str = "",
) -> Float[Tensor, "b 3 h w"]:
    """Return a picture (3,h,w) in [0,1] for each prompt, by DDIM under classifier-free guidance."""
    size = prior.image_size
    blank = prior.encode(torch.full((1, 3, size, size), 0.5, device=prior.device, dtype=prior.dtype))
    x = normal((len(prompts), *blank.shape[1:]), rng, blank)
    clean = ddim(prior, x, prior.embed(prompts), prior.embed([negative] * len(prompts)), scale, steps)
    with torch.no_grad():
        return prior.decode(clean).clamp(0, 1)
