"""Initial scenes: Gaussians drawn in a ball or a blob, or read from a file."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from splatdistill import checks
from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io import frames, is_splats, load_splats
from splatdistill.io.extent import FAR
from splatdistill.io.points import Points, read_points
from splatdistill.io.surface_points import is_mesh, read_surface

SMALLEST = 1e-4  # world units: coincident points still get a size
ON_MESH, MESH_RADIUS = 4096, 0.7
MOST = 10_000_000  # Gaussians: with gradients and Adam's moments about 10 GB


class Initial(ABC):
    """Start of a scene."""

    @abstractmethod
    def make(self, rng: torch.Generator) -> Gaussians:
        """Return the Gaussians to start from, on the CPU; degree 0 unless they come from a file that says otherwise."""

    def preflight(self) -> None:
        """Raise UserError for what can be known to fail before the prior is loaded; most need nothing."""

    def of(self, prompt: str) -> "Initial":
        """Return the initialiser for a prompt; most make the same of all."""
        return self


@dataclass(frozen=True)
class RandomPoints(Initial):
    """Round Gaussians at points drawn around the origin."""

    count: int = 2000
    """Number of Gaussians."""
    radius: float = 0.6
    """Radius of the sphere that holds the points, world units."""
    scale: float | None = None
    """Standard deviation of every Gaussian, world units; by default each one's distance to its 3 nearest."""
    opacity: float = 0.1
    """Opacity of every Gaussian, in (0, 1)."""
    colour: Literal["gray", "random"] = "gray"
    """Colour: all mid-gray, or each of its own."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.count(self, 1, MOST, "count")
        checks.positive(self, "radius", "scale")
        checks.between(self, 0, 1, "opacity")

    @abstractmethod
    def points(self, rng: torch.Generator) -> Float[Tensor, "n 3"]:
        """Draw `count` points."""

    def make(self, rng: torch.Generator) -> Gaussians:
        points = self.points(rng)
        return cloud(points, _colours(self.colour, self.count, rng), self.scale, self.opacity)


@dataclass(frozen=True)
class Ball(RandomPoints):
    """Points spread evenly in a ball of the radius: radius * cbrt(u) along a random direction."""

    def points(self, rng: torch.Generator) -> Float[Tensor, "n 3"]:
        direction = torch.nn.functional.normalize(torch.randn(self.count, 3, generator=rng), dim=1)
        return self.radius * torch.rand(self.count, 1, generator=rng).pow(1 / 3) * direction


@dataclass(frozen=True)
class Blob(RandomPoints):
    """Points of a normal distribution, densest in the middle: what most single objects look like from afar. The radius
    is two of its standard deviations along each axis; about a quarter of the points lie outside.
    """

    def points(self, rng: torch.Generator) -> Float[Tensor, "n 3"]:
        return 0.5 * self.radius * torch.randn(self.count, 3, generator=rng)


@dataclass(frozen=True)
class FromFile(Initial):
    """Gaussians of a file, all of them as they are; or the points of one, or of a mesh's faces, as round Gaussians."""

    path: Path | None = None
    """A file of Gaussian splats (.ply, .splat, .spz, .sog), a .ply of points with or without colours, or a mesh (.glb, .obj)."""
    count: int | None = None
    """Greatest number of Gaussians, chosen at random; by default all, and 4096 points on a mesh."""
    drop_invalid: bool = False
    """Leave out rows that hold NaN or infinite values, instead of refusing the file."""
    opacity: float = 0.1
    """Opacity of every Gaussian made from a point, in (0, 1)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.count(self, 1, MOST, "count")
        checks.between(self, 0, 1, "opacity")
        checks.positive(self, "fit")

    centre: bool = False
    """Move the middle of what is read to the origin, in the file's own precision: for files in map coordinates."""
    fit: float | None = None
    """Centre what is read and scale it to a ball of this radius, but for the outermost hundredth; by default meshes to 0.7, others not."""
    up: Literal["auto", "viewer", "raw", "blender", "unity", "unreal", "gltf"] = "auto"
    """Axes of what is read, see `export --up`; auto: meshes as in glTF (y up, the front along +z), others as this project writes them."""
    facing: float = 0.0
    """Azimuth, in degrees, of what shall become the front."""

    def make(self, rng: torch.Generator) -> Gaussians:
        if self.path is None:
            raise UserError("which file to start from? Give one of splats or points with --init.path FILE")
        if not is_mesh(self.path) and is_splats(self.path):
            found = load_splats(self.path)
            found.strict(self.drop_invalid)  # refuses what may not be left out
            told, splats = found.messages(), found.gaussians[self._choice(len(found.gaussians), rng)]
            splats = self._fitted(replace(splats, means=self._placed(splats.means)))
        elif is_mesh(self.path):
            points = read_surface(self.path, self.count or ON_MESH, rng)
            told, splats = points.messages(), self._round(points, rng)
        else:
            points = read_points(self.path, self.drop_invalid)
            told, splats = points.messages(), self._round(points, rng)
        for line in told:
            warnings.warn(line, stacklevel=2)
        return splats

    def _round(self, points: Points, rng: torch.Generator) -> Gaussians:
        """Return points as round Gaussians."""
        chosen = self._choice(len(points.xyz), rng)
        xyz = self._placed(points.xyz[chosen], self._radius is None)
        xyz = xyz @ self._world.to(xyz) if self._turned else xyz
        xyz = xyz if self._radius is None else fitted(xyz, self._radius)
        if len(xyz) < 4:  # whose distances to others are their sizes
            raise UserError(f"{self.path} gives {len(xyz)} of its points; expected at least 4 of an object")
        if len(xyz) > 1 and torch.equal(xyz.amin(0), xyz.amax(0)):
            raise UserError(f"{self.path} has {len(xyz)} points, all in one place; expected the points of an object")
        rgb = torch.full_like(xyz, 0.5) if points.rgb is None else points.rgb[chosen]
        return cloud(xyz, rgb, None, self.opacity)

    @property
    def _radius(self) -> float | None:
        """Return the radius that the file's contents are scaled to; None keeps their size."""
        return (MESH_RADIUS if self.path is not None and is_mesh(self.path) else None) if self.fit is None else self.fit

    @property
    def _turned(self) -> bool:
        """Return whether the axes of the file differ from the toolkit's."""
        return self.up != "auto" or self.facing != 0 or (self.path is not None and is_mesh(self.path))

    @property
    def _world(self) -> Float[Tensor, "3 3"]:
        """Return the matrix M from the toolkit's world to the file's axes: rows v M are v in the toolkit's."""
        mesh = self.path is not None and is_mesh(self.path)
        return frames.into(("gltf" if mesh else "raw") if self.up == "auto" else self.up, self.facing)

    def _fitted(self, splats: Gaussians) -> Gaussians:
        """Return the splats rotated, and scaled if that is asked for, sizes and all."""
        if self._turned:
            splats = frames.placed(splats, self._world.T)
        if self._radius is None:
            return splats
        middle, reach = extent(splats.means)
        factor = self._radius / reach
        return replace(splats, means=factor * (splats.means - middle), scales=factor * splats.scales)

    def _placed(self, places: Float[Tensor, "n 3"], refuse: bool = True) -> Float[Tensor, "n 3"]:
        """Return places in single precision, about the origin if that is asked for; UserError if they are so far from it that
        no camera of a run sees them.
        """
        middle = places.double().median(0).values
        apart = (places.double() - middle).norm(dim=1).median().item()
        if self.centre:
            return (places.double() - middle).float()
        if refuse and middle.norm().item() > max(FAR, FAR * apart):
            raise UserError(
                f"{self.path} lies {middle.norm().item():.3g} from the origin, which a run's cameras look at; "
                "move it there with --init.centre"
            )
        return places.float()

    def _choice(self, n: int, rng: torch.Generator) -> slice | Int[Tensor, " m"]:
        if self.count is None or self.count >= n:
            return slice(None)
        return torch.randperm(n, generator=rng)[: self.count].sort().values


@dataclass(frozen=True)
class FromGenerator(Initial):
    """Splats that a generator, trained by `splatdistill amortise`, makes of the run's prompt."""

    path: Path | None = None
    """Folder of the training."""
    prompt: str = ""
    """Prompt to make splats of; by default the run's own."""

    def __post_init__(self) -> None:
        """Raise UserError for values of another type."""
        checks.types(self)

    def of(self, prompt: str) -> "FromGenerator":
        return self if self.prompt else replace(self, prompt=prompt)

    def make(self, rng: torch.Generator) -> Gaussians:
        if self.path is None:
            raise UserError("which generator to start from? Give the folder of its training with --init.path DIR")
        from splatdistill.scene.generator.saved import Generator  # here: it brings networks along, which other runs have no use for

        with torch.no_grad():
            return Generator.load(self.path)(self.prompt).to("cpu")


def extent(points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " 3"], float]:
    """Return the middle of the box around all but the outermost hundredth of points, and the distance within which as many lie."""
    low, high = (torch.quantile(points.double()[::max(1, len(points) // 100_000)], q, 0) for q in (0.005, 0.995))
    middle = ((low + high) / 2).to(points)
    reach = torch.quantile((points - middle).norm(dim=1).double()[::max(1, len(points) // 100_000)], 0.99).item()
    return middle, max(reach, SMALLEST)


def fitted(points: Float[Tensor, "n 3"], radius: float) -> Float[Tensor, "n 3"]:
    """Return points about the origin, all but the outermost hundredth within the radius."""
    middle, reach = extent(points)
    return (points - middle) * (radius / reach)


def cloud(
    points: Float[Tensor, "n 3"], rgb: Float[Tensor, "n 3"], scale: float | None, opacity: float
) -> Gaussians:
    """Return round Gaussians of degree 0 at these points; without a scale as large as they are far apart, and no larger
    than twice the median of that, so that stray points do not become fog.
    """
    n = len(points)
    if scale is None:
        sizes = spacing(points).clamp_min(SMALLEST)
        sizes = sizes.clamp_max(2 * sizes.median())
    else:
        sizes = torch.full((n,), scale, dtype=points.dtype)
    return Gaussians(
        means=points,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=points.dtype).repeat(n, 1),
        scales=sizes[:, None].repeat(1, 3),
        opacities=torch.full((n,), opacity, dtype=points.dtype),
        sh=((rgb - 0.5) / SH_C0)[:, None],
    )


def spacing(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Return the root mean square distance of each point to its 3 nearest others (3D Gaussian Splatting's initial size)."""
    if len(points) < 4:
        raise UserError(f"{len(points)} points have no 3 nearest others: give at least 4 points, or drawn ones a scale")
    from scipy.spatial import KDTree  # here: a run that starts from splats has no use for it

    places = points.detach().double().cpu().numpy()
    nearest = np.asarray(KDTree(places).query(places, 4)[1])
    others = points[torch.from_numpy(nearest[:, 1:]).to(points.device)]
    return torch.linalg.vector_norm(points[:, None] - others, dim=-1).square().mean(1).sqrt()


def _colours(colour: Literal["gray", "random"], count: int, rng: torch.Generator) -> Float[Tensor, "n 3"]:
    return torch.full((count, 3), 0.5) if colour == "gray" else torch.rand(count, 3, generator=rng)

