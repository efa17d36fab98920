"""Rooms seen from inside: four walls, a floor and a ceiling, patterns on them, and at times a real object by a wall.

    a room with blue walls and a checkered red and white floor
    a red armchair in a room with striped pink and white walls and a brown floor

Cameras stand inside and look through the middle at the far wall, as ProlificDreamer's do in scenes (arXiv:2305.16213).
"""

from dataclasses import dataclass

import numpy as np

from splatdistill.cameras import Orbit
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.real import RealCaption
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.triangles import CornerMesh

HALF = (2.0, 2.0, 1.3)  # half extents of every room
ROOM_VIEWS = Orbit(elevation=(-5.0, 25.0), distance=(0.3, 1.0), fov=(60.0, 75.0), uniform="degrees")
ROOM_PATTERNS = ("plain", "striped", "checkered")
TILES = 10  # a surface's squares a side: those that reach behind the camera are not drawn, so they must be small
SCALE = 0.8  # of an object in a room


@dataclass(frozen=True)
class Paint:
    """Paint of the walls or of the floor."""

    colour: str
    pattern: str = "plain"
    colour2: str = "white"

    def __str__(self) -> str:
        return self.colour if self.pattern == "plain" else f"{self.pattern} {self.colour} and {self.colour2}"


@dataclass(frozen=True)
class RoomCaption:
    """Room as words, and the object in it."""

    walls: Paint
    floor: Paint
    thing: RealCaption | None = None

    def __str__(self) -> str:
        floor = f"an {self.floor}" if str(self.floor)[0] in "aeiou" else f"a {self.floor}"
        room = f"a room with {self.walls} walls and {floor} floor"
        return room if self.thing is None else f"{self.thing} in {room}"

    @property
    def held_out(self) -> bool:
        """Return whether walls and floor are those of a prompt kept for acceptance, or the object is held out."""
        room = str(RoomCaption(self.walls, self.floor))
        return any(prompt.endswith(room) for prompt in SPLIT.rooms) or (self.thing is not None and self.thing.held_out)


def sample_room(rng: np.random.Generator, thing: RealCaption | None) -> RoomCaption:
    """Return random paint around an object, or around nothing; a third of the surfaces have a pattern."""
    while True:
        found = RoomCaption(_surface(rng), _surface(rng), thing)
        if found.walls != found.floor and not found.held_out:
            return found


def _surface(rng: np.random.Generator) -> Paint:
    first, second = (list(COLOURS)[i] for i in rng.choice(len(COLOURS), 2, replace=False))
    pattern = ROOM_PATTERNS[rng.integers(1, 3)] if rng.random() < 1 / 3 else "plain"
    return Paint(first, pattern, second) if pattern != "plain" else Paint(first)


def room_mesh(caption: RoomCaption, thing: CornerMesh | None = None, azimuth: float = 0.0) -> CornerMesh:
    """Return the triangles of a room; the object stands on the floor, towards `azimuth` (degrees) from the middle, and faces the middle."""
    low, high = -np.array(HALF), np.array(HALF)
    texels = np.concatenate([_texture(caption.walls), _texture(caption.floor), np.full((1, 3), 242, np.uint8)])
    side = int(_texture(caption.walls).shape[0] ** 0.5)
    table = np.array([[1, 1, 1, 0, side, side], [1, 1, 1, side * side, side, side], [1, 1, 1, 2 * side * side, 1, 1]], np.float32)
    parts = []
    for axis, end, material in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 2)]:
        u, v = [a for a in range(3) if a != axis]
        grid = np.stack(np.meshgrid(*(np.linspace(low[a], high[a], TILES + 1) for a in (u, v)), indexing="ij"), -1)
        points = np.empty((TILES + 1, TILES + 1, 3))
        points[..., u], points[..., v], points[..., axis] = grid[..., 0], grid[..., 1], (low, high)[end][axis]
        edge = np.minimum(high[u] - np.abs(grid[..., 0]), high[v] - np.abs(grid[..., 1]))
        free = np.clip(0.45 + 0.55 * edge / 0.8, 0, 1)  # corners are darker
        for a, b, c in (((0, 0), (1, 0), (1, 1)), ((0, 0), (1, 1), (0, 1))):
            corners = np.stack([_shifted(points, o) for o in (a, b, c)], 1)
            inward = np.zeros_like(corners)
            inward[..., axis] = 1 - 2 * end
            uv = np.stack([_shifted(grid, o) for o in (a, b, c)], 1) / 2.0  # a texture covers two units
            parts.append((corners, inward, uv, np.stack([_shifted(free, o) for o in (a, b, c)], 1)[..., 0], np.full(len(corners), material)))
    room = [np.concatenate(values) for values in zip(*parts, strict=True)]
    f = np.float32
    mesh = CornerMesh(room[0].astype(f), room[1].astype(f), room[2].astype(f), room[3].astype(f), room[4].astype(np.int32), table, texels)
    return mesh if thing is None else _together(mesh, _placed(thing, azimuth))


def _shifted(values: np.ndarray, by: tuple[int, int]) -> np.ndarray:
    """Return a grid's values (TILES^2, n) at one corner of each tile."""
    return values[by[0] : TILES + by[0], by[1] : TILES + by[1]].reshape(TILES * TILES, -1)


def _placed(thing: CornerMesh, azimuth: float) -> CornerMesh:
    """Return the object on the floor by a wall, its front to the middle of the room."""
    a, turn = np.radians(azimuth), np.radians(azimuth + 180)
    spin = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], np.float32)
    corners = thing.corners @ spin.T * np.float32(SCALE)
    up = -HALF[2] - float(corners[..., 2].min())
    out = 1.15 * np.array([np.cos(a), np.sin(a), 0]) + np.array([0, 0, up])
    moved = (corners + out.astype(np.float32), thing.normals @ spin.T)
    return CornerMesh(*moved, thing.uv, thing.openness, thing.material, thing.materials, thing.texels)


def _together(first: CornerMesh, second: CornerMesh) -> CornerMesh:
    """Return two meshes as one."""
    materials = second.materials.copy()
    materials[:, 3] += np.where(materials[:, 3] >= 0, len(first.texels), 0)
    corners, normals, uv, openness = (np.concatenate([getattr(first, n), getattr(second, n)]) for n in ("corners", "normals", "uv", "openness"))
    material = np.concatenate([first.material, second.material + len(first.materials)]).astype(np.int32)
    table, texels = np.concatenate([first.materials, materials]), np.concatenate([first.texels, second.texels])
    return CornerMesh(corners, normals, uv, openness, material, table, texels)


def _texture(surface: Paint, side: int = 32) -> np.ndarray:
    """Return one period of a pattern, (side^2, 3) uint8: four stripes, or four by four squares."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    second = {"striped": x // (side // 4) % 2, "checkered": (x // (side // 4) + y // (side // 4)) % 2}.get(surface.pattern, np.zeros_like(x))
    colours = np.array([COLOURS[surface.colour], COLOURS[surface.colour2]]) * 255
    return np.round(colours[second.reshape(-1)]).astype(np.uint8)
