"""Presets of background and light for a page's pictures."""

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.io.images import to_bytes

Background = Literal["white", "light grey", "dark grey", "black", "studio", "transparent"]
BACKGROUNDS: tuple[Background, ...] = tuple(b for b in get_args(Background) if b != "transparent")  # a page is opaque
GREYS: dict[Background, tuple[float, float]] = {
    "white": (1.0, 1.0), "light grey": (0.85, 0.85), "dark grey": (0.22, 0.22), "black": (0.0, 0.0), "studio": (0.94, 0.62),
}  # fmt: skip
"""Grey at the top and at the bottom of each."""
DARK: tuple[Background, ...] = ("dark grey", "black")

Light = Literal["as trained", "studio", "headlight", "from above", "from behind"]
LIGHTS: tuple[Light, ...] = get_args(Light)
DIRECTIONS: dict[Light, tuple[float, float, float]] = {
    "studio": (1.0, -0.7, 0.9), "from above": (0.15, 0.0, 1.0), "from behind": (-1.0, 0.4, 0.8),
}  # fmt: skip
"""World directions towards each light; z is up, the front looks along +x."""
AMBIENT = 0.35  # share of the light that comes from everywhere


def backdrop(background: Background, height: int) -> Float[Tensor, "1 height 1"]:
    """Return a background as one column of greys in [0, 1]."""
    top, bottom = GREYS[background]
    return torch.linspace(top, bottom, height)[None, :, None]


def backdrop_image(background: Background) -> np.ndarray:
    """Return a background as a small picture, (h,w,3) bytes, to be stretched behind a scene."""
    return to_bytes(backdrop(background, 256).expand(3, -1, 4))


def composed(seen: Float[Tensor, "3 h w"], alpha: Float[Tensor, "1 h w"], background: Background) -> Float[Tensor, "c h w"]:
    """Composite premultiplied colours over a background; over a transparent one, divide them by their opacity and add it as a
    fourth channel.
    """
    if background == "transparent":
        return torch.cat([(seen / alpha.clamp_min(1e-6)).clamp(0, 1), alpha])
    return seen + (1 - alpha) * backdrop(background, seen.shape[1]).to(seen)


def shading(normal: Float[Tensor, "3 h w"], cameras: Cameras, light: Light) -> Float[Tensor, "1 h w"]:
    """Return Lambert's shading of world normals under a light, in [AMBIENT, 1]: ambient + (1 - ambient) max(0, n . l)."""
    towards = -cameras.world_to_camera[0, 2, :3] if light == "headlight" else torch.tensor(DIRECTIONS[light])
    n = torch.nn.functional.normalize(normal, dim=0)
    lit = (n * torch.nn.functional.normalize(towards.to(n), dim=0)[:, None, None]).sum(0, keepdim=True)
    return AMBIENT + (1 - AMBIENT) * lit.clamp_min(0)
