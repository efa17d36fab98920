"""From where finished runs are looked at, and by which networks. All of it stands beside every number."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError, WeightsError
from splatdistill.estimators import TINY_CLIP, ClipScorer, load_judge
from splatdistill.estimators.test_time_augmentation import AugmentedClip
from splatdistill.estimators.weights import find
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer, RenderOutput
from splatdistill.weight_files import SharedWeights

VIT_B32 = "openai/clip-vit-base-patch32"
GET_CLIP = f'hf download {VIT_B32} --include "*.json" "*.txt" "*.safetensors", or --clip DIR'
GROUNDS = {"white": 1.0, "gray": 0.5, "black": 0.0}


@dataclass(frozen=True)
class Protocol:
    """The views that are measured. SDI's tables have 50 views of each object (arXiv:2405.15891); which CLIP, elevation,
    size and background they were made with is not certain, so all of that is a choice here.
    """

    views: int = 50
    """How many, evenly spaced around."""
    elevation: float = 15.0
    """Degrees above the horizon (uncertain in the papers)."""
    distance: float = 2.8
    """World units from the origin."""
    fov: float = 42.0
    """Vertical field of view, degrees."""
    resolution: int = 256
    """Pixels per side (SDI trains at 512; uncertain what it measures at)."""
    background: Literal["white", "gray", "black"] = "white"
    """Behind the object (uncertain in the papers; threestudio tests on black for splats)."""
    view_words: bool = False
    """Compare each view with "PROMPT, front view" and so on in the place of the prompt (uncertain in the papers)."""

    def __post_init__(self) -> None:
        """UserError for numbers that make no sense."""
        if self.views < 4 or self.resolution < 16:
            raise UserError(
                f"--views must be at least 4 and --resolution at least 16, got {self.views} and {self.resolution}"
            )

    @property
    def cameras(self) -> Cameras:
        """All views, from the front on."""
        around = torch.arange(self.views) * (360.0 / self.views)
        return orbit(around, self.elevation, self.distance, self.fov, self.resolution)

    @torch.no_grad()
    def look(self, gaussians: Gaussians, rasterizer: Rasterizer, batch: int = 10) -> RenderOutput:
        """What is seen, clamped to [0, 1]."""
        device, parts = gaussians.means.device, []
        for some in torch.arange(self.views).split(batch):
            ground = torch.full((len(some), 3), GROUNDS[self.background], device=device)
            parts.append(rasterizer(gaussians, self.cameras[some].to(device), ground))
        rgb, alpha, depth = (torch.cat([getattr(p, n) for p in parts]).cpu() for n in ("rgb", "alpha", "depth"))
        return replace(parts[0], rgb=rgb.clamp(0, 1), alpha=alpha, depth=depth, normal=None, cameras=self.cameras)


@dataclass(frozen=True)
class Ruler:
    """A CLIP that measures."""

    scorer: ClipScorer
    source: str  # how it was asked for
    revision: str

    @property
    def name(self) -> str:
        """What stands beside its numbers."""
        return f"{self.source if not self.tiny else self.scorer.name} ({self.revision})"

    @property
    def tiny(self) -> bool:
        """Whether it knows nothing but the toybox's words."""
        return isinstance(self.scorer, AugmentedClip)


def ruler(source: str, device: torch.device | str = "cpu") -> Ruler:
    """The CLIP of a source: tiny-clip, a folder, or a hub id in the local cache. WeightsError where there is none."""
    folder = find(source)
    return Ruler(load_judge(folder, device), source, revision(folder))


def best_ruler(source: str, device: torch.device | str = "cpu", tiny: bool = True) -> tuple[Ruler | None, str]:
    """The CLIP that is asked for, or with `auto` ViT-B/32 where its weights are, else (if `tiny`) tiny-clip, which is named
    as itself; or None. With it, how to get a better one, where there is one.
    """
    if source != "auto":
        return ruler(source, device), ""
    try:
        return ruler(VIT_B32, device), ""
    except WeightsError:
        how = f"{VIT_B32} is not here: {GET_CLIP}"
    try:
        return (ruler(TINY_CLIP, device) if tiny else None), how
    except WeightsError:
        return None, how


def revision(folder: Path) -> str:
    """Which version of its weights a folder holds: the hub's commit, or the beginning of the weights' SHA-256."""
    folder = Path(folder)
    if folder.parent.name == "snapshots":
        return f"revision {folder.name[:12]}"
    bundled = SharedWeights.of(folder)
    file = folder / "model.safetensors"
    file = bundled.file if bundled is not None and not file.is_file() else file
    if not file.is_file():
        return "revision unknown"
    digest = sha256()
    with open(file, "rb") as weights:
        while block := weights.read(1 << 20):
            digest.update(block)
    return f"sha256 {digest.hexdigest()[:12]}"
