"""Convolutions in three dimensions, modulated by the text, with one splat for each voxel of the last grid.

After ScaleDreamer's 3DConv-Net (arXiv:2407.02040), a StyleGAN (Karras et al., arXiv:1912.04958) in three dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.scene.generator.base import RAW, Network, Text, Trunk, small_

FIRST = 4  # voxels per side of the learned beginning
OUTSIDE = 4.0  # by how much the logit of the opacity is lowered at first outside the ball


@dataclass(frozen=True)
class Conv(Trunk):
    """Modulated 3D convolutions; as many splats as voxels, which move by one voxel at most. `--generator.count` and
    `--generator.free` follow from the grid.
    """

    channels: tuple[int, ...] = (64, 32, 16)
    """Channels at 4, 8, 16 ... voxels per side; the last ones hold the splats."""
    style: int = 128
    """Width of what modulates them."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        super().__post_init__()
        checks.need(self, "channels", 1 <= len(self.channels) <= 6, "must be 1 to 6 numbers")
        checks.within(self, 1, 4096, "channels", "style")

    @property
    def side(self) -> int:
        """Return the voxels per side of the last grid."""
        return FIRST * 2 ** (len(self.channels) - 1)

    def anchors(self) -> Float[Tensor, "n 3"]:
        """Return the middles of the voxels; the grid reaches a little beyond the ball."""
        middles = 1.25 * self.radius * ((torch.arange(self.side) + 0.5) / self.side * 2 - 1)
        return torch.stack(torch.meshgrid(middles, middles, middles, indexing="ij"), -1).view(-1, 3)

    def network(self, width: int) -> Network:
        return ConvNetwork(self, width)


class Modulated(nn.Module):
    """3D convolution whose input channels the style scales, its output at unit variance again, and a bias for each voxel."""

    def __init__(self, inside: int, outside: int, style: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, inside, 3, 3, 3) / (27 * inside) ** 0.5)
        self.scale = nn.Linear(style, inside)
        nn.init.ones_(self.scale.bias)
        self.bias = nn.Parameter(torch.zeros(1, outside, side, side, side))

    def forward(self, x: Float[Tensor, "p c s s s"], style: Float[Tensor, "p d"]) -> Float[Tensor, "p o s s s"]:
        scale = self.scale(style)
        sizes = scale.square() @ self.weight.square().sum((2, 3, 4)).T
        x = F.conv3d(x * scale[:, :, None, None, None], self.weight, padding=1)
        return F.silu(x * (sizes + 1e-8).rsqrt()[:, :, None, None, None] + self.bias)


class ConvNetwork(Network):
    """Network of Conv."""

    lowered: Tensor

    def __init__(self, trunk: Conv, width: int) -> None:
        super().__init__(trunk, width)
        self.side = trunk.side
        self.free = 2 * 1.25 * trunk.radius / trunk.side
        self.begin = nn.Parameter(torch.randn(1, trunk.channels[0], FIRST, FIRST, FIRST))
        self.style = nn.Sequential(nn.Linear(self.reads, trunk.style), nn.SiLU(), nn.Linear(trunk.style, trunk.style), nn.SiLU())
        before = (trunk.channels[0], *trunk.channels[:-1])
        sides = [FIRST * 2**k for k in range(len(trunk.channels))]
        self.blocks = nn.ModuleList(Modulated(i, o, trunk.style, s) for i, o, s in zip(before, trunk.channels, sides, strict=True))
        self.last = nn.Conv3d(trunk.channels[-1], RAW, 1)
        small_(self.last)
        self.register_buffer("lowered", OUTSIDE * (self.anchors.norm(dim=1) > trunk.radius).float())

    def forward(self, text: Text) -> Float[Tensor, "p n 14"]:
        style = self.style(self.conditioning(text))
        x = self.begin.expand(len(text), -1, -1, -1, -1)
        for k, block in enumerate(self.blocks):
            x = block(F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False) if k else x, style)
        raw = self.last(x).flatten(2).transpose(1, 2)
        return raw - F.pad(self.lowered[:, None], (10, RAW - 11))
