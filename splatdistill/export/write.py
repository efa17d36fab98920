"""Splats into a file of any format, read back and compared before it takes its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from splatdistill import sh
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians, rotation_matrices
from splatdistill.io import sog, splat
from splatdistill.io.atomic import replacing
from splatdistill.io.frames import Up
from splatdistill.io.html import read_html, write_html
from splatdistill.io.ply import read_ply, write_ply
from splatdistill.io.rows import writable
from splatdistill.io.sog import read_sog, write_sog
from splatdistill.io.splat import read_splat, write_splat
from splatdistill.io.spz import read_spz, write_spz

SplatFormat = Literal["ply", "splat", "spz", "sog", "html"]


@dataclass(frozen=True)
class Asked:
    """What a format may heed or not."""

    up: Up = "viewer"  # the world of the file, where the format prescribes none
    comments: tuple[str, ...] = ()  # where the splats come from, one fact each; .splat and .spz have no room for them
    pad: bool = True  # fill rows of a .ply up to degree 3


@dataclass(frozen=True)
class Format:
    """How one kind of file is written and read, and how near it must come back."""

    write: Callable[[Path, Gaussians, Asked], object]
    read: Callable[[Path, Asked], Gaussians]
    place: float  # greatest error of a position, relative to the farthest one
    shape: float  # root mean square error of covariances, relative
    colour: float  # root mean square error of colours and opacities
    order: Callable[[Gaussians], Tensor] | None = None  # of its rows; None is ours
    up: Up | None = None  # its world, where it is prescribed
    degree: int = 3


FORMATS: dict[SplatFormat, Format] = {
    "ply": Format(
        lambda path, g, asked: write_ply(path, g, asked.comments, up=asked.up, pad=asked.pad),
        lambda path, asked: read_ply(path),
        place=1e-5, shape=1e-4, colour=1e-4,
    ),
    "splat": Format(
        lambda path, g, asked: write_splat(path, g, asked.up),
        lambda path, asked: read_splat(path, up=asked.up),
        place=1e-5, shape=0.05, colour=0.02, order=splat.order, degree=0,
    ),
    "spz": Format(
        lambda path, g, asked: write_spz(path, g),
        lambda path, asked: read_spz(path),
        place=1e-4, shape=0.1, colour=0.05, up="gltf",
    ),
    "sog": Format(
        lambda path, g, asked: write_sog(path, g, asked.comments),
        lambda path, asked: read_sog(path),
        place=1e-3, shape=0.2, colour=0.1, order=sog.order, up="viewer",  # higher bands share a palette
    ),
    "html": Format(
        lambda path, g, asked: write_html(path, g, asked.comments, title(asked.comments)),
        lambda path, asked: read_html(path),
        place=1e-4, shape=0.1, colour=0.05, up="gltf",
    ),
}  # fmt: skip


def title(comments: Sequence[str]) -> str:
    """What a page is called: the prompt, where it is known."""
    return next((c.removeprefix("prompt ") for c in comments if c.startswith("prompt ")), "splats")


@dataclass(frozen=True)
class Exported:
    """A file, and what came back from it."""

    path: Path
    count: int
    dropped: int  # left out because no row can hold them
    bytes: int
    place: float  # greatest error of a position, world units
    shape: float  # root mean square error of covariances, relative
    colour: float  # root mean square error of colours seen from random directions, and of opacities


def export(path: Path, kind: SplatFormat, g: Gaussians, asked: Asked = Asked()) -> Exported:
    """Write splats in our world and read them back; UserError if what comes back is not what was written, or if nothing
    could be written. What was at `path` is then as before.
    """
    form = FORMATS[kind]
    meant = writable(path, g)
    with replacing(path) as temporary:
        form.write(temporary, g, asked)
        try:
            got = form.read(temporary, asked)
        except UserError as error:
            raise UserError(f"{path} could not be read back, so it was not kept: {error}") from error
        meant = meant if form.order is None else meant[form.order(meant)]
        place, shape, colour = differences(meant.with_degree(min(meant.degree, form.degree)), got, path)
        far = meant.means.abs().max().clamp_min(1e-6).item()
        if place > form.place * far or shape > form.shape or colour > form.colour:
            raise UserError(
                f"{path} does not read back as what was to be written, so it was not kept: positions differ by "
                f"{place:.2g}, shapes by {shape:.1%}, colours by {colour:.2g}. A .{kind} holds colours of about -0.4 "
                "to 1.4 and sizes of 5e-5 to 300: if these splats are within that, please report it; .ply holds all"
            )
        size = temporary.stat().st_size
    return Exported(path, len(meant), len(g) - len(meant), size, place, shape, colour)


def differences(a: Gaussians, b: Gaussians, path: Path) -> tuple[float, float, float]:
    """Greatest distance of positions; root mean square difference of covariances, relative, and of colours and
    opacities, row by row.
    """
    if len(a) != len(b) or a.degree < b.degree:
        raise UserError(
            f"{path} holds {len(b)} splats of degree {b.degree}; {len(a)} of degree {a.degree} were written"
        )
    axes = [rotation_matrices(g.quats) * g.scales[:, None, :] for g in (a, b)]
    first, second = (x @ x.transpose(1, 2) for x in axes)
    shape = (first - second).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1).clamp_min(1e-30)
    rng = torch.Generator().manual_seed(0)
    along = torch.nn.functional.normalize(torch.randn(len(a), 3, generator=rng), dim=1)
    # beyond the visible range formats may cut
    seen, other = (torch.cat([sh.evaluate(g.sh, along).add(0.5).clamp(0, 1), g.opacities[:, None]], 1) for g in (a, b))
    return (
        (a.means - b.means).norm(dim=1).max().item(),
        shape.square().mean().sqrt().item(),
        (seen - other).square().mean().sqrt().item(),
    )
