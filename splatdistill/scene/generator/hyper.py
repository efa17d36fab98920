"""Hyper-network: the text makes the weights of a small network that is asked at every anchor.

After ScaleDreamer's Hyper-iNGP (arXiv:2407.02040) and ATT3D (arXiv:2306.07349), with Gaussians in the place of a field.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.scene.generator.base import RAW, Network, Text, Trunk

EXTENT = 1.6  # of the grids, in radii of the anchors' ball


@dataclass(frozen=True)
class Hyper(Trunk):
    """Features of grids shared by all prompts, read at the anchors, and a small network whose weights are predicted from the text."""

    grids: tuple[int, ...] = (8, 16, 32)
    """Points per side of each grid."""
    features: int = 8
    """Numbers at each grid point."""
    hidden: int = 32
    """Width of the network whose weights are made."""
    bottleneck: int = 64
    """Width between the text and those weights."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        super().__post_init__()
        checks.within(self, 2, 256, "grids")
        checks.need(self, "grids", bool(self.grids), "must be one or more numbers")
        checks.count(self, 1, 4096, "features", "hidden", "bottleneck")

    def network(self, width: int) -> Network:
        return HyperNetwork(self, width)


class HyperNetwork(Network):
    """Network of Hyper."""

    def __init__(self, trunk: Hyper, width: int) -> None:
        super().__init__(trunk, width)
        self.grids = nn.ParameterList([0.1 * torch.randn(1, trunk.features, n, n, n) for n in trunk.grids])
        sizes = (len(trunk.grids) * trunk.features + 3, trunk.hidden, trunk.hidden, RAW)
        self.layers = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.maker = nn.Sequential(nn.Linear(self.reads, trunk.bottleneck, bias=False), nn.LayerNorm(trunk.bottleneck), nn.SiLU())
        self.weights = nn.Linear(trunk.bottleneck, sum(i * o + o for i, o in self.layers))
        with torch.no_grad():  # the text changes a network that works, instead of making one from nothing
            self.weights.weight.mul_(0.3)
            first = []
            for k, (i, o) in enumerate(self.layers):
                bound = 0.02 / i**0.5 if k == len(self.layers) - 1 else math.sqrt(6 / i)
                first += [torch.empty(o * i).uniform_(-bound, bound), torch.zeros(o)]
                if k == len(self.layers) - 1:
                    self.weights.weight[-(i * o + o) :] *= 0.02
            self.weights.bias.copy_(torch.cat(first))

    def forward(self, text: Text) -> Float[Tensor, "p n 14"]:
        trunk, places = self.trunk, self.anchors / (EXTENT * self.trunk.radius)
        read = [F.grid_sample(g, places[None, None, None], align_corners=True)[0, :, 0, 0].T for g in self.grids]
        h: Tensor = torch.cat([*read, self.anchors / trunk.radius], 1).expand(len(text), -1, -1)
        made, at = self.weights(self.maker(self.conditioning(text))), 0
        for k, (i, o) in enumerate(self.layers):
            weight, bias = made[:, at : at + i * o].view(-1, i, o), made[:, None, at + i * o : at + i * o + o]
            h = torch.baddbmm(bias, h, weight)
            h = h if k == len(self.layers) - 1 else F.silu(h)
            at += i * o + o
        return h
