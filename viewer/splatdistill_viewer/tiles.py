"""Several objects in one page: in a row while they are few, in a grid when they are more; all looked at from one camera."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import fitted
from splatdistill.render import Rasterizer
from splatdistill_viewer.cameras import Pose
from splatdistill_viewer.pictures import Style, picture
from splatdistill_viewer.server import FOV

Point = tuple[float, float, float]
LEAST = math.radians(0.25)  # a smaller move is none
ROW = 3  # objects that still stand in one row
APART = 2.2  # world units between two objects of a training: they reach about 0.95 from their middle
NAMED = (0.0, 0.0, 1.0)  # of such an object's name, from its middle: above it, and below the next
SMALL = 80  # pixels of height below which a picture has no name


def shape(n: int) -> tuple[int, int]:
    """Return rows and columns of a grid for n objects."""
    columns = n if n <= ROW else math.ceil(math.sqrt(n))
    return math.ceil(n / columns), columns


def places(n: int, apart: float) -> list[Point]:
    """Return the positions of n objects in the world, seen from the front (+x) from left to right and from above."""
    rows, columns = shape(n)
    across, down = (columns - 1) / 2, (rows - 1) / 2
    return [(0.0, apart * (k % columns - across), apart * (down - k // columns)) for k in range(n)]


class ObjectRow:
    """Row of objects that move, without turning, with the camera, so that they stand side by side and look alike from all sides."""

    def __init__(self, handles: Sequence[Any], spots: Sequence[Point]) -> None:
        self.handles, self.spots, self.azimuth = handles, spots, 0.0

    def face(self, azimuth: float | None) -> None:
        """Move the objects across the line of sight of a camera at this azimuth, in radians; None leaves them in place."""
        if azimuth is None or abs(math.remainder(azimuth - self.azimuth, math.tau)) < LEAST:
            return
        self.azimuth = azimuth
        for handle, (_, across, up) in zip(self.handles, self.spots):
            handle.position = (-across * math.sin(azimuth), across * math.cos(azimuth), up)


def reach(gaussians: Gaussians) -> float:
    """Return how far visible splats reach along an axis, in world units, without the farthest two hundredth; 1 for none."""
    seen = gaussians[gaussians.opacities > 0.1]
    far = seen.means.abs().amax(1) + seen.scales.amax(1)
    return max(1e-3, float(far.quantile(0.995, interpolation="lower"))) if len(seen) else 1.0


def stand(n: int, apart: float) -> Point:
    """Return a camera position from which n objects are seen: before their middle, a little to the right and above."""
    return (0.6 + 0.5 * apart * max(shape(n)) / math.tan(math.radians(FOV / 2)), -0.5, 0.6)


def tiled(objects: Sequence[tuple[str, Gaussians]], pose: Pose, height: int, rasterizer: Rasterizer, style: Style) -> np.ndarray:
    """Return exact pictures of all objects, each in its own tile under its name, all from one pose, as (h,w,3) bytes."""
    rows, across = shape(len(objects))
    whole = pose.cameras(max(8 * rows, height))
    own = middle(whole, max(1, whole.width // across), whole.height // rows)
    images = [under(name, picture(g, own, rasterizer, style)) for name, g in objects]
    images += [np.full_like(images[0], images[0][0, 0])] * (rows * across - len(images))
    return np.concatenate([np.concatenate(images[r * across : (r + 1) * across], 1) for r in range(rows)])


def under(name: str, image: np.ndarray) -> np.ndarray:
    """Return a picture with a name at its top, where it is high enough for one."""
    if not name or image.shape[0] < SMALL:
        return image
    canvas = Image.fromarray(image)
    font = ImageFont.load_default(size=max(9, image.shape[0] / 18))
    line, look = fitted(name, font, image.shape[1] - 8), {"fill": "black", "stroke_width": 2, "stroke_fill": "white"}
    ImageDraw.Draw(canvas).text((image.shape[1] / 2, 4), line, font=font, anchor="ma", **look)
    return np.array(canvas)


def middle(cameras: Cameras, width: int, height: int) -> Cameras:
    """Return the middle of the view: so many of its pixels, each as large as before, so that objects keep the size of their splats."""
    k = cameras.intrinsics.clone()
    k[:, 0, 2] += (width - cameras.width) / 2
    k[:, 1, 2] += (height - cameras.height) / 2
    return replace(cameras, intrinsics=k, width=width, height=height)
