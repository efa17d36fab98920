"""Score distillation, the part that all methods share.

    x ──noise──► x_t ──ask──► prior ──answers──► residual ──w(t)──► gradient w.r.t. x ──VJP──► splats

A guidance answers three questions and nothing else:

    noise      how is the rendered latent x carried to noise level t?
    ask        what must the prior be asked there? (all of it in one batched call)
    residual   what do the answers say is wrong with x?

Conventions: t in [0,1]; x_t = alpha_t x + sigma_t eps; answers are eps; the gradient is summed over latent
dimensions and divided by the batch, as in threestudio.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.guidance.times import Times
from splatdistill.priors import Conditions, DiffusionPrior, Query
from splatdistill.render import RenderOutput


@dataclass(frozen=True)
class View:
    """One batch of rendered views, as the prior sees it."""

    x: Float[Tensor, "b *d"]  # clean latents; the gradient flows through here to the splats
    text: Conditions
    prior: DiffusionPrior
    rng: torch.Generator
    progress: float = 0.0  # of the run, in [0, 1]
    render: RenderOutput | None = None  # None in the 2D case

    def randn(self) -> Float[Tensor, "b *d"]:
        """Standard normal noise in the latents' shape; the same numbers on every device."""
        return torch.randn(self.x.shape, generator=self.rng, dtype=self.x.dtype).to(self.x.device)

    def rand(self) -> Float[Tensor, " b"]:
        """One uniform number per view."""
        return torch.rand(len(self.x), generator=self.rng, dtype=self.x.dtype).to(self.x.device)


@dataclass(frozen=True)
class Noised:
    """Latents at noise level t. Always: x_t == alpha_t x + sigma_t eps."""

    x_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]
    eps: Float[Tensor, "b *d"]


Weight = Literal["sigma2", "sigma", "sigma_alpha", "alpha_sigma2", "one"]


def weight_of(kind: Weight, alpha: Tensor, sigma: Tensor) -> Tensor:
    """w(t): sigma2 DreamFusion; sigma SDI; sigma_alpha makes x - grad the prior's estimate of x; alpha_sigma2
    Fantasia3D; one SJC.
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
        case "one":
            return torch.ones_like(sigma)


@dataclass(frozen=True)
class Distilled:
    """What one call of a guidance says."""

    loss: Float[Tensor, ""]  # its gradient is right; its value means nothing
    grad: Float[Tensor, "b *d"]  # d loss / d x, times the batch
    noised: Noised
    eps_hat: Float[Tensor, "b *d"]  # the prior's guided prediction, for x_0 previews


@dataclass(frozen=True)
class Guidance(ABC):
    """Fields are hyperparameters. What changes while training is in `memory`, which checkpoints carry."""

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=Times)
    """Which noise levels are visited."""
    weight: Weight = "sigma2"
    """w(t), the weight of noise level t."""

    def init(self, prior: DiffusionPrior) -> nn.Module:
        """What is remembered from step to step. Usually nothing."""
        return nn.Module()

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Noised:
        """How x is carried to noise level t. Usually the forward process with fresh noise."""
        from splatdistill.guidance.noising import diffuse

        return diffuse(view, t)

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """What the prior is asked. Usually the classifier-free guidance pair."""
        return cfg_queries(view, n.x_t, n.t, self.scale)

    def predict(self, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """eps_hat from the first answers."""
        return cfg_combine(answers, self.scale)

    @abstractmethod
    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """The gradient with respect to x, but for w(t)."""

    def learn(self, view: View, memory: nn.Module) -> None:
        """Called after the splats have moved. Usually nothing to learn."""

    @final
    def __call__(self, view: View, memory: nn.Module) -> Distilled:
        """One evaluation; the gradient reaches x and nothing else."""
        t = self.times.draw(len(view.x), view.progress, view.rng).to(view.x)
        with torch.no_grad():
            n = self.noise(view, t, memory)
            answers = view.prior.answer(self.ask(view, n, memory))
            alpha, sigma = view.prior.schedule(n.t)
            grad = weight_of(self.weight, alpha, sigma) * self.residual(view, n, answers, memory)
        return Distilled((grad * view.x).sum() / len(view.x), grad, n, self.predict(answers))


def cfg_queries(view: View, x_t: Tensor, t: Tensor, scale: float) -> tuple[Query, ...]:
    """The questions of classifier-free guidance; at scale 1 or 0 one of the two is not needed."""
    pos, neg = Query(x_t, t, view.text.positive), Query(x_t, t, view.text.negative)
    return (pos,) if scale == 1 else (neg,) if scale == 0 else (pos, neg)


def cfg_combine(answers: tuple[Tensor, ...], scale: float) -> Tensor:
    """neg + scale (pos - neg) of the first answers to `cfg_queries` (arXiv:2207.12598)."""
    if scale in (0, 1):
        return answers[0]
    pos, neg = answers[:2]
    return neg + scale * (pos - neg)
