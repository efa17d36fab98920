"""Splats into a file of any format, read back and compared before it takes its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.export.read_back import Tolerances, check, differences
from splatdistill.gaussians import Gaussians
from splatdistill.io import sog, splat
from splatdistill.io.atomic import replacing
from splatdistill.io.frames import Up
from splatdistill.io.html import load_html, write_html
from splatdistill.io.opening import Name
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.io.rows import Model, Read, writable
from splatdistill.io.sog import load_sog, write_sog
from splatdistill.io.splat import load_splat, write_splat
from splatdistill.io.spz import load_spz, write_spz


@dataclass(frozen=True)
class Asked:
    """Requested properties of a file, which a format may ignore."""

    up: Up = "viewer"  # the world of the file, where the format prescribes none
    comments: tuple[str, ...] = ()  # where the splats come from, one fact each; .splat and .spz have no room for them
    pad: bool = True  # fill rows of a .ply up to degree 3
    model: Model = "default"  # renderer that the splats were made for; .splat and pages do not tell it


@dataclass(frozen=True)
class Format:
    """File format: how it is written and read, and its tolerated differences."""

    write: Callable[[Path, Gaussians, Asked], object]
    read: Callable[[Path, Asked], Read]
    limits: Tolerances
    order: Callable[[Gaussians], Tensor] | None = None  # of its rows; None is ours
    up: Up | None = None  # its world, where it is prescribed
    degree: int = 3


FORMATS: dict[str, Format] = {
    "ply": Format(
        lambda path, g, asked: write_ply(path, g, asked.comments, up=asked.up, pad=asked.pad, model=asked.model),
        lambda path, asked: load_ply(path),
        limits=Tolerances(place=0.1, reach=1e-6, shape=1e-3, colour=1e-4),
    ),
    "splat": Format(
        lambda path, g, asked: write_splat(path, g, asked.up),
        lambda path, asked: load_splat(path, up=asked.up),
        limits=Tolerances(place=0.1, reach=1e-6, shape=0.05, colour=0.02), order=splat.order, degree=0,
    ),
    "spz": Format(
        lambda path, g, asked: write_spz(path, g, asked.model),
        lambda path, asked: load_spz(path),
        limits=Tolerances(place=0.1, reach=1e-4, shape=0.1, colour=0.05), up="gltf",
    ),
    "sog": Format(
        lambda path, g, asked: write_sog(path, g, asked.comments, asked.model),
        lambda path, asked: load_sog(path),
        limits=Tolerances(place=0.1, reach=3e-4, shape=0.3, colour=0.1), order=sog.order, up="viewer",  # higher bands share a palette
    ),
    "html": Format(
        lambda path, g, asked: write_html(path, g, asked.comments, title(asked.comments)),
        lambda path, asked: load_html(path),
        limits=Tolerances(place=0.1, reach=1e-4, shape=0.1, colour=0.05), up="gltf",
    ),
}  # fmt: skip


def title(comments: Sequence[str]) -> str:
    """Return a page's title: the prompt, where it is known."""
    return next((c.removeprefix("prompt ") for c in comments if c.startswith("prompt ")), "splats")


@dataclass(frozen=True)
class Exported:
    """Written file, and the differences of its copy read back."""

    path: Path
    count: int
    dropped: int  # left out because no row can hold them
    bytes: int
    place: float  # greatest error of a position, world units
    radius: float  # of the object, world units
    shape: float  # greatest error of a covariance, relative
    colour: float  # root mean square error of colours seen from random directions, and of opacities


def export(path: Name, kind: str, g: Gaussians, asked: Asked = Asked()) -> Exported:
    """Write splats in our world in a format of FORMATS and read them back; UserError if what comes back is not what was written, or if nothing
    could be written. What was at `path` is then as before.
    """
    path, form = Path(path), FORMATS[kind]
    meant = writable(path, g)
    with replacing(path) as temporary:
        try:
            form.write(temporary, g, asked)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), str(path))) from error
        try:
            got = form.read(temporary, asked).gaussians
        except UserError as error:
            why = str(error).replace(str(temporary), "it")
            raise UserError(f"{path} could not be read back, so it was not kept: {why}") from error
        rows = meant if form.order is None else meant[form.order(meant)]
        found = differences(rows.with_degree(min(rows.degree, form.degree)), got, path)
        check(found, form.limits, rows, path)
        size = temporary.stat().st_size
    return Exported(
        path, len(meant), len(g) - len(meant), size, found.place.max().item(), found.radius, found.shape.max().item(), found.colour
    )
