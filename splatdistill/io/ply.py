"""Gaussian splats as the .ply that every viewer opens.

Binary little-endian, one element `vertex`, 62 floats a row: x y z, nx ny nz (zero), f_dc_0..2, f_rest_0..44 (all of
red's coefficients, then green's, then blue's), opacity (logit), scale_0..2 (logarithm), rot_0..3 (wxyz, unit): the
layout of 3D Gaussian Splatting (arXiv:2308.04079). Lower degrees are filled up with zeros, since older importers take
nothing but 248 bytes a row. Read are also the layouts of gsplat and brush (no normals, any order), of nerfstudio (its
world is z-up and its header says so; colours may be red, green, blue in place of f_dc, and alpha in place of opacity), of
2D Gaussian Splatting (no scale_2: surfels, see `rows.thickened`), of balls (scale_0 alone), and SuperSplat's compressed one.

The renderer that splats were made for stands in a comment as brush writes it, SplatRenderMode: default, mip or 2dgs;
Postshot's `antialiased 1` is read too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io import frames, table
from splatdistill.io.compressed import ELEMENTS, unpacked
from splatdistill.io.frames import Up
from splatdistill.io.opening import Name
from splatdistill.io.rows import Model, Read, Written, judged, writable
from splatdistill.io.table import ElementTable, colour_names, colours, read_properties, read_tables, unescape, write_table

OPACITY_MARGIN = 1e-6  # opacities are kept this far from 0 and 1, where the logit is infinite
LONGEST = 1000  # characters of one comment; longer ones are cut, visibly
MODE = "SplatRenderMode"
MODES: dict[Model, str] = {"default": "default", "antialiased": "mip", "2dgs": "2dgs"}
MODELS: dict[str, Model] = {mode: model for model, mode in MODES.items()}
MADE_BY = "made by splatdistill"  # the first comment of our files: the next ones are ours too
XYZ, DC = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2")
SCALE, ROT = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")


@dataclass(frozen=True)
class Provenance:
    """Origin of splats, for the header."""

    prompt: str
    prior: str
    """Name of the diffusion model."""
    licence: str
    """Licence of the model's weights."""
    version: str
    """Version of splatdistill."""

    def comments(self) -> list[str]:
        """Return header comments, one fact each."""
        return [
            f"prompt {self.prompt}",
            f"prior {self.prior}",
            f"licence of the prior's weights {self.licence}",
            f"splatdistill version {self.version}",
        ]


def write_ply(
    path: Name,
    gaussians: Gaussians,
    comments: Sequence[str] = (),
    up: Up = "viewer",
    facing: float = 0.0,
    pad: bool = True,
    model: Model = "default",
) -> Written:
    """Write splats; Gaussians with a value that is not finite are left out and counted.

    up: the world of the file; in that of "viewer" they stand upright in viewers, "raw" keeps ours. `facing`: which
    azimuth (degrees, 0 is our front) becomes the front there. pad: fill up to degree 3. model: told in a comment. UserError
    if nothing could be written; what was at `path` is then as before.
    """
    path = Path(path)
    turned = frames.placed(writable(path, gaussians), frames.into(up, facing))
    names, values = _columns(turned, pad)
    rows = values.astype("<f4").view([(n, "<f4") for n in names])[:, 0]
    own = [MADE_BY, f"up {up}", f"degree {gaussians.degree}"]
    given = [c if len(c) <= LONGEST else c[:LONGEST] + " [cut]" for c in comments]
    write_table(path, rows, [*own, *given, f"{MODE}: {MODES[model]}"])
    return Written(path, len(rows), len(gaussians) - len(rows))


def load_ply(path: Name, up: Up | None = None) -> Read:
    """Read the splats of a .ply file, on the CPU, in our world; positions stay double where the file's are.

    up: the world of the file; by default what its own comments say, "viewer" where they say nothing. Rows that no
    Gaussian can have are left out and counted. UserError if it is no such file, or if no row is left.
    """
    tables = read_tables(path, ELEMENTS if "packed_position" in read_properties(path) else [])
    rows = tables["vertex"]
    notes = rows.comments[1:3] if rows.comments[:1] == (MADE_BY,) else ()
    raw, told = (unpacked(tables), ()) if "packed_position" in (rows.rows.dtype.names or ()) else _gaussians(rows)
    degree = next((d for d in range(raw.degree) if f"degree {d}" in notes), raw.degree)
    if not raw.sh[:, (degree + 1) ** 2 :].any():  # bands that only fill up the rows
        raw = raw.with_degree(degree)
    surfels = {"scale_1", "scale_2"} & {*(rows.rows.dtype.names or ())} == {"scale_1"}
    found = judged(path, raw, told, "2dgs" if surfels else _model(rows.comments))
    return replace(found, gaussians=frames.placed(found.gaussians, frames.into(up or _up(rows.comments, notes)).T))


def _model(comments: tuple[str, ...]) -> Model:
    """Return the renderer that a file's comments name, the last of them; the default where they name none that is known."""
    found: Model = "default"
    for words in (c.lower().replace(":", " ").split() for c in comments):
        match words:
            case ["splatrendermode", mode]:
                found = MODELS.get(mode, "default")
            case ["antialiased", flag]:
                found = "antialiased" if flag == "1" else "default"
    return found


def _up(comments: tuple[str, ...], ours: tuple[str, ...]) -> Up:
    """Return the world of a file. nerfstudio's says that z is up; what brush says of y is a constant and means nothing."""
    if any(c.lower().split() == ["vertical", "axis:", "z"] for c in comments):
        return "raw"
    said: list[Up] = [up for up in get_args(Up) if f"up {up}" in ours]
    return said[0] if said else "viewer"


def read_comments(path: Name) -> tuple[str, ...]:
    """Return the header's comments; those that `write_ply` escaped as they were given to it."""
    comments = table.read_comments(path)
    return tuple(unescape(c) for c in comments) if MADE_BY in comments else comments


def is_splats(path: Name) -> bool:
    """Return whether a .ply holds Gaussian splats, not mere points; UserError if it is no .ply."""
    return bool({"f_dc_0", "rot_0", "packed_position"} & {*read_properties(path)})


def _columns(g: Gaussians, pad: bool) -> tuple[list[str], np.ndarray]:
    """Return names and values of a row, in the order that viewers expect."""
    n = len(g)
    rest = (g.with_degree(3) if pad else g).sh[:, 1:].transpose(1, 2).flatten(1)  # channel-major
    opacities = g.opacities.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    parts = [
        g.means, torch.zeros(n, 3), g.sh[:, 0], rest, torch.logit(opacities)[:, None], g.scales.log(), g.quats,
    ]  # fmt: skip
    names = [*XYZ, "nx", "ny", "nz", *DC, *(f"f_rest_{i}" for i in range(rest.shape[1])), "opacity", *SCALE, *ROT]
    return names, torch.cat(parts, 1).numpy()


def _gaussians(rows: ElementTable) -> tuple[Gaussians, tuple[str, ...]]:
    """Return physical values in the file's own frame, unchecked, and what of them a person should know."""
    there = {*(rows.rows.dtype.names or ())}
    coloured = DC[0] not in there and colour_names(rows) is not None
    opaque = "opacity" not in there and "alpha" in there
    sizes = _sizes(there)
    wanted = (*XYZ, *(() if coloured else DC), *(() if opaque else ("opacity",)), *sizes, *ROT)
    rows.demand(wanted, "Gaussian splats")
    found = {n for n in there if n.startswith("f_rest_")}
    rest = [f"f_rest_{i}" for i in range(len(found))]
    if len(rest) not in (0, 9, 24, 45) or found != set(rest):
        raise UserError(
            f"{rows.path} has {len(rest)} properties f_rest_*; expected f_rest_0 and so on, 0, 9, 24 or 45 of them, "
            "for spherical harmonics of degree 0 to 3"
        )
    rows.demand(rest, "Gaussian splats")
    bands = rows.columns(rest).reshape(len(rows.rows), 3, len(rest) // 3).transpose(0, 2, 1)
    rgb, told = colours(rows) if coloured else (None, ())
    base = rows.columns(DC) if rgb is None else (rgb - 0.5) / SH_C0
    alpha = rows.share("alpha") if opaque else rows.column("opacity")
    opacities = torch.from_numpy(alpha) if opaque else torch.from_numpy(alpha).sigmoid()
    scales = torch.from_numpy(rows.columns(sizes)).exp()
    if len(sizes) == 2:  # a surfel of 2D Gaussian Splatting (arXiv:2403.17888) has no third
        scales = torch.cat([scales, torch.zeros(len(scales), 1)], 1)
    return Gaussians(
        means=torch.from_numpy(rows.positions(XYZ)),
        quats=torch.from_numpy(rows.columns(ROT)),
        scales=scales if len(sizes) > 1 else scales.repeat(1, 3),
        opacities=opacities,
        sh=torch.from_numpy(np.concatenate([base[:, None], bands], 1)),
    ), told


def _sizes(there: set[str]) -> tuple[str, ...]:
    """Return the logarithms of sizes that a row has: three; two of a surfel; or one, where splats are balls."""
    if "scale_0" in there and "scale_2" not in there:
        return SCALE[:2] if "scale_1" in there else SCALE[:1]
    return SCALE
