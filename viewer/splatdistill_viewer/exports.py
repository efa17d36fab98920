"""Files that a page gives away: what is written, by format, from a copy of the splats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import orbit
from splatdistill.export import meshes
from splatdistill.export.write import Asked, export
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import centred, fitting
from splatdistill.io.images import write_png
from splatdistill.io.video import write_mp4
from splatdistill.render import Rasterizer
from splatdistill_viewer.cameras import Pose
from splatdistill_viewer.pictures import Style, image
from splatdistill_viewer.snapshot import adjusted

Format = Literal["ply", "spz", "sog", "html", "glb", "png", "mp4"]
FORMATS: dict[Format, str] = {
    "ply": "ply: splats, full precision", "spz": "spz: splats, packed", "sog": "sog: splats, packed as pictures",
    "html": "html: a page that opens anywhere", "glb": "glb: a textured mesh", "png": "png: this view", "mp4": "mp4: once around",
}  # fmt: skip
assert tuple(FORMATS) == get_args(Format)
SIZES = ("256", "512", "1024", "2048")
FRAMES, FPS = 96, 24  # of a film
FOV, ELEVATION = 42.0, 15.0  # degrees, of its camera


@dataclass(frozen=True)
class ExportRequest:
    """Request for a file of these splats, at this size, as a page shows them."""

    kind: Format
    splats: Gaussians  # of its own: the run's go on changing
    style: Style
    pose: Pose | None  # where the page looks from; None sees the front
    size: int = 512  # pixels: of a picture's height, of a film's side
    scale: float = 1.0  # of the splats, in pictures
    cutoff: float = 0.0  # splats less opaque are not in pictures


def write(order: ExportRequest, path: Path, rasterizer: Rasterizer, comments: Sequence[str], tell: Callable[[str], None] = lambda words: None) -> Path:
    """Write the requested file and return its path. tell: takes the progress. UserError for what cannot be written, such as a
    mesh whose libraries are missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    match order.kind:
        case "png":
            cameras = order.pose.cameras(order.size) if order.pose else orbit([0.0], ELEVATION, 2.8, FOV, order.size)
            seen = adjusted(order.splats, order.scale, order.cutoff)
            write_png(path, image(seen, cameras, rasterizer, order.style).cpu())
        case "mp4":
            write_mp4(path, around(order, rasterizer, tell), FPS, "; ".join(comments))
        case "glb":
            mesh = meshes.meshed(order.splats, rasterizer, step=lambda k: tell(f"{k / meshes.STEPS:.0%}"))
            meshes.write(path, "glb", mesh, comments)
        case "ply" | "spz" | "sog" | "html":
            export(path, order.kind, order.splats, Asked(comments=tuple(comments)))
    return path


def around(order: ExportRequest, rasterizer: Rasterizer, tell: Callable[[str], None]) -> Iterator[Float[Tensor, "3 h w"]]:
    """Yield the frames of a turntable in the style of the page, the object fitted to the picture."""
    seen, radius = centred(adjusted(order.splats, order.scale, order.cutoff))
    for k in range(FRAMES):
        tell(f"{k / FRAMES:.0%}")
        cameras = orbit(torch.tensor([360.0 * k / FRAMES]), ELEVATION, fitting(radius, FOV), FOV, order.size)
        yield image(seen, cameras, rasterizer, order.style)[:3].cpu()
