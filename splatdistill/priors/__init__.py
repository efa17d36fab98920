"""Diffusion priors: what a guidance may ask, whatever the network.

Conventions, converted here and nowhere else: t in [0, 1]; x_t = alpha_t x + sigma_t eps; answers are eps
whatever the network predicts (prediction.py); classifier-free guidance is neg + scale (pos - neg).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors.condition import Condition, Conditions, Part, PerpNeg
from splatdistill.priors.schedule import Schedule

__all__ = ["Adapter", "Condition", "Conditions", "DiffusionPrior", "Part", "PerpNeg", "Query", "Schedule", "Source", "guided"]


@dataclass(frozen=True)
class Query:
    """Question to a prior: the noise in x_t at time t under a condition, of the base network or an adapter."""

    x_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]
    condition: Condition
    network: nn.Module | None = None  # an adapter made by this prior; None is the prior itself


class Adapter(nn.Module, ABC):
    """Copy of a prior that can learn another distribution of latents, such as that of rendered views (VSD,
    arXiv:2305.16213). Its parameters and buffers are its own and not the prior's: state_dict holds all of it.
    """

    @abstractmethod
    def forward(
        self,
        x_t: Float[Tensor, "b *d"],
        t: Float[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, "b *d"]:
        """Return eps (b, *d) whatever the network predicts; uncounted, with the gradient mode of the caller. The condition's camera may
        be None, unknown.
        """

    @abstractmethod
    def loss(
        self,
        x: Float[Tensor, "b *d"],
        t: Float[Tensor, " b"],
        eps: Float[Tensor, "b *d"],
        condition: Condition,
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the network's own prediction for clean latents x and the noise eps. Counts
        as one evaluation per image.
        """


class DiffusionPrior(ABC):
    """Text-conditioned diffusion model over latents x.

    The gradient never passes through the network: `answer` runs without one. It passes through `encode`.
    """

    calls: int = 0  # images that networks were evaluated on, for cost accounting: one CFG pair of b views is 2b
    image_size: int  # pixels per side that the prior wants to see
    name: str  # what to call it in outputs: "tiny", "world", a hub id, a folder
    licence: str  # of the weights
    device: torch.device
    dtype: torch.dtype  # of latents and answers (networks may run in a lower one)
    noise: Schedule
    wants: frozenset[Part] = frozenset({"tokens"})  # the parts of a condition that it reads
    metric: Float[Tensor, "c 1 1"] | None = None  # what a latent counts in a gradient; None: each as much
    views: int = 1  # pictures of one object that it sees together: batches are whole sets of so many
    takes_picture: bool = False  # whether it may be shown a picture of the object: Condition.image, one for each set of views
    needs_picture: bool = False  # whether it makes views of a picture and nothing without one; on white
    begins: float = 0.0  # noise level below which its eps means nothing: what is inverted begins there, with fresh noise
    perp_neg: bool = False  # whether it wants Perp-Neg: a network of single pictures that confuses views
    camera_guidance: bool = False  # whether guidance amplifies its cameras as it does words: a network that was also trained without them

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Condition:
        """Return the parts of a condition that are made of text, (b,...); each distinct prompt is computed once."""

    @abstractmethod
    def encode(self, rgb: Float[Tensor, "b 3 h w"], rng: torch.Generator | None = None) -> Float[Tensor, "b *d"]:
        """Return the latents (b, *d) of images in [0,1]; differentiable. With an rng the posterior is sampled, else its mean taken."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b 3 h w"]:
        """Return the images (b,3,h,w) of latents, not clamped."""

    @torch.no_grad()
    def latent_shape(self) -> tuple[int, ...]:
        """Return the shape (*d) of the latents of one picture."""
        return tuple(self.encode(torch.full((1, 3, self.image_size, self.image_size), 0.5, device=self.device)).shape[1:])

    @abstractmethod
    def schedule(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b *one"], Float[Tensor, "b *one"]]:
        """Return alpha_t and sigma_t of `noise`, shaped to broadcast against latents."""

    @abstractmethod
    def answer(self, queries: Sequence[Query]) -> tuple[Float[Tensor, "b *d"], ...]:
        """Return eps (b, *d) for every query, in as few batched network calls as possible, without gradient."""

    def adapter(self, rank: int, rng: torch.Generator, exact_start: bool = True) -> Adapter:
        """Return a new adapter, to be asked through Query.network; UserError where a prior has none.

        rank: rank of its low-rank matrices, for priors that are networks; rng: for its first values. exact_start: it begins
        as the prior, bit by bit; without, its camera embedding begins at random.
        """
        raise UserError(
            f"The prior {self.name} has no adapter that could learn what renders look like. "
            "Take a prior that has, or a guidance that needs none, such as sds."
        )


def guided(pos: Tensor, neg: Tensor, scale: float) -> Tensor:
    """Return neg + scale (pos - neg), classifier-free guidance (Ho and Salimans, arXiv:2207.12598); scale 1 is the prompt alone."""
    return neg + scale * (pos - neg)


Source = Literal["auto", "tiny", "world"]
