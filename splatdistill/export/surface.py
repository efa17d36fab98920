"""The surface of splats as triangles: a truncated signed distance field of rendered depth, and marching cubes.

After Curless and Levoy, "A Volumetric Method for Building Complex Models from Range Images" (SIGGRAPH 1996). From many
sides each cell of a grid is compared with the depth that is seen there: the mean over views of
clamp((depth - z) / t, -1, 1), where cells farther behind than t are not seen, and cells before nothing are outside.
What no view sees is inside, so that the surface is closed, and what is too small to be meant is cleaned away
(`topology`). Views do not agree on where soft splats begin, by a share of
the object and not by cells: t is such a share, or what one view overlooks is carved away from all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.export.paths import Place, cameras
from splatdistill.export.topology import mended
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import along_a_curve, box
from splatdistill.render import Rasterizer

VIEWS = 40
PIXELS = 256  # along a view's side
BAND = 0.08  # t of the field, of the longest side: 0.03 loses rims of soft splats, 0.1 thickens legs of tables
CELLS = 3.0  # that t has at least
COARSEST, FINEST = 8, 512  # cells along the longest side
TRIES = 5  # grids looked at for a number of triangles
NEAR = 0.9  # of it is enough
SOLID, EMPTY = (
    0.5,
    0.2,
)  # opacities above which depth counts, and below which there is nothing; between, a view is silent
BLUR = 0.01  # of the longest side: standard deviation by which the field is smoothed
LEAST_BLUR = 0.5  # cells
TUNNEL = 0.06  # of the longest side: radius of a ball that passes no tunnel that is closed


@dataclass(frozen=True)
class SurfaceViews:
    """Batch of views of the splats."""

    cameras: Cameras
    rgb: Float[Tensor, "b 3 h w"]  # not multiplied by opacity
    alpha: Float[Tensor, "b 1 h w"]
    depth: Float[Tensor, "b 1 h w"]

    def at(self, view: int, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 5"], Float[Tensor, " n"]]:
        """Return what a view shows where points are, as columns rgb, alpha, depth; and how deep the points are."""
        camera = self.cameras.world_to_camera[view].to(points)
        local = points @ camera[:3, :3].T + camera[:3, 3]
        k, z = self.cameras.intrinsics[view].to(points), local[:, 2].clamp_min(1e-6)
        x, y = k[0, 0] * local[:, 0] / z + k[0, 2], k[1, 1] * local[:, 1] / z + k[1, 2]
        h, w = self.alpha.shape[2:]
        grid = torch.stack([2 * x / w - 1, 2 * y / h - 1], 1)[None, None]
        layers = torch.cat([self.rgb[view], self.alpha[view], self.depth[view]])[None]
        shown = torch.nn.functional.grid_sample(layers, grid, align_corners=False)[0, :, 0]
        return shown.T, local[:, 2]


@torch.no_grad()
def look_around(g: Gaussians, render: Rasterizer, size: int, step: Callable[[int], None] = lambda k: None) -> SurfaceViews:
    """Render views from directions spread evenly over the sphere (Fibonacci's spiral), each with all of it in the picture."""
    radius = max((g.means.norm(dim=1) + g.scales.amax(1)).quantile(0.995).item(), 1e-6)
    distance = 3 * radius
    fov = 2 * math.degrees(math.asin(1.05 / 3))
    turn = 180 * (3 - 5**0.5)
    # opaque where a splat is half opaque and more: otherwise depth is taken from inside soft splats
    hard = replace(g, opacities=g.opacities / SOLID)
    places = [
        Place(k * turn % 360, math.degrees(math.asin(1 - 2 * (k + 0.5) / VIEWS)), distance, fov) for k in range(VIEWS)
    ]
    parts = []
    for k, place in enumerate(places):
        view = cameras([place], size, size).to(g.means.device)
        seen, crust = render(g, view), render(hard, view)
        rgb = (seen.rgb / seen.alpha.clamp_min(1e-3)).clamp(0, 1)
        parts.append(SurfaceViews(view.to("cpu"), rgb.cpu(), seen.alpha.cpu(), crust.depth.cpu()))
        step(k + 1)
    return SurfaceViews(
        Cameras.cat([p.cameras for p in parts]),
        *(torch.cat([getattr(p, n) for p in parts]) for n in ("rgb", "alpha", "depth")),
    )


@dataclass(frozen=True)
class Surface:
    """Closed triangles in the toolkit's world, counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    band: float  # t of the field it comes from: so far it may be from the depth of a view


def at_most(g: Gaussians, seen: SurfaceViews, triangles: int) -> Surface:
    """Return the surface on the finest grid that gives at most so many triangles, or nearly; UserError if none does."""
    resolution, best, count = 48, None, 0
    for _ in range(TRIES):
        found = surface(g, seen, resolution)
        count = len(found.faces)
        if count <= triangles and (best is None or count > len(best.faces)):
            best = found
        if best is not None and len(best.faces) >= NEAR * triangles:
            break
        # their number goes with the square of the resolution
        finer = round(resolution * math.sqrt((1 + NEAR) / 2 * triangles / count))
        finer = min(max(finer, COARSEST), FINEST)
        if finer == resolution:
            break
        resolution = finer
    if best is None:
        raise UserError(f"--triangles {triangles} are too few for this shape; it needs about {count}")
    return best


def bounded(field: Float[Tensor, "x y z"]) -> None:
    """Make the border of a field outside, so that its surface is closed whatever happens."""
    for k in range(3):
        field.select(k, 0)[:], field.select(k, -1)[:] = 1, 1


@torch.no_grad()
def surface(g: Gaussians, seen: SurfaceViews, resolution: int) -> Surface:
    """Return the surface of what is more than half opaque; UserError if nothing is. resolution: cells along the long side."""
    low, high = (corner.double() for corner in box(g))
    longest = (high - low).max().item()
    cell = longest / resolution
    band = max(BAND * longest, CELLS * cell)
    shape = [int(math.ceil(s)) + 7 for s in ((high - low) / cell).tolist()]
    axes = [low[k] + cell * (torch.arange(shape[k]) - 3) for k in range(3)]
    field = torch.empty(shape)
    for i in range(shape[0]):  # a slice at a time: memory stays small
        points = torch.cartesian_prod(axes[0][i : i + 1], axes[1], axes[2]).float()
        field[i] = distance(points, seen, band).reshape(shape[1:])
    bounded(field)
    if not (field < 0).any():
        raise UserError("these splats have no surface: nothing of them is more than half opaque; try --format ply")
    cleaned = torch.from_numpy(clean(field.numpy(), resolution, cell / band))
    bounded(cleaned)
    vertices, faces = marched(cleaned.numpy())
    return Surface((vertices * cell + (low.numpy() - 3 * cell)).astype(np.float32), faces, band)


def distance(points: Float[Tensor, "n 3"], seen: SurfaceViews, band: float) -> Float[Tensor, " n"]:
    """Return the field at points: positive outside."""
    total, count = torch.zeros(len(points)), torch.zeros(len(points))
    for view in range(len(seen.alpha)):
        shown, z = seen.at(view, points)
        ahead = shown[:, 4] - z
        solid, empty = shown[:, 3] > SOLID, shown[:, 3] < EMPTY
        value = torch.where(solid, (ahead / band).clamp(-1, 1), torch.ones_like(ahead))
        heard = empty | (solid & (ahead > -band))
        total += value * heard
        count += heard
    return torch.where(count > 0, total / count.clamp_min(1), torch.full_like(total, -1.0))


def clean(field: Float32[np.ndarray, "x y z"], resolution: int, step: float) -> Float32[np.ndarray, "x y z"]:
    """Return the field without what views do not agree on: smoothed by BLUR, strays left out, cavities and small tunnels
    filled. step: what the field changes by along a cell.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(field, max(BLUR * resolution, LEAST_BLUR), mode="nearest")
    if not (smooth < 0).any():
        smooth = field
    widest = TUNNEL * resolution
    radii = [r for r in (1.0, 1.5, 2.0, 2.5, *range(3, FINEST)) if r <= max(widest, 1.5)]
    return mended(smooth, radii, step)


def marched(field: Float32[np.ndarray, "x y z"]) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Run marching cubes at 0, smoothed a little without shrinking; in cells."""
    import trimesh
    from skimage.measure import marching_cubes

    field = np.where(np.abs(field) < 1e-4, np.copysign(np.float32(1e-4), field), field)  # through a grid point: empty faces
    vertices, faces, _, _ = marching_cubes(-field, 0.0)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=6)
    faces = np.asarray(mesh.faces)
    faces = faces if mesh.volume >= 0 else faces[:, ::-1]
    return np.asarray(mesh.vertices), faces[along_a_curve(mesh.triangles_center)]
