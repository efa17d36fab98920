"""Splats as another program wants them: where the origin is, how large, which way round, how many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames
from splatdistill.io.extent import FAR, box, bulk, importance, strays
from splatdistill.io.frames import Up

Pivot = Literal["keep", "centre", "ground"]
For = Literal["web", "supersplat", "blender", "unity", "unreal"]


@dataclass(frozen=True)
class Target:
    """Program that reads a file: its axes, units and origin."""

    up: Up  # its world, for formats that prescribe none
    pivot: Pivot
    unit: float  # of its units in one of ours, likewise
    length: str  # what its unit is called


TARGETS: dict[For, Target] = {
    "web": Target("viewer", "keep", 1.0, "units"),
    "supersplat": Target("viewer", "keep", 1.0, "units"),
    "blender": Target("blender", "ground", 1.0, "m"),
    "unity": Target("unity", "ground", 1.0, "m"),
    "unreal": Target("unreal", "ground", 100.0, "cm"),
}

WORLDS: dict[Up, str] = {
    "viewer": "y down in the file, as splat viewers expect, which turn it upright",
    "raw": "z up, the front to +x",
    "blender": "z up, the front to -y",
    "unity": "y up, the front to +z, left-handed",
    "unreal": "z up, the front to +x, left-handed",
    "gltf": "y up, the front to +z",
}
ORIGINS: dict[Pivot, str] = {
    "keep": "the origin as it was",
    "centre": "the origin in its middle",
    "ground": "standing on the origin",
}


@dataclass(frozen=True)
class Preparation:
    """Changes to splats before they are written; the defaults do nothing."""

    pivot: Pivot = "keep"
    """Place of the new origin: keep leaves it where it is, centre is the middle of the object, ground is the middle of
    where it stands, so that it rests on the floor."""
    height: float | None = None
    """Scale the object to this height, world units."""
    scale: float = 1.0
    """Then scale by this."""
    facing: float = 0.0
    """Side that becomes the front: the azimuth, degrees, from which it is seen now."""
    degree: int | None = None
    """Highest degree of spherical harmonics that is kept, 0 to 3: 0 is one colour from everywhere; by default all."""
    min_opacity: float = 0.0
    """Splats less opaque than this are left out; below 1/255 nothing draws them."""
    strays: bool = True
    """Keep splats that lie far from all others or are far larger than the object (`extent.strays`)."""

    def check(self) -> None:
        """Raise a UserError for numbers that make no sense."""
        if self.height is not None and not 0 < self.height < math.inf:
            raise UserError(f"--height is a length above 0; got {self.height}")
        if not 0 < self.scale < math.inf:
            raise UserError(f"--scale is a factor above 0; got {self.scale}")
        if not math.isfinite(self.facing):
            raise UserError(f"--facing is an angle in degrees; got {self.facing}")
        if self.degree is not None and not 0 <= self.degree <= 3:
            raise UserError(f"--degree is 0, 1, 2 or 3; got {self.degree}")
        if not 0 <= self.min_opacity < 1:
            raise UserError(f"--min-opacity is at least 0 and below 1; got {self.min_opacity}")

    def of(self, g: Gaussians) -> Gaussians:
        """Return the prepared splats, still in our world; UserError if none are left. Positions stay double where they are:
        far from the origin only what is moved there can be single.
        """
        seen = self.kept(g)
        origin, factor = self.place(seen)
        seen = replace(seen, means=factor * (seen.means - origin) if self.pivot != "keep" else factor * seen.means, scales=factor * seen.scales)
        return frames.placed(seen, frames.into("raw", self.facing)) if self.facing else seen

    def kept(self, g: Gaussians) -> Gaussians:
        """Return the splats that are kept, and of their colours what is, where they are; UserError if none are left."""
        self.check()
        seen = g[g.opacities >= self.min_opacity]
        if not len(seen):
            raise UserError(
                f"--min-opacity {self.min_opacity} leaves none of {len(g)} splats; "
                f"the most opaque has {g.opacities.max().item() if len(g) else 0:.3f}"
            )
        if not self.strays:
            away, large = strays(seen)
            seen = seen[~(away | large)]
        if self.degree is not None and self.degree < seen.degree:
            seen = seen.with_degree(self.degree)
        return seen

    def place(self, seen: Gaussians) -> tuple[Float[Tensor, "3"], float]:
        """Return the new origin of splats, and the factor on their size."""
        low, high = box(seen)
        origin = 0.5 * (low + high)
        if self.pivot == "ground":
            origin[2] = low[2]
        tall = (high - low)[2].item()
        return origin, self.scale * (1.0 if self.height is None else self.height / max(tall, 1e-12))

    def points(self, points: Float[Tensor, "n 3"], seen: Gaussians) -> Float[Tensor, "n 3"]:
        """Return points that lie among splats where they lie once those are prepared."""
        origin, factor = self.place(seen)
        moved = factor * (points - (origin if self.pivot != "keep" else 0.0))
        return moved @ frames.into("raw", self.facing).T.to(moved) if self.facing else moved


def sides(g: Gaussians) -> list[float]:
    """Return the splats' size along x, y and z."""
    low, high = box(g)
    return (high - low).tolist()


def description(sides: Sequence[float], up: Up, length: str, pivot: Pivot) -> str:
    """Describe the size (sides along x, y, z of our world) and axes of an object in a file for such a program, for whoever imports it."""
    deep, wide, tall = sides
    size = f"{wide:.3g} wide, {deep:.3g} deep, {tall:.3g} tall"
    return f"{size} ({length}); {WORLDS[up]}; {ORIGINS[pivot]}"


def thinned(g: Gaussians, budget: int) -> Gaussians:
    """Return the most important splats, at most so many, in their order; UserError if that is none."""
    if budget < 1:
        raise UserError(f"--budget is a number of splats, at least 1; got {budget}")
    if len(g) <= budget:
        return g
    return g[importance(g).topk(budget).indices.sort().values]


def recentred(g: Gaussians) -> tuple[Gaussians, str]:
    """Move an object that lies far from the origin there, before its positions become single; return it in single
    precision with a note of what was done, which is empty where nothing was.
    """
    most = bulk(g)
    distance = most.middle.norm().item()
    if distance <= FAR * most.radius or distance <= FAR:
        return g.to(dtype=torch.float32), ""
    low, high = box(g)
    moved = replace(g, means=g.means - 0.5 * (low + high)).to(dtype=torch.float32)
    return moved, f"it lies {distance:.3g} from the origin and is shown with its middle there"
