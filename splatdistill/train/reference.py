"""A picture as the prompt: how it is read, what the prior is shown of it, and how far the splats may look otherwise from there."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill import checks
from splatdistill.cameras import Cameras, Orbit, orbit
from splatdistill.errors import WeightsError
from splatdistill.estimators import load_geometry
from splatdistill.estimators.embedded_geometry import EmbeddedGeometry
from splatdistill.estimators.geometry import correlation
from splatdistill.estimators.weights import geometry_for
from splatdistill.gaussians import Gaussians
from splatdistill.io.cutout import cut_out, framed
from splatdistill.io.photo import read_photo
from splatdistill.render import Rasterizer

SIZE = 512  # pixels a side of a picture that was read
NEAR = 0.05  # least depth, world units, that counts


@dataclass(frozen=True)
class Reference:
    """Picture of the object: it prompts a prior that takes pictures, and the splats are to look like it from its camera."""

    path: Path | None = None
    """Picture of one object, PNG, JPEG or WebP, with opacity or on a plain background (`--from-image FILE` sets it, and a recipe)."""
    azimuth: float = 0.0
    """Degrees around the object from which the picture was taken: 0 sees its front, 90 its left side."""
    elevation: float = 15.0
    """Degrees above the horizon from which it was taken."""
    fill: float = 0.8
    """Share of the picture that the object's longer side takes after it was centred; 0 leaves the picture as it is."""
    shown: bool = True
    """Show the picture to the prior, if it takes one, beside the prompt."""
    kept: bool = False
    """Show it in the negative branch of classifier-free guidance too, which then amplifies the words alone."""
    rgb: float = 0.0
    """Weight of the mean squared error of the colours seen from the picture's camera, over the same background."""
    rgb_end: float | None = None
    """Weight in the end; the same as at the start if not given."""
    mask: float = 0.0
    """Weight of the mean squared error of the opacity seen from there."""
    mask_end: float | None = None
    """Weight in the end; the same as at the start if not given."""
    depth: float = 0.0
    """Weight of 1 minus the correlation of inverse depth seen from there with what an estimator makes of the picture."""
    geometry: str = "auto"
    """That estimator: tiny-geometry or world-geometry (embedded), a folder or a hub id. auto: the embedded one with an embedded prior,
    Intel/dpt-hybrid-midas with others."""
    since: float = 0.0
    """Progress up to which the weights are those of the start."""
    until: float = 1.0
    """Progress from which they are those of the end; linear between."""

    def __post_init__(self) -> None:
        """Raise UserError for angles, shares and weights that make no sense."""
        checks.types(self)
        checks.within(self, -360, 360, "azimuth")
        checks.within(self, -90, 90, "elevation")
        checks.within(self, 0, 1, "fill", "since", "until")
        checks.at_least(self, 0, "rgb", "rgb_end", "mask", "mask_end", "depth")
        checks.need(self, "until", self.since <= self.until, "must not come before since")

    def read(self) -> Float[Tensor, "4 size size"] | None:
        """Return the object cut out, centred and scaled, premultiplied; None without a picture. UserError for one that cannot be used."""
        return None if self.path is None else framed(cut_out(read_photo(self.path), str(self.path)), self.fill, SIZE)

    @torch.no_grad()
    def with_depth(self, picture: Float[Tensor, "4 h w"], prior: str) -> Float[Tensor, "c h w"]:
        """Return the picture, with its inverse depth as a fifth channel where that has a weight. prior: its name. WeightsError without the
        estimator, or for one of something else.
        """
        if not self.depth:
            return picture
        source = geometry_for(prior) if self.geometry == "auto" else self.geometry
        estimator = load_geometry(source)
        if "depth" not in estimator.tells:
            raise WeightsError(f"--image.geometry {source} tells no depth; expected tiny-geometry or world-geometry (embedded), or a network such as Intel/dpt-hybrid-midas")
        white = (picture[:3] + 1 - picture[3:])[None]
        side = estimator.size if isinstance(estimator, EmbeddedGeometry) else SIZE
        depth = estimator(F.interpolate(white, size=(side, side), mode="bilinear", antialias=True, align_corners=False)).inverse_depth
        assert depth is not None
        return torch.cat([picture, F.interpolate(depth.float().cpu(), size=picture.shape[1:], mode="bilinear", align_corners=False)[0]])

    def camera(self, cameras: Orbit, size: int) -> Cameras:
        """Return the picture's camera, in the middle of the distances and fields of view of training."""
        distance, fov = cameras.middle
        return orbit([self.azimuth], self.elevation, distance, fov, size)

    def weights(self, progress: float) -> tuple[float, float]:
        """Return the weights of colours and of opacity at this progress."""
        span = self.until - self.since
        share = min(max((progress - self.since) / span, 0.0), 1.0) if span else float(progress >= self.until)
        ends = ((self.rgb, self.rgb_end), (self.mask, self.mask_end))
        rgb, mask = (first if last is None else math.fsum(((1 - share) * first, share * last)) for first, last in ends)
        return rgb, mask

    def loss(
        self,
        picture: Float[Tensor, "c h w"],
        g: Gaussians,
        rasterizer: Rasterizer,
        cameras: Orbit,
        behind: Float[Tensor, "1 3"],
        size: int,
        progress: float,
    ) -> Float[Tensor, ""]:
        """Return rgb ||C - C*||^2 + mask ||A - A*||^2 + depth (1 - corr(1/D, 1/D*)), means over pixels and channels, C and C* over the same
        background, the correlation where both are opaque; as the reference view's losses of threestudio's Zero-1-to-3 (its colours count within
        the mask; over a shared background they do by themselves). picture: as `with_depth` gives it.
        """
        rgb, mask = self.weights(progress)
        if not (rgb or mask or self.depth):
            return g.means.new_zeros(())
        out = rasterizer(g, self.camera(cameras, size).to(g.means.device), behind)
        seen = F.interpolate(picture[None].to(out.rgb), size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]
        wanted = seen[:3] + (1 - seen[3:4]) * behind.to(out.rgb).view(3, 1, 1)
        total = rgb * F.mse_loss(out.rgb[0], wanted) + mask * F.mse_loss(out.alpha[0], seen[3:4])
        if self.depth:
            both = (out.alpha.detach() * seen[3:4])[None, 0] * (out.depth > NEAR)
            total = total + self.depth * (1 - correlation(1 / out.depth.clamp(min=NEAR), seen[None, 4:5], both).mean())
        return total
