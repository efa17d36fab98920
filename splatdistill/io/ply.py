"""Gaussian splats as the .ply that every viewer opens.

Binary little-endian, one element `vertex`, 62 floats a row: x y z, nx ny nz (zero), f_dc_0..2, f_rest_0..44 (all of
red's coefficients, then green's, then blue's), opacity (logit), scale_0..2 (logarithm), rot_0..3 (wxyz, unit): the
layout of 3D Gaussian Splatting (arXiv:2308.04079). Lower degrees are filled up with zeros, since older importers take
nothing but 248 bytes a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames, table
from splatdistill.io.frames import Up
from splatdistill.io.table import Table, read_properties, read_table, unescape, write_table

OPACITY_MARGIN = 1e-6  # opacities are kept this far from 0 and 1, where the logit is infinite
LONGEST = 1000  # characters of one comment; longer ones are cut, visibly
MADE_BY = "made by splatdistill"  # the first comment of our files: the next ones are ours too
XYZ, DC = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2")
SCALE, ROT = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")


@dataclass(frozen=True)
class Provenance:
    """Where splats come from, for the header."""

    prompt: str
    prior: str
    """Name of the diffusion model."""
    licence: str
    """Of the model's weights."""
    version: str
    """Of splatdistill."""

    def comments(self) -> list[str]:
        """Header comments, one fact each."""
        return [
            f"prompt {self.prompt}",
            f"prior {self.prior}",
            f"licence of the prior's weights {self.licence}",
            f"splatdistill version {self.version}",
        ]


@dataclass(frozen=True)
class Written:
    """What became of an export."""

    path: Path
    count: int  # Gaussians in the file
    dropped: int  # left out because a value of theirs was not finite


def write_ply(
    path: Path,
    gaussians: Gaussians,
    comments: Sequence[str] = (),
    up: Up = "viewer",
    facing: float = 0.0,
    pad: bool = True,
) -> Written:
    """Write splats; Gaussians with a value that is not finite are left out and counted.

    up: "viewer" turns them so that they stand upright in viewers with azimuth `facing` (degrees, 0 is our front)
    towards the viewer, "raw" keeps our z-up world. pad: fill up to degree 3. UserError if nothing could be written;
    what was at `path` is then as before.
    """
    turned = gaussians.detach().to("cpu", torch.float32)
    if up == "viewer":
        turned = frames.rotated(turned, frames.to_viewer(facing))
    names, values = _columns(turned, pad)
    good = np.isfinite(values).all(1)
    if not good.any():
        raise UserError(f"nothing to write to {path}: of {len(good)} Gaussians none has only finite values")
    rows = values[good].astype("<f4").view([(n, "<f4") for n in names])[:, 0]
    own = [MADE_BY, f"up {up}", f"degree {gaussians.degree}"]
    write_table(path, rows, [*own, *(c if len(c) <= LONGEST else c[:LONGEST] + " [cut]" for c in comments)])
    return Written(path, len(rows), int((~good).sum()))


def read_ply(path: Path, up: Up | None = None, drop_invalid: bool = False) -> Gaussians:
    """Splats of a .ply file, float32 on the CPU, in our world.

    up: the world of the file; by default what its own comment says, "viewer" where it says nothing. UserError if it is
    no such file, or if rows hold values that no Gaussian can have and `drop_invalid` does not allow to leave them out.
    """
    rows = read_table(path)
    notes = rows.comments[1:3] if rows.comments[:1] == (MADE_BY,) else ()
    raw = _gaussians(rows)
    degree = next((d for d in range(raw.degree) if f"degree {d}" in notes), raw.degree)
    if not raw.sh[:, (degree + 1) ** 2 :].any():  # bands that only fill up the rows
        raw = raw.with_degree(degree)
    good = raw.finite() & (raw.scales > 0).all(1) & (raw.quats.norm(dim=1) > 0.5)
    if bad := int((~good).sum()):
        if not drop_invalid:
            raise UserError(
                f"{bad} of {len(good)} rows of {path} hold NaN or infinite values, or a rotation of length 0; "
                "leave them out with --init.drop-invalid (drop_invalid=True), or repair the file"
            )
        raw = raw[good]
    if not len(raw):
        raise UserError(f"{path} holds no usable Gaussians; expected at least one row of finite values")
    if up is None:
        up = "raw" if "up raw" in notes else "viewer"
    return raw if up == "raw" else frames.rotated(raw, frames.inverse(frames.VIEWER))


def read_comments(path: Path) -> tuple[str, ...]:
    """The header's comments; those that `write_ply` escaped as they were given to it."""
    comments = table.read_comments(path)
    return tuple(unescape(c) for c in comments) if MADE_BY in comments else comments


def is_splats(path: Path) -> bool:
    """Whether a .ply holds Gaussian splats, not mere points; UserError if it is no .ply."""
    return "f_dc_0" in read_properties(path)


def _columns(g: Gaussians, pad: bool) -> tuple[list[str], np.ndarray]:
    """Names and values of a row, in the order that viewers expect."""
    n = len(g)
    rest = (g.with_degree(3) if pad else g).sh[:, 1:].transpose(1, 2).flatten(1)  # channel-major
    quats = g.quats / g.quats.norm(dim=1, keepdim=True)  # a length of 0 becomes NaN, and the row is left out
    opacities = g.opacities.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    parts = [
        g.means, torch.zeros(n, 3), g.sh[:, 0], rest, torch.logit(opacities)[:, None], g.scales.log(), quats,
    ]  # fmt: skip
    names = [*XYZ, "nx", "ny", "nz", *DC, *(f"f_rest_{i}" for i in range(rest.shape[1])), "opacity", *SCALE, *ROT]
    return names, torch.cat(parts, 1).numpy()


def _gaussians(rows: Table) -> Gaussians:
    """Physical values in the file's own frame; unchecked."""
    rows.demand((*XYZ, *DC, "opacity", *SCALE, *ROT), "Gaussian splats")
    found = {n for n in rows.rows.dtype.names or () if n.startswith("f_rest_")}
    rest = [f"f_rest_{i}" for i in range(len(found))]
    if len(rest) not in (0, 9, 24, 45) or found != set(rest):
        raise UserError(
            f"{rows.path} has {len(rest)} properties f_rest_*; expected f_rest_0 and so on, 0, 9, 24 or 45 of them, "
            "for spherical harmonics of degree 0 to 3"
        )
    rows.demand(rest, "Gaussian splats")
    bands = rows.columns(rest).reshape(len(rows.rows), 3, len(rest) // 3).transpose(0, 2, 1)
    return Gaussians(
        means=torch.from_numpy(rows.columns(XYZ)),
        quats=torch.nn.functional.normalize(torch.from_numpy(rows.columns(ROT)), dim=1),
        scales=torch.from_numpy(rows.columns(SCALE)).exp(),
        opacities=torch.from_numpy(rows.column("opacity")).sigmoid(),
        sh=torch.from_numpy(np.concatenate([rows.columns(DC)[:, None], bands], 1)),
    )
