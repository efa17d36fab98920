"""Types of one evaluation of a guidance: the views, the latents with noise, the result."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.priors import Conditions, DiffusionPrior
from splatdistill.priors.random import normal
from splatdistill.render import RenderOutput


@dataclass(frozen=True)
class Original:
    """Pictures that are edited, as they were, and their own prompt."""

    x: Float[Tensor, "b *d"]  # clean latents
    text: Conditions


@dataclass(frozen=True)
class View:
    """Batch of rendered views, as the prior sees it."""

    x: Float[Tensor, "b *d"]  # clean latents; the gradient flows through here to the splats
    text: Conditions
    prior: DiffusionPrior
    rng: torch.Generator
    progress: float = 0.0  # of the run, in [0, 1]
    render: RenderOutput | None = None  # None in the 2D case
    original: Original | None = None  # where pictures are edited

    def randn(self) -> Float[Tensor, "b *d"]:
        """Draw standard normal noise in the latents' shape; the same numbers on every device."""
        return normal(self.x.shape, self.rng, self.x)

    def rand(self, shared: bool = False) -> Float[Tensor, " b"]:
        """Draw one uniform number per view, on the CPU as all times are; views that the prior sees as one set have one together, as all
        have if shared.
        """
        count = 1 if shared else len(self.x) // self.prior.views
        u = torch.rand(count, generator=self.rng, dtype=self.x.dtype)
        return u.repeat_interleave(len(self.x) // count)


@dataclass(frozen=True)
class Noised:
    """Latents at noise level t, which is on the CPU. Always: x_t == alpha_t x + sigma_t eps."""

    x_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]
    eps: Float[Tensor, "b *d"]


@dataclass(frozen=True)
class Distilled:
    """Result of one call of a guidance."""

    loss: Float[Tensor, ""]  # its gradient is right; its value means nothing
    grad: Float[Tensor, "b *d"]  # d loss / d x, times the batch
    noised: Noised
    eps_hat: Float[Tensor, "b *d"]  # the prior's guided prediction, for x_0 previews
    raw: Float[Tensor, "b *d"]  # grad before it was clipped and normalised: unbiased where the method is
    residual: Float[Tensor, "b *d"]  # of each view by itself, before mixing and w(t)
    target: Float[Tensor, "b *d"]  # x - (sigma_t / alpha_t) residual, after mixing: of SDS and SDI, the prior's estimate of x
    gain: Float[Tensor, "b *d"]  # grad = gain (x - target), elementwise

    def loss_at(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, ""]:
        """Return sum gain |x - target|^2 / 2 over the batch's size, for latents that have moved on; at the x that this was said
        of, its gradient is that of `loss`.
        """
        return 0.5 * (self.gain * (x - self.target).square()).sum() / len(x)


def check_sets(batch: int, prior: DiffusionPrior) -> None:
    """Raise UserError where a batch is not made of whole sets of the views that a prior sees together."""
    if batch % prior.views:
        raise UserError(f"the prior {prior.name} sees {prior.views} views of one object at a time; expected a multiple of that, got {batch} pictures")
