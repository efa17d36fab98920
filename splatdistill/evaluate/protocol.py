"""Views from which finished runs are measured; they stand beside every number."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from splatdistill.errors import UserError

if TYPE_CHECKING:  # so that the options of `evaluate` are known without torch
    from splatdistill.cameras import Cameras
    from splatdistill.gaussians import Gaussians
    from splatdistill.render import Rasterizer, RenderOutput

GROUNDS = {"white": 1.0, "gray": 0.5, "black": 0.0}


@dataclass(frozen=True)
class Protocol:
    """Views that are measured. SDI's tables have 50 views of each object (arXiv:2405.15891); which CLIP, elevation,
    size and background they were made with is not certain, so all of that is a choice here.
    """

    views: int = 50
    """Number of views, evenly spaced around."""
    elevation: float = 15.0
    """Elevation, degrees above the horizon (uncertain in the papers)."""
    distance: float | None = None
    """Distance from the origin, world units; by default the middle of those that the run was trained from."""
    fov: float | None = None
    """Vertical field of view, degrees; by default the middle of those that the run was trained with."""
    resolution: int = 256
    """Pixels per side (SDI trains at 512; uncertain what it measures at)."""
    background: Literal["white", "gray", "black"] = "white"
    """Background behind the object (uncertain in the papers; threestudio tests on black for splats)."""
    view_words: bool = False
    """Compare each view with "PROMPT, front view" and so on in the place of the prompt (uncertain in the papers)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        if self.views < 4 or self.resolution < 16:
            raise UserError(
                f"--views must be at least 4 and --resolution at least 16, got {self.views} and {self.resolution}"
            )

    def of(self, distance: float, fov: float) -> "Protocol":
        """Return the protocol for a run that was trained from this distance with this field of view: what is given stays."""
        return replace(self, distance=distance if self.distance is None else self.distance, fov=fov if self.fov is None else self.fov)

    @property
    def cameras(self) -> "Cameras":
        """Return all views, from the front on."""
        import torch

        from splatdistill.cameras import Orbit, orbit

        around = torch.arange(self.views) * (360.0 / self.views)
        distance, fov = Orbit().middle
        if self.distance is not None:
            distance = self.distance
        if self.fov is not None:
            fov = self.fov
        return orbit(around, self.elevation, distance, fov, self.resolution)

    def look(self, gaussians: "Gaussians", rasterizer: "Rasterizer", batch: int = 10) -> "RenderOutput":
        """Render all views, clamped to [0, 1], `batch` at a time."""
        import torch

        device, parts = gaussians.means.device, []
        with torch.no_grad():
            for some in torch.arange(self.views).split(batch):
                ground = torch.full((len(some), 3), GROUNDS[self.background], device=device)
                parts.append(rasterizer(gaussians, self.cameras[some].to(device), ground))
        rgb, alpha, depth = (torch.cat([getattr(p, n) for p in parts]).cpu() for n in ("rgb", "alpha", "depth"))
        return replace(parts[0], rgb=rgb.clamp(0, 1), alpha=alpha, depth=depth, normal=None, cameras=self.cameras)
