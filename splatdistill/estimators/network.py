"""The network of `tiny-geometry` and `world-geometry`: a small U-Net from a picture to depth, normals and foreground.

A folder of it holds config.json and model.safetensors (or a pointer to a file that it shares, see weight_files/shared_weights.py).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splatdistill.weight_files import SharedWeights

CLASS_NAME = "GeometryNet"
MAPS = 5  # inverse depth, three of the normal, foreground


class ResidualBlock(nn.Module):
    """Residual block of two convolutions, with group normalisation before each."""

    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x plus what the convolutions add."""
        h = x
        for norm, convolution in zip(self.norms, self.convolutions):
            h = convolution(F.silu(norm(h)))
        return x + h


class GeometryNet(nn.Module):
    """U-Net with one block per level on the way down and one on the way up; levels halve the resolution, skips are added.

    The picture comes in 2x2 patches and its maps leave so. Their values are what they were regressed to: inverse
    depth times foreground, the normal times foreground, and the foreground's logit. Sides are multiples of
    2^len(channels). `size`: pixels a side of the pictures that it was trained on.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 96, 96), size: int = 64):
        super().__init__()
        self.channels, self.size = tuple(channels), size
        pairs = list(zip(self.channels[:-1], self.channels[1:]))
        self.stem = nn.Conv2d(3 * 4, self.channels[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(c) for c in self.channels)
        self.wider = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.narrower = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(ResidualBlock(c) for c in self.channels[:-1])
        self.norm = nn.GroupNorm(8, self.channels[0])
        self.head = nn.Conv2d(self.channels[0], MAPS * 4, 3, padding=1)

    def forward(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 5 h w"]:
        """Return raw maps of pictures in [0,1]."""
        x = self.down[0](self.stem(F.pixel_unshuffle(2 * rgb - 1, 2)))
        skips = []
        for wider, block in zip(self.wider, self.down[1:]):
            skips.append(x)
            x = block(wider(F.avg_pool2d(x, 2)))
        for narrower, block in zip(reversed(self.narrower), reversed(self.up)):
            x = F.interpolate(narrower(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(x + skips.pop())
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), 2)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": CLASS_NAME, "channels": list(self.channels), "size": self.size}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "GeometryNet":
        """Read them, weights as float32; their own file wins over a shared one."""
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = cls(config["channels"], config.get("size", 64))
        own, bundled = folder / "model.safetensors", SharedWeights.of(folder)
        network.load_state_dict(bundled.tensors() if bundled and not own.is_file() else load_file(own))
        return network.float()
