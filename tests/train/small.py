"""A run small enough for tests: 16-pixel images, an exact prior, 60 splats."""

import torch

from splatdistill.cameras import Orbit
from splatdistill.guidance import SDS, Guidance, Times
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.scene.initial import Ball
from splatdistill.train.config import Background, Train


def red_and_blue(size: int = 16, purity: float = 1.0) -> GaussianMixturePrior:
    """Return images that are a red or a blue disc on white, float32; a prompt means its own colour with probability `purity`, whose
    logarithms, finite below 1, are its tokens.
    """
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    disc = ((x**2 + y**2) < 0.4).float()
    red, blue = (1 - disc * (1 - torch.tensor(c).view(3, 1, 1)) for c in ((1.0, 0.1, 0.1), (0.1, 0.1, 1.0)))
    means = 2 * torch.stack([red, blue]) - 1
    return GaussianMixturePrior(means, torch.tensor([0.02, 0.02]), {"a red disc": [purity, 1 - purity], "a blue disc": [1 - purity, purity]}, gain=2.0, offset=-1.0)


def config(guidance: Guidance | None = None, **changes) -> Train:
    """Return a fast run towards the red disc."""
    settings = {
        "prompt": "a red disc",
        "steps": 20,
        "batch": 2,
        "guidance": guidance or SDS(scale=1.0, times=Times(t_min=0.02, t_max=0.7)),
        "init": Ball(count=60, radius=0.7, opacity=0.3),
        "cameras": Orbit(),
        "background": Background("white"),
        "view_dependent": False,
        "checkpoint_every": 0,
        "preview_every": 0,
    }
    return Train(**{**settings, **changes})
