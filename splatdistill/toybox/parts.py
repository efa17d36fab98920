"""The parts that objects are built of: a shape, where it sits, how it is painted."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
Shape = Literal["ball", "box", "cylinder", "cone", "donut", "capsule", "ellipsoid", "prism"]
Pattern = Literal["plain", "striped", "checkered", "spotted"]

SHAPES: tuple[Shape, ...] = ("ball", "box", "cylinder", "cone", "donut", "capsule", "ellipsoid", "prism")
PATTERNS: tuple[Pattern, ...] = ("plain", "striped", "checkered", "spotted")
AXES = ("z", "x", "y")
ROW = 16  # floats per part in the table that the tracer reads


@dataclass(frozen=True)
class Part:
    """Solid of an object.

    `size` by shape (a, b, c), all half extents or radii, along `axis` where the shape has one:
    ball (radius), box (half x, y, z), cylinder (radius, half height), cone (bottom radius, half height,
    top radius), donut (ring radius, tube radius; axis = the hole's), capsule (radius, half length),
    ellipsoid (radii x, y, z), prism (half width of the base, half height, half length; the triangle's
    apex points to +z, `axis` x or y is the ridge).
    """

    shape: Shape
    centre: tuple[float, float, float]
    size: tuple[float, ...]
    colour: Colour
    pattern: Pattern = "plain"
    colour2: Colour = (1.0, 1.0, 1.0)
    axis: Literal["z", "x", "y"] = "z"

    def row(self) -> list[float]:
        """Return the part as numbers: shape, axis, centre, size, pattern, colour, colour2."""
        size = (*self.size, 0.0, 0.0)[:3]
        return [
            float(SHAPES.index(self.shape)),
            float(AXES.index(self.axis)),
            *self.centre,
            *size,
            float(PATTERNS.index(self.pattern)),
            *self.colour,
            *self.colour2,
            0.0,
        ]


def table(parts: list[Part]) -> np.ndarray:
    """Return the parts (parts, ROW) in float32, as the tracer reads them."""
    return np.array([p.row() for p in parts], np.float32)
