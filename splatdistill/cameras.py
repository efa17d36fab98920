"""Pinhole cameras, orbits around the origin, and the words that describe a view.

World: right-handed, z up; the front of an object looks along +x, so azimuth 0 sees the front and
azimuth 90 stands on +y. Camera: OpenCV axes (x right, y down, z forward). Angles are in degrees,
lengths in world units, intrinsics in pixels with pixel centres at +0.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import checks

ViewWord = Literal["front", "side", "back", "overhead"]
VIEW_WORDS: tuple[ViewWord, ...] = ("front", "side", "back", "overhead")
DIRECTIONS = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")
"""Words for the views from azimuth 0, 45, ... 315."""


@dataclass(frozen=True)
class Cameras:
    """Batch of cameras that share one image size.

    world_to_camera: (b,4,4) rigid, maps world points to camera axes.
    intrinsics: (b,3,3) focal lengths and principal point in pixels.
    """

    world_to_camera: Float[Tensor, "b 4 4"]
    intrinsics: Float[Tensor, "b 3 3"]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.world_to_camera)

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "Cameras":
        """Return some of the cameras, as a batch again."""
        return replace(self, world_to_camera=self.world_to_camera[index], intrinsics=self.intrinsics[index])

    @property
    def position(self) -> Float[Tensor, "b 3"]:
        """Return the positions of the cameras in the world: -R^T t."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[..., None])[..., 0]

    @property
    def camera_to_world(self) -> Float[Tensor, "b 4 4"]:
        """Return the inverse of world_to_camera, which maps points in camera axes to the world."""
        inverse = torch.zeros_like(self.world_to_camera)
        inverse[:, :3, :3] = self.world_to_camera[:, :3, :3].transpose(1, 2)
        inverse[:, :3, 3], inverse[:, 3, 3] = self.position, 1
        return inverse

    @property
    def azimuth(self) -> Float[Tensor, " b"]:
        """Return the azimuths in degrees, in (-180, 180]; 0 sees the front, 90 stands on +y."""
        p = self.position
        return torch.rad2deg(torch.atan2(p[:, 1], p[:, 0]))

    @property
    def elevation(self) -> Float[Tensor, " b"]:
        """Return the elevations in degrees above the horizon, in [-90, 90]."""
        p = self.position
        return torch.rad2deg(torch.atan2(p[:, 2], p[:, :2].norm(dim=1)))

    @property
    def distance(self) -> Float[Tensor, " b"]:
        """Return the distances to the origin, in world units."""
        return self.position.norm(dim=1)

    @property
    def vertical_fov(self) -> Float[Tensor, " b"]:
        """Return the vertical fields of view in degrees."""
        return torch.rad2deg(2 * torch.atan(0.5 * self.height / self.intrinsics[:, 1, 1]))

    def resized(self, width: int, height: int) -> "Cameras":
        """Return the same views on another pixel grid."""
        scale = torch.tensor([width / self.width, height / self.height, 1.0]).to(self.intrinsics)
        return replace(self, intrinsics=scale[:, None] * self.intrinsics, width=width, height=height)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Cameras":
        """Return the same cameras on another device or in another precision. A card is not waited for."""
        ahead = device is not None and torch.device(device).type != "cpu"
        return replace(
            self,
            world_to_camera=self.world_to_camera.to(device=device, dtype=dtype, non_blocking=ahead),
            intrinsics=self.intrinsics.to(device=device, dtype=dtype, non_blocking=ahead),
        )

    @staticmethod
    def cat(batches: Sequence["Cameras"]) -> "Cameras":
        """Return several batches of one image size as one."""
        return replace(
            batches[0],
            world_to_camera=torch.cat([c.world_to_camera for c in batches]),
            intrinsics=torch.cat([c.intrinsics for c in batches]),
        )


def orbit(
    azimuth: Float[Tensor, " b"] | Sequence[float],
    elevation: Float[Tensor, " b"] | Sequence[float] | float = 15.0,
    distance: Float[Tensor, " b"] | Sequence[float] | float = 3.0,
    vertical_fov: Float[Tensor, " b"] | Sequence[float] | float = 43.0,
    width: int = 64,
    height: int | None = None,
) -> Cameras:
    """Return cameras on a sphere around the origin that look at it, z up in the image.

    All angles in degrees. At an elevation of exactly +-90 "up" is the limit of the azimuth's meridian.
    """
    height = width if height is None else height
    az = torch.deg2rad(torch.as_tensor(azimuth, dtype=torch.float32))
    el = torch.deg2rad(torch.as_tensor(elevation, dtype=torch.float32)).expand_as(az)
    dist = torch.as_tensor(distance, dtype=torch.float32).expand_as(az)
    fov = torch.deg2rad(torch.as_tensor(vertical_fov, dtype=torch.float32)).expand_as(az)
    ca, sa, ce, se, zero = az.cos(), az.sin(), el.cos(), el.sin(), torch.zeros_like(az)
    right = torch.stack([-sa, ca, zero], -1)
    down = torch.stack([ca * se, sa * se, -ce], -1)
    forward = torch.stack([-ca * ce, -sa * ce, -se], -1)
    world_to_camera = torch.eye(4).repeat(len(az), 1, 1)
    world_to_camera[:, :3, :3] = torch.stack([right, down, forward], 1)
    world_to_camera[:, 2, 3] = dist  # the origin lies straight ahead
    focal = 0.5 * height / torch.tan(0.5 * fov)
    intrinsics = torch.zeros(len(az), 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = width / 2, height / 2, 1
    return Cameras(world_to_camera, intrinsics, width, height)


@dataclass(frozen=True)
class Orbit:
    """Random views on a part of a sphere around the object, from which training looks."""

    elevation: tuple[float, float] = (-10.0, 70.0)
    """Lowest and highest camera, degrees above the horizon."""
    distance: tuple[float, float] = (2.8, 3.2)
    """Nearest and farthest camera, world units from the origin."""
    fov: tuple[float, float] = (40.0, 46.0)
    """Narrowest and widest vertical field of view, degrees."""
    distance_end: tuple[float, float] | None = None
    """Nearest and farthest camera in the end; the same as at the start if not given."""
    fov_end: tuple[float, float] | None = None
    """Narrowest and widest field of view in the end; the same as at the start if not given."""
    until: float = 1.0
    """Progress at which cameras have come to their ends, linearly (LucidDreamer's come nearer)."""
    uniform: Literal["sphere", "degrees"] = "sphere"
    """Elevations spread evenly over the sphere's area within the range, or evenly in degrees."""

    def __post_init__(self) -> None:
        """Raise UserError for ranges that fall, or that no camera can be in."""
        checks.types(self)
        checks.rising(self, "elevation", "distance", "distance_end", "fov", "fov_end")
        checks.within(self, -90, 90, "elevation")
        checks.positive(self, "distance", "distance_end", "until")
        checks.between(self, 0, 180, "fov", "fov_end")
        checks.within(self, 0, 1, "until")

    def at(self, progress: float) -> "Orbit":
        """Return the views of this progress in [0, 1], of a run whose cameras move."""
        if self.distance_end is None and self.fov_end is None:
            return self
        p = min(progress / self.until, 1.0)
        near = self.distance if self.distance_end is None else between(self.distance, self.distance_end, p)
        wide = self.fov if self.fov_end is None else between(self.fov, self.fov_end, p)
        return replace(self, distance=near, fov=wide, distance_end=None, fov_end=None)

    @property
    def middle(self) -> tuple[float, float]:
        """Return the middle distance (world units) and vertical field of view (degrees): where results are measured from."""
        return sum(self.distance) / 2, sum(self.fov) / 2

    def sample(self, batch: int, width: int, height: int, rng: torch.Generator, views: int = 1) -> Cameras:
        """Return `batch` random cameras, or sets of `views` cameras, each set evenly around at one height and distance. One random
        turn, then azimuths 360/batch apart (jittered within their sector), so that a batch always sees all around; each draws
        its own elevation.

        Uniform on the sphere within [lo, hi] means sin(elevation) ~ U[sin lo, sin hi]; drawing on the whole
        sphere and rescaling (as several codebases do) leaves the range.
        """
        u = torch.rand(5, batch, generator=rng)
        start = torch.rand((), generator=rng)
        azimuth = 360 * ((torch.arange(batch) + u[0]) / (batch * views) + start)
        lo, hi = self.elevation
        if self.uniform == "sphere":
            s = math.sin(math.radians(lo)), math.sin(math.radians(hi))
            elevation = torch.rad2deg(torch.asin((s[0] + (s[1] - s[0]) * u[1]).clamp(-1, 1)))
        else:
            elevation = lo + (hi - lo) * u[1]
        distance = self.distance[0] + (self.distance[1] - self.distance[0]) * u[2]
        fov = self.fov[0] + (self.fov[1] - self.fov[0]) * u[3]
        if views > 1:  # consecutive cameras are a set
            azimuth = (azimuth[:, None] + 360 * torch.arange(views) / views).flatten()
            elevation, distance, fov = (v.repeat_interleave(views) for v in (elevation, distance, fov))
        return orbit(azimuth, elevation, distance, fov, width, height)

    def around(self, azimuth: Sequence[float], elevation: float, size: int) -> Cameras:
        """Return cameras from which training might look, in the middle of its distances and fields of view; degrees, pixels."""
        return orbit(azimuth, elevation, sum(self.distance) / 2, sum(self.fov) / 2, size)


def between(first: tuple[float, float], last: tuple[float, float], share: float) -> tuple[float, float]:
    """Return a range on the way from one to another."""
    return first[0] + (last[0] - first[0]) * share, first[1] + (last[1] - first[1]) * share


@dataclass(frozen=True)
class ViewWords:
    """Words that describe a view ("a mug, side view"), as threestudio's view-dependent prompting.

    With azimuth a in [-180, 180): front if |a| < front_angle, back if |a| > 180 - back_angle, else side; elevations
    above overhead_angle win over all. All inequalities are strict.
    """

    front_angle: float = 45.0
    """Half-width of the front sector, degrees."""
    back_angle: float = 45.0
    """Half-width of the back sector, degrees."""
    overhead_angle: float = 60.0
    """Elevation above which a view is overhead, degrees."""
    left_right: bool = False
    """Say left and right too, in eighths of a turn ("a mug, front left view", "a mug, overhead back view"), for a prior
    that was taught these words, as the embedded one was; front_angle and back_angle then have no say. Without, "side view" is said
    of either side, and nothing tells the two apart.
    """
    blend: bool = False
    """Blend the embeddings of front, side and back as the camera turns, in place of one word up to an angle (LucidDreamer's; with
    Perp-Neg it is always so).
    """

    def __post_init__(self) -> None:
        """Raise UserError for angles that a sphere does not have."""
        checks.types(self)
        checks.within(self, 0, 180, "front_angle", "back_angle")
        checks.within(self, -90, 90, "overhead_angle")

    def word(self, azimuth: float, elevation: float) -> ViewWord:
        """Return the word for one view, angles in degrees."""
        a = abs((azimuth + 180) % 360 - 180)
        if elevation > self.overhead_angle:
            return "overhead"
        return "front" if a < self.front_angle else "back" if a > 180 - self.back_angle else "side"

    def words(self, cameras: Cameras) -> list[ViewWord]:
        """Return the word for each camera of a batch."""
        return [self.word(a, e) for a, e in zip(cameras.azimuth.tolist(), cameras.elevation.tolist())]

    def phrase(self, azimuth: float, elevation: float) -> str:
        """Return what a prompt says of one view: the word, or with left_right the nearest eighth of a turn. Left is the
        object's own, where the camera's azimuth is 90.
        """
        if not self.left_right:
            return self.word(azimuth, elevation)
        direction = DIRECTIONS[round(azimuth / 45) % 8]
        return f"overhead {direction}" if elevation > self.overhead_angle else direction

    def phrases(self, cameras: Cameras) -> list[str]:
        """Return what a prompt says of each camera of a batch."""
        return [self.phrase(a, e) for a, e in zip(cameras.azimuth.tolist(), cameras.elevation.tolist())]


def with_view(prompt: str, word: str | None) -> str:
    """Return the prompt with its view word: "a mug" and "side" give "a mug, side view"; None leaves the prompt as it is."""
    return f"{prompt}, {word} view" if word else prompt
