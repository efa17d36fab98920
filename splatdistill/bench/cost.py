"""Images that a method asks networks about, counted and not assumed: the method itself is run in the plane."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import SSD, VSD, Guidance, View
from splatdistill.priors import Condition, Conditions, PerpNeg
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.plane import plane
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.config import Train

CELLS = 48  # places of the run at which a step is looked at
DRAWS = 2  # steps at each, for methods whose questions depend on chance (ISM)


@dataclass(frozen=True)
class Cost:
    """Images per optimiser step along a run: those of the diffusion network and of adapters, learning included. An
    estimator beside the prior (SSD's baselines) does not count.
    """

    images: tuple[float, ...]  # at evenly spaced places

    @property
    def mean(self) -> float:
        """Return the mean of a whole run, per step."""
        return sum(self.images) / len(self.images)

    def until(self, progress: float) -> float:
        """Return the images asked about until this progress, as a share of the whole run's."""
        whole, part = divmod(min(max(progress, 0.0), 1.0) * len(self.images), 1)
        done = sum(self.images[: int(whole)]) + (part * self.images[int(whole)] if part else 0.0)
        return done / sum(self.images)

    def steps(self, images: float) -> int:
        """Return how many steps a budget of images pays for; at least one."""
        return max(1, round(images / self.mean))


def cost(config: Train | Amortise, perp_neg: bool) -> Cost:
    """Count the images of a configuration, of a training of many prompts too. perp_neg: whether Perp-Neg is on, which adds two questions to each pair.

    Raises UserError for a method that cannot be run in the plane.
    """
    prior = plane()
    guidance = config.guidance
    if isinstance(guidance, SSD):
        guidance = replace(guidance, baselines=(), zero123="")  # they ask networks beside the prior, which are not counted
    if isinstance(guidance, VSD):
        guidance = replace(guidance, adapter="lora", adapter_prior="")  # any network that learns counts alike
    text = conditions(prior, config.batch * config.prior_views, perp_neg and config.view_dependent)
    batches = config.accumulate if isinstance(config, Train) else config.prompts
    try:
        memory = guidance.init(prior)
        return Cost(
            tuple(batches * count(guidance, prior, text, memory, (k + 0.5) / CELLS) for k in range(CELLS))
        )
    except (RuntimeError, ValueError, TypeError, AttributeError) as e:
        raise UserError(
            f"the network images of {type(guidance).__name__} cannot be counted in the plane ({type(e).__name__}: {e}); "
            "take --budget steps or --budget recipe"
        ) from e


def count(
    guidance: Guidance, prior: GaussianMixturePrior, text: Conditions, memory: nn.Module, progress: float
) -> float:
    """Count the images of one step at a place of the run, mean over a few draws. Where learning takes part it learns once."""
    before = prior.calls
    for seed in range(DRAWS):
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(len(text), 2, generator=rng, dtype=prior.dtype).requires_grad_()
        view = View(x, text, prior, rng, progress)
        guidance(view, memory)
        guidance.learn(view, memory)
    return (prior.calls - before) / DRAWS


def conditions(prior: GaussianMixturePrior, batch: int, perp_neg: bool) -> Conditions:
    """Return the prompts of one batch of views."""

    def of(prompt: str) -> Condition:
        return prior.embed([prompt] * batch)

    perp = PerpNeg(of("grid"), of("pair"), -torch.ones(batch, 2, dtype=prior.dtype)) if perp_neg else None
    around = orbit(torch.arange(batch) * (360.0 / batch)).to(dtype=prior.dtype)
    return Conditions(of("ring"), of(""), of(""), of("ring"), around, ("ring",) * batch, perp)
