"""Ways of a camera around an object: turntables, spirals, and key frames from a file."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError
from splatdistill.io.opening import Name

MOST = 100_000  # frames or key frames
LARGEST = 1 << 20  # bytes of a file of key frames
EXAMPLE = '[{"azimuth": 0, "elevation": 10, "distance": 3}, {"azimuth": 180, "elevation": 40, "distance": 2}]'


@dataclass(frozen=True)
class Place:
    """Place of a camera that looks at the middle."""

    azimuth: float = 0.0  # degrees; 0 sees the front, 90 the object's left
    elevation: float = 15.0  # degrees above the horizon
    distance: float = 2.8  # from the middle, world units
    fov: float = 42.0  # vertical, degrees


def turntable(frames: int, elevation: float, distance: float, fov: float, first: float = 0.0) -> list[Place]:
    """Return a path once around, the last frame one step short of the first, so that it loops."""
    return [Place(first + 360 * k / frames, elevation, distance, fov) for k in range(frames)]


def spiral(frames: int, elevation: float, distance: float, fov: float, first: float = 0.0) -> list[Place]:
    """Return a path twice around that rises from below `elevation` to above and sinks back; it loops."""
    return [
        Place(first + 720 * k / frames, elevation + 30 * math.sin(2 * math.pi * k / frames), distance, fov)
        for k in range(frames)
    ]


def key_frames(path: Name, frames: int, default: Place) -> list[Place]:
    """Read key frames of a JSON file, with smooth steps between them: a list of objects with azimuth, elevation, distance
    and fov, each as it was before where it is left out. Azimuths go as written: 0 to 350 is nearly once around.
    UserError if it is no such file.
    """
    keys = [default]
    for number, said in enumerate(_list(path)):
        known = {f.name for f in fields(Place)}
        if not isinstance(said, dict) or set(said) - known:
            raise UserError(
                f"{path}: key frame {number} is {str(said)[:80]}; expected {', '.join(sorted(known))}: {EXAMPLE}"
            )
        for name, value in said.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{path}: {name} of key frame {number} is {str(value)[:80]!r}; expected a number")
        keys.append(Place(**{**vars(keys[-1]), **said}))
    table = torch.tensor([[k.azimuth, k.elevation, k.distance, k.fov] for k in keys[1:]], dtype=torch.float64)
    return [Place(*row) for row in smooth(table, frames).tolist()]


def smooth(keys: Float[Tensor, "k d"], count: int) -> Float[Tensor, "count d"]:
    """Return Catmull-Rom splines through key frames, evenly spaced in time, from the first to the last."""
    if len(keys) == 1:
        return keys.expand(count, -1)
    at = torch.linspace(0, len(keys) - 1, count, dtype=keys.dtype)
    k = at.long().clamp_max(len(keys) - 2)
    t = (at - k)[:, None]
    p = torch.cat([2 * keys[:1] - keys[1:2], keys, 2 * keys[-1:] - keys[-2:-1]])  # ends go straight on
    a, b, c, d = (p[k + i] for i in range(4))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def check(places: Sequence[Place]) -> None:
    """Raise a UserError for places where no camera can stand."""
    for p in places:
        if not (abs(p.elevation) <= 90 and 0 < p.distance < math.inf and 0 < p.fov < 180 and math.isfinite(p.azimuth)):
            raise UserError(
                f"no camera can stand at {p}; expected elevations of -90 to 90, fov of 0 to 180, a distance above 0"
            )


def cameras(places: Sequence[Place], width: int, height: int) -> Cameras:
    """Return the cameras at these places, around the origin."""
    columns = [[getattr(p, f.name) for p in places] for f in fields(Place)]
    return orbit(columns[0], columns[1], columns[2], columns[3], width, height)


def _list(path: Name) -> list:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
        said = json.loads(data) if len(data) <= LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"could not read {path}: {getattr(error, 'strerror', None) or error}; expected JSON such as {EXAMPLE}"
        ) from error
    if not isinstance(said, list) or not 0 < len(said) <= MOST:
        raise UserError(f"{path} holds no list of key frames; expected JSON such as {EXAMPLE}")
    return said
