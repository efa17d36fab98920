"""Buffers between the stages of a render: flat arrays, and their layout."""

from dataclasses import dataclass

import numpy as np

from splatdistill.render.cpu.kernels import layout

Tag = tuple[int, ...]  # a number that the compiler knows: the length of a tuple of zeros


def channel_tag(normals: bool) -> Tag:
    """Return the number of channels: rgb, the normal if asked for, depth."""
    return (0,) * (7 if normals else 4)


def degree_tag(coefficients: int) -> Tag:
    """Return the degree of so many spherical harmonics."""
    return (0,) * (round(coefficients**0.5) - 1)


@dataclass(frozen=True)
class CameraBuffers:
    """Cameras for the kernels, and the grid of tiles."""

    cameras: np.ndarray  # (b * CAMERA,)
    count: int
    width: int
    height: int

    @property
    def tiles_x(self) -> int:
        return layout.tiles(self.width)

    @property
    def tiles_y(self) -> int:
        return layout.tiles(self.height)

    @property
    def padded(self) -> tuple[int, int]:
        """Return height and width in whole tiles."""
        return self.tiles_y * layout.TILE, self.tiles_x * layout.TILE


@dataclass(frozen=True)
class Shapes:
    """Contiguous flat inputs of projection, of one float type, in whole groups of Gaussians; zeros fill the last group,
    and with opacity 0 they are culled.
    """

    means: np.ndarray  # (padded n * 3,)
    quats: np.ndarray  # (padded n * 4,)
    scales: np.ndarray  # (padded n * 3,)
    opacities: np.ndarray  # (padded n,)

    @property
    def padded(self) -> int:
        """Return the entries per camera."""
        return self.opacities.size


@dataclass(frozen=True)
class Images:
    """Planar images in whole tiles, flat: (b, 3 or 1, padded height, padded width). normal may be empty: not wanted."""

    rgb: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class ProjectionBuffers:
    """Projected values of each (camera, Gaussian) entry, cameras first, whole groups."""

    rows: np.ndarray  # (entries * ROW,)
    screen: np.ndarray  # (entries * 2,)
    radii: np.ndarray  # (entries,)
    rectangles: np.ndarray  # (entries,)
    depths: np.ndarray  # (entries,)
    histogram: np.ndarray  # (shares, tiles)


@dataclass(frozen=True)
class Tiles:
    """Lists of entries per tile: members[starts[t] : starts[t + 1]] are the entries of tile t, near to far."""

    members: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Composited:
    """Arrays that the backward pass needs besides the images."""

    transmittance: np.ndarray  # (b, padded height, padded width)
    masks: np.ndarray  # a bit per block for each member of a tile
    used: np.ndarray  # members that each tile looked at
    shares: int


@dataclass(frozen=True)
class ShapeGradients:
    """dloss/d of everything that projection reads, in whole groups, flat."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    colours: np.ndarray  # (b or 1, padded n, 3)
    screen: np.ndarray  # (b, padded n, 2)
    absolute: np.ndarray  # the same, or empty
