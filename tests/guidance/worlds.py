"""Exact priors and views that the guidance tests share."""

import torch

from splatdistill.cameras import orbit
from splatdistill.guidance import View
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts

D = (2, 3, 3)


def mixture(seed: int = 0) -> GaussianMixturePrior:
    """Return three Gaussians over (2,3,3) latents; "ball" is mostly the first, "cube" mostly the last."""
    rng = torch.Generator().manual_seed(seed)
    means = torch.randn(3, *D, generator=rng, dtype=torch.float64)
    variances = torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    return GaussianMixturePrior(means, variances, {"ball": [8.0, 1.0, 1.0], "cube": [1.0, 1.0, 8.0]})


def view(prior: GaussianMixturePrior, batch: int, seed: int = 0, progress: float = 0.3, prompts: Prompts | None = None) -> View:
    """Return random latents that require a gradient, seen from all around."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *D, generator=rng, dtype=torch.float64).requires_grad_()
    cameras = orbit(torch.arange(batch) * 77.0)
    text = (prompts or Prompts("ball", negative="cube")).conditions(prior, cameras)
    return View(x, text, prior, rng, progress)
