"""Pictures of splats: colour, depth, normals or opacity, on a colour or on nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.export.paths import Place, cameras
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer, RenderOutput

Kind = Literal["rgb", "depth", "normal", "alpha"]
AT_ONCE = 1 << 21  # pixels rendered in one call


@dataclass(frozen=True)
class Look:
    """Look of pictures: their content and background."""

    kind: Kind = "rgb"
    background: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """A colour in [0, 1]; None is transparent, which adds a fourth channel."""
    near: float = 0.0
    """Depth that is white."""
    far: float = 1.0
    """Depth that is black."""


@torch.no_grad()
def shots(
    g: Gaussians, places: Sequence[Place], width: int, height: int, looks: Sequence[Look], render: Rasterizer
) -> Iterator[list[Float[Tensor, "c height width"]]]:
    """Render one picture for each look from every place in turn, on the CPU: 3 channels, or 4 where the background is None,
    with colours that are not multiplied by opacity.
    """
    step = max(1, AT_ONCE // (width * height))
    for first in range(0, len(places), step):
        views = cameras(places[first : first + step], width, height).to(g.means.device)
        seen = render(g, views, normals=any(look.kind == "normal" for look in looks))
        drawn = [picture(seen, look).cpu() for look in looks]
        yield from (list(images) for images in zip(*drawn))


def picture(seen: RenderOutput, look: Look) -> Float[Tensor, "b c h w"]:
    """Convert a render on black into the picture of a look."""
    alpha = seen.alpha.clamp(0, 1)
    if look.kind == "rgb":
        weighted = seen.rgb.clamp(0, 1)
    elif look.kind == "alpha":
        weighted = alpha.expand(-1, 3, -1, -1)
        return weighted if look.background is not None else torch.cat([torch.ones_like(weighted), alpha], 1)
    elif look.kind == "depth":
        weighted = alpha * ((look.far - seen.depth) / max(look.far - look.near, 1e-12)).clamp(0, 1).expand(
            -1, 3, -1, -1
        )
    else:
        assert seen.normal is not None
        weighted = alpha * (0.5 + 0.5 * facing(seen.normal, seen.cameras))
    if look.background is None:
        return torch.cat([(weighted / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], 1)
    colour = torch.tensor(look.background).to(weighted)[None, :, None, None]
    return weighted + (1 - alpha) * colour


def facing(normal: Float[Tensor, "b 3 h w"], cameras: Cameras) -> Float[Tensor, "b 3 h w"]:
    """Return world normals as those who estimate them from pictures have them: unit, x right, y up, z towards the camera."""
    turned = torch.einsum("bij,bjhw->bihw", cameras.world_to_camera[:, :3, :3].to(normal), normal)
    flipped = turned * torch.tensor([1.0, -1.0, -1.0]).to(turned)[None, :, None, None]
    return torch.nn.functional.normalize(flipped, dim=1)
