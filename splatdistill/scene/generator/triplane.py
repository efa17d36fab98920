"""Transformer whose tokens become three planes; the splats are moved by what they read there, and read again where they are.

After ScaleDreamer's Triplane-Transformer (arXiv:2407.02040), itself after LRM (arXiv:2311.04400), with BrightDreamer's order
(arXiv:2403.11273): move, then read.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.scene.generator.base import RAW, Network, Text, Trunk, small_

EXTENT = 1.8  # of the planes, in radii of the anchors' ball


@dataclass(frozen=True)
class Triplane(Trunk):
    """Transformer over the tokens of three planes, with attention to the words of the prompt."""

    side: int = 8
    """Tokens per side of each plane."""
    width: int = 128
    """Numbers in each token."""
    layers: int = 4
    """Layers of the transformer."""
    heads: int = 4
    """Heads of its attention."""
    features: int = 16
    """Numbers in each of the 2 x 2 points that a token becomes."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        super().__post_init__()
        checks.count(self, 1, 256, "side", "layers", "heads", "features")
        checks.count(self, 1, 8192, "width")
        checks.need(self, "width", self.width % self.heads == 0, f"must be a multiple of the {self.heads} heads")

    def network(self, width: int) -> Network:
        return TriplaneNetwork(self, width)


class TransformerBlock(nn.Module):
    """Attention to the words, among the tokens, and a feed-forward network, each after a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.words, self.own = (nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "p m d"], words: Float[Tensor, "p l d"]) -> Float[Tensor, "p m d"]:
        first, second, third = self.norms
        x = x + self.words(first(x), words, words, need_weights=False)[0]
        y = second(x)
        x = x + self.own(y, y, y, need_weights=False)[0]
        return x + self.mlp(third(x))


class TriplaneNetwork(Network):
    """Network of Triplane."""

    def __init__(self, trunk: Triplane, width: int) -> None:
        super().__init__(trunk, width)
        t = trunk
        self.side = t.side
        self.tokens = nn.Parameter(0.02 * torch.randn(1, 3 * t.side**2, t.width))
        self.read = nn.Linear(self.reads, t.width)
        self.blocks = nn.ModuleList(TransformerBlock(t.width, t.heads) for _ in range(t.layers))
        self.norm = nn.LayerNorm(t.width)
        self.up = nn.ConvTranspose2d(t.width, t.features, 2, 2)
        self.move, self.rest = (nn.Sequential(nn.Linear(3 * t.features + 3, 64), nn.SiLU()) for _ in range(2))
        self.moved, self.made = nn.Linear(64, 3), nn.Linear(64, RAW - 3)
        small_(self.moved)
        small_(self.made)

    def forward(self, text: Text) -> Float[Tensor, "p n 14"]:
        words = self.read(self.words(text))
        x = self.tokens.expand(len(text), -1, -1)
        for block in self.blocks:
            x = block(x, words)
        grid = self._planes(self.norm(x))
        anchors = self.anchors.expand(len(text), -1, -1)
        offset = self.moved(self.move(self._at(grid, anchors)))
        moved = anchors + self.free * torch.tanh(offset)
        return torch.cat([offset, self.made(self.rest(self._at(grid, moved)))], 2)

    def _planes(self, x: Float[Tensor, "p m d"]) -> Float[Tensor, "p3 f s s"]:
        """Return the three planes of each prompt, one after the other."""
        tokens = x.unflatten(1, (3, self.side, self.side)).permute(0, 1, 4, 2, 3).flatten(0, 1)
        return self.up(tokens)

    def _at(self, planes: Float[Tensor, "p3 f s s"], points: Float[Tensor, "p n 3"]) -> Float[Tensor, "p n g"]:
        """Return what the planes xy, xz and yz hold at points, beside the points themselves."""
        places = points / (EXTENT * self.trunk.radius)
        pairs = torch.stack([places[..., [0, 1]], places[..., [0, 2]], places[..., [1, 2]]], 1).flatten(0, 1)
        found = F.grid_sample(planes, pairs[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        return torch.cat([found.unflatten(0, (-1, 3)).permute(0, 3, 1, 2).flatten(2), points / self.trunk.radius], 2)
