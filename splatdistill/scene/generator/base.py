"""Parts that all generators share: the text that they read, anchors, and heads that make Gaussians of raw numbers.

A trunk turns texts into 14 raw numbers for each of n anchors. The heads are the same for all: a network that answers 0
everywhere gives the recipes' ball, faint and gray, for every prompt. After Splatter Image (arXiv:2312.13150) and BrightDreamer
(arXiv:2403.11273), whose heads begin small as well.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.gaussians import SH_C0, Gaussians

RAW = 14  # offset 3, scales 3, quaternion 4, opacity 1, colour 3
SPREAD = 2.0  # scales stay within e^-2 and e^2 of the first one: unbounded ones grow into veils
MOST = 1_000_000  # splats of a prompt


@dataclass(frozen=True)
class Text:
    """Prompts as a prior's text encoder reads them."""

    tokens: Float[Tensor, "p l c"]
    pooled: Float[Tensor, "p c"]
    """Mean of the tokens: the state at the end of the text does not tell colours apart in a small encoder."""
    z: Float[Tensor, "p z"] | None = None
    """Standard normal numbers that choose one of a prompt's objects, for a network that has them; None is all zeros."""

    @classmethod
    def of(cls, tokens: Float[Tensor, "p l c"], z: Float[Tensor, "p z"] | None = None) -> "Text":
        """Return the text of these tokens, in float32."""
        return cls(tokens.float(), tokens.float().mean(1), z)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Trunk(ABC):
    """Kind of network, and its sizes."""

    count: int = 4000
    """Splats of every prompt."""
    radius: float = 0.6
    """Radius of the ball of anchors, world units."""
    free: float = 0.5
    """Greatest distance of a splat from its anchor along each axis, world units."""
    scale: float = 0.03
    """Standard deviation of the splats at first, world units."""
    opacity: float = 0.05
    """Opacity of the splats at first, in (0, 1)."""
    z: int = 0
    """Random numbers beside the text, so that a prompt has several objects (0: one object a prompt). Methods that seek the most
    likely picture, as SDS, learn to ignore them.
    """

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.count(self, 8, MOST, "count")
        checks.count(self, 0, 4096, "z")
        checks.positive(self, "radius", "free", "scale")
        checks.between(self, 0, 1, "opacity")

    @abstractmethod
    def network(self, width: int) -> "Network":
        """Return a network, not trained, for texts of so many numbers a token; random numbers are torch's."""

    def anchors(self) -> Float[Tensor, "n 3"]:
        """Return points spread over the ball; always the same ones."""
        rng = torch.Generator().manual_seed(0)
        direction = F.normalize(torch.randn(self.count, 3, generator=rng), dim=1)
        return self.radius * torch.rand(self.count, 1, generator=rng).pow(1 / 3) * direction


class Network(nn.Module, ABC):
    """Generator: texts to raw numbers, raw numbers to Gaussians. `tell` comes before the first use."""

    anchors: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, trunk: Trunk, width: int) -> None:
        super().__init__()
        self.trunk, self.width, self.free = trunk, width, trunk.free
        self.reads = width + trunk.z  # numbers that a trunk is given of a text
        self.register_buffer("anchors", trunk.anchors())
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def tell(self, pooled: Float[Tensor, "corpus c"]) -> None:
        """Store mean and standard deviation of a corpus' text embeddings: a third of an embedding is common to all."""
        self.mean.copy_(pooled.mean(0))
        self.deviation.copy_(pooled.std(0, correction=0).clamp(min=1e-3))

    def whitened(self, text: Text) -> Float[Tensor, "p c"]:
        """Return the pooled texts, each number with mean 0 and deviation 1 over the corpus."""
        return (text.pooled - self.mean) / self.deviation

    def conditioning(self, text: Text) -> Float[Tensor, "p r"]:
        """Return the whitened texts, and z beside them."""
        return torch.cat([self.whitened(text), self._z(text)], 1)

    def words(self, text: Text) -> Float[Tensor, "p l r"]:
        """Return the whitened tokens, and z beside each."""
        z = self._z(text)[:, None].expand(-1, text.tokens.shape[1], -1)
        return torch.cat([(text.tokens - self.mean) / self.deviation, z], 2)

    def _z(self, text: Text) -> Float[Tensor, "p z"]:
        return text.pooled.new_zeros(len(text), self.trunk.z) if text.z is None else text.z.to(text.pooled)

    @abstractmethod
    def forward(self, text: Text) -> Float[Tensor, "p n 14"]:
        """Return the raw numbers of all prompts."""

    def gaussians(self, raw: Float[Tensor, "n 14"]) -> Gaussians:
        """Return the Gaussians of one prompt's raw numbers r: mean = anchor + free tanh(r), scale = s0 exp(2 tanh(r / 2)),
        quaternion = r + (1, 0, 0, 0) at length 1, opacity = sigmoid(r + logit o0), colour = sigmoid(r).
        """
        t = self.trunk
        offset, size, turn, opacity, colour = raw.split((3, 3, 4, 1, 3), 1)
        start = torch.logit(torch.tensor(t.opacity, device=raw.device))
        return Gaussians(
            means=self.anchors + self.free * torch.tanh(offset),
            quats=F.normalize(turn + torch.tensor([1.0, 0.0, 0.0, 0.0], device=raw.device), dim=1),
            scales=t.scale * torch.exp(SPREAD * torch.tanh(size / 2)),
            opacities=torch.sigmoid(opacity[:, 0] + start),
            sh=((torch.sigmoid(colour) - 0.5) / SH_C0)[:, None],
        )


def small_(layer: nn.Linear | nn.Conv3d) -> None:
    """Initialise a last layer with small weights and no bias, so that the network begins near the ball."""
    fan = layer.weight[0].numel()
    nn.init.uniform_(layer.weight, -0.02 / fan**0.5, 0.02 / fan**0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
