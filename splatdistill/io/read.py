"""Gaussian splats from a file of any format that is read here."""

from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import ply
from splatdistill.io.ply import read_ply
from splatdistill.io.rows import opened
from splatdistill.io.sog import read_sog
from splatdistill.io.splat import read_splat
from splatdistill.io.spz import read_spz

READERS = {"ply": read_ply, "splat": read_splat, "spz": read_spz, "sog": read_sog}
BEGINNINGS = {b"ply": "ply", b"\x1f\x8b": "spz", b"NGSP": "spz", b"PK\x03\x04": "sog"}  # .splat has none


def read_splats(path: Path, drop_invalid: bool = False) -> Gaussians:
    """The splats of a .ply (INRIA's, gsplat's, nerfstudio's, brush's or our layout), .splat, .spz or .sog, float32 on
    the CPU, in our world: z up, the front along +x.

    The content decides, then the name. UserError if the file is none of these, or if rows hold values that no Gaussian
    can have and `drop_invalid` does not allow to leave them out.
    """
    kind = format_of(path)
    return read_ply(path, drop_invalid=drop_invalid) if kind == "ply" else READERS[kind](path, drop_invalid)


def is_splats(path: Path) -> bool:
    """Whether a file holds Gaussian splats; a .ply may hold mere points. UserError if it is of no known format."""
    return ply.is_splats(path) if format_of(path) == "ply" else True


def format_of(path: Path) -> str:
    """ply, splat, spz or sog; UserError if it is none of them."""
    with opened(path) as file:
        head = file.peek(4)[:4]
    found = next((kind for begin, kind in BEGINNINGS.items() if head.startswith(begin)), None)
    said = path.suffix.lower().removeprefix(".")
    if found is None and said not in READERS:
        known = ", ".join(f".{k}" for k in READERS)
        raise UserError(f"{path} is not a file of splats that can be read; expected {known}")
    return found or said
