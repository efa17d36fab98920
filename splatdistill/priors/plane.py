"""The prior `exact`: Gaussian mixtures in the plane, for seeing what a method does where every answer is known.

After the two-dimensional experiments of "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with
Variational Score Distillation" (arXiv:2305.16213): particles in the plane, a density that can be drawn. The mixtures
are our own. Each prompt weighs the same 19 components in its own way; "" is all of them alike.
"""

import math

import torch

from splatdistill.priors.exact import GaussianMixturePrior

NAME = "exact"
RING = [(1.8 * math.cos(k * math.pi / 4), 1.8 * math.sin(k * math.pi / 4)) for k in range(8)]
GRID = [(float(x), float(y)) for x in (-1, 0, 1) for y in (-1, 0, 1)]
PAIR = [(-1.2, 0.4), (1.0, -0.6)]
PAIR_COVARIANCES = [[[0.20, 0.12], [0.12, 0.10]], [[0.08, -0.06], [-0.06, 0.30]]]
PROMPTS = {
    "ring": [1.0] * 8 + [0.0] * 11,
    "grid": [0.0] * 8 + [1.0] * 9 + [0.0] * 2,
    "pair": [0.0] * 17 + [0.7, 0.3],
    "one": [0.0] * 17 + [1.0, 0.0],
}
"""ring: eight round Gaussians; grid: nine; pair: two long ones at odds of 7 to 3; one: the first of the pair."""


def plane(device: torch.device | str = "cpu") -> GaussianMixturePrior:
    """Return a prior over latents (2,), in float64, whose prompts are the mixtures."""
    means = torch.tensor(RING + GRID + PAIR, dtype=torch.float64, device=device)
    covariances = torch.diag_embed(torch.tensor([[0.15**2] * 2] * 8 + [[0.12**2] * 2] * 9 + [[1.0] * 2] * 2))
    covariances = covariances.to(means)
    covariances[17:] = torch.tensor(PAIR_COVARIANCES).to(means)
    prior = GaussianMixturePrior(means, covariances, PROMPTS)
    prior.name = NAME
    return prior
