"""Gaussian splats from a file of any format that is read here."""

import warnings
from collections.abc import Callable
from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import ply, sog, splat, spz
from splatdistill.io.opening import Name, opened
from splatdistill.io.rows import Read

READERS: dict[str, Callable[[Path], Read]] = {
    "ply": ply.load_ply,
    "splat": splat.load_splat,
    "spz": spz.load_spz,
    "sog": sog.load_sog,
}
BEGINNINGS = {b"ply": "ply", b"\xef\xbb\xbfply": "ply", b"\x1f\x8b": "spz", b"NGSP": "spz", b"PK\x03\x04": "sog"}  # .splat has none
KNOWN = ", ".join(f".{kind}" for kind in READERS)


def load_splats(path: Name) -> Read:
    """Read a .ply (INRIA's, gsplat's, nerfstudio's, brush's, 2D Gaussian Splatting's, SuperSplat's compressed or our layout),
    .splat, .spz or .sog (bundled, or a folder with meta.json), on the CPU, in our world: z up, the front along +x.

    The content decides, then the name. Rows that no Gaussian can have are left out and counted. UserError if the file is
    none of these, or if no row is left.
    """
    return READERS[format_of(path)](Path(path))


def read_splats(path: Name, drop_invalid: bool = False) -> Gaussians:
    """Return the splats of a file that `load_splats` takes, in single precision.

    UserError as there, and if rows would be left out and `drop_invalid` does not allow it. What was left out or changed
    is told as a warning.
    """
    found = load_splats(path)
    splats = found.strict(drop_invalid)
    for line in found.messages():
        warnings.warn(line, stacklevel=2)
    return splats


def is_splats(path: Name) -> bool:
    """Return whether a file holds Gaussian splats, not mere points, which a .ply may hold; UserError for an unknown format."""
    return ply.is_splats(path) if format_of(path) == "ply" else True


def format_of(path: Name) -> str:
    """Return ply, splat, spz or sog; UserError if it is none of them."""
    path = Path(path)
    if sog.unbundled(path) is not None:
        return "sog"
    with opened(path) as file:
        head = file.peek(8)[:8]
    found = next((kind for begin, kind in BEGINNINGS.items() if head.startswith(begin)), None)
    said = path.suffix.lower().removeprefix(".")
    if found is None and said not in READERS:
        what = f"a .{said} is no" if said else "it is no"
        raise UserError(
            f"{path} is not a file of splats that can be read: {what} format of them that is known here; "
            f"expected {KNOWN} (or a folder with a .sog's meta.json)"
        )
    return found or said
