"""Memory of Stein score distillation: its weights, from averages or by gradient steps, and its discriminator."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.guidance.baselines import Baselines, Losses
from splatdistill.guidance.discriminator import RATE, Discriminator
from splatdistill.guidance.learning import Learning
from splatdistill.guidance.stein import ControlWeights, Share


class ControlMap(nn.Module):
    """Map of weights mu that learns by gradient steps, as the paper's; it begins at ones."""

    def __init__(self, terms: int, shape: tuple[int, ...], share: Share) -> None:
        super().__init__()
        over = {"none": 0, "channels": 1, "all": len(shape)}[share]
        self.mu = nn.Parameter(torch.ones(terms, *[1] * over, *shape[over:]))

    def forward(self, terms: Float[Tensor, "k b *d"]) -> Float[Tensor, "b *d"]:
        """Return sum_k mu_k h_k."""
        return (self.mu[:, None].to(terms) * terms).sum(0)


class SteinMemory(ControlWeights):
    """Memory of SSD: mu with the averages it is made from or with Adam's moments, and a discriminator that learns. The baselines'
    other networks are beside it and not kept.
    """

    learning: Learning[Discriminator] | None
    map: Learning[ControlMap] | None  # of variant paper
    estimate: Tensor | None  # of the clean latents, by the prior, in this step

    def __init__(self, terms: int, decay: float, losses: Losses, map: ControlMap | None = None, rate: float = 0.0):
        super().__init__(terms, decay)
        self.losses, self.estimate = losses, None
        told = losses.discriminator if isinstance(losses, Baselines) else None
        self.learning = None if told is None else Learning(told, RATE, (0.5, 0.99), 1e-8, 0.01)
        self.map = None if map is None else Learning(map, rate, (0.9, 0.999), 1e-8, 0.0)

    def published(self, eps_hat: Float[Tensor, "b *d"], terms: Float[Tensor, "k b *d"], w: Float[Tensor, "b *one"], rate: float) -> Float[Tensor, "b *d"]:
        """Return the control variates of the variant paper under mu as it is, and let mu take one step on them after."""
        if self.map is None:
            return terms.sum(0)
        with torch.enable_grad():
            control = self.map.network(terms)
            loss = (w * (eps_hat - control)).square().flatten(1).sum(1).mean()
            self.map.update(loss, rate)
        return control.detach()
