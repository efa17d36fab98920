"""Rows of splats, whatever the format: which of them are Gaussians, and what became of a file that was read or written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.opening import Name

MOST = 10_000_000  # Gaussians of a packed file, as for the reference reader of .spz: a small file may claim any number
RATIO = 2  # Gaussians per byte of a packed file, at most, where 0.1 is usual: more is made to fill memory
FLAT = 1e-4  # least thickness of a splat, relative to its longest axis
LARGEST, SMALLEST = 1e18, 1e-18  # lengths whose squares single precision holds, as covariances need it
SEEN = 1 / 255  # opacity below which nothing draws a splat
COARSE = 0.1  # of a splat's size: steps of a position above that are told
Model = Literal["default", "antialiased", "2dgs"]
"""Renderer that splats were made for. antialiased: opacities fall as the blur of a pixel widens a splat (Mip-Splatting,
arXiv:2311.16493, eq. 9, and gsplat's rasterize_mode); 2dgs: surfels (arXiv:2403.17888), met by rays."""
DRAWN: dict[Model, str] = {
    "default": "",
    "antialiased": "it was made for a renderer with antialiasing (mip); here and in viewers without it, fine parts look bolder from afar",
    "2dgs": "it was made for a renderer of surfels (2dgs), and is drawn as flat ellipsoids here",
}


@dataclass(frozen=True)
class Read:
    """Splats of a file, and counts of the left out and changed ones."""

    path: Path
    gaussians: Gaussians  # in our world, on the CPU; float32, but for means that the file holds as doubles
    dropped: Mapping[str, int] = field(default_factory=dict)  # rows that are no Gaussians, by what is wrong with them
    notes: tuple[str, ...] = ()  # what was changed, one fact each
    model: Model = "default"  # what the file says of its renderer

    @property
    def rows(self) -> int:
        """Return the number of rows of the file."""
        return len(self.gaussians) + sum(self.dropped.values())

    def messages(self) -> tuple[str, ...]:
        """Return what a person should know of the reading, a line each."""
        left = (f"left out {lacking(self.dropped, self.rows)} of {self.path}",) if self.dropped else ()
        return (*left, *(f"{self.path}: {note}" for note in self.notes))

    def strict(self, drop_invalid: bool = False) -> Gaussians:
        """Return the splats in single precision; UserError if rows were left out and `drop_invalid` does not allow it."""
        if self.dropped and not drop_invalid:
            raise UserError(
                f"{lacking(self.dropped, self.rows)} of {self.path}; leave them out with --init.drop-invalid "
                "(drop_invalid=True), or repair the file"
            )
        return self.gaussians.to(dtype=torch.float32)


@dataclass(frozen=True)
class Written:
    """Result of an export."""

    path: Path
    count: int  # Gaussians in the file
    dropped: int  # left out because no row can hold them


def lacking(dropped: Mapping[str, int], rows: int, what: str = "rows") -> str:
    """Return how many of the rows are unusable and why: '3 of 9 rows (2 with ..., 1 with ...)'."""
    reasons = ", ".join(f"{count} with {reason}" for reason, count in dropped.items())
    return f"{sum(dropped.values())} of {rows} {what} ({reasons})"


def faults(g: Gaussians) -> dict[str, Bool[Tensor, " n"]]:
    """Return for each thing that a Gaussian cannot have, the rows that have it."""
    longest = g.scales.amax(1)
    return {
        f"a position that is not finite or beyond {LARGEST:g}": ~(g.means.abs() <= LARGEST).all(1),
        f"a size that is not finite or above {LARGEST:g}": ~(longest <= LARGEST),
        "no size": ~(longest >= SMALLEST) | ~(g.scales > 0).all(1),
        "a rotation of length 0 or not finite": ~((g.quats.norm(dim=1) - 1).abs() < 0.5),
        "an opacity that is not a number": ~g.opacities.isfinite(),
        "a colour that is not finite": ~g.sh.flatten(1).isfinite().all(1),
    }


def unit(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Return q / |q|, also where |q|^2 leaves the range of single precision; zero where |q| is 0."""
    q = quats.double()
    return (q / q.norm(dim=1, keepdim=True).clamp_min(1e-300)).to(torch.float32)


def flat(scales: Float[Tensor, "n 3"]) -> Bool[Tensor, "n 3"]:
    """Return which axes have no length, or less than FLAT of the longest: those of surfels."""
    return (scales >= 0) & (scales < FLAT * scales.amax(1, keepdim=True))


def thickened(scales: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Return the scales with flat axes thickened to FLAT of the longest; axes of a splat without length, or with a negative one, stay."""
    return torch.where(flat(scales), FLAT * scales.amax(1, keepdim=True), scales)


def judged(path: Name, raw: Gaussians, notes: tuple[str, ...] = (), model: Model = "default") -> Read:
    """Return the rows of a file that are Gaussians, with what was left out counted by reason; UserError if none are left."""
    path = Path(path)
    surfels = flat(raw.scales).any(1)
    raw = replace(raw, quats=unit(raw.quats), scales=thickened(raw.scales))
    good = torch.ones(len(raw), dtype=torch.bool)
    dropped: dict[str, int] = {}
    for reason, bad in faults(raw).items():
        if count := int((bad & good).sum()):
            dropped[reason] = count
        good &= ~bad
    if not good.any():
        why = f": {lacking(dropped, len(raw))} cannot be used" if dropped else ", and there are none"
        raise UserError(f"{path} holds no usable Gaussians; expected at least one row of finite values{why}")
    g = raw[good] if dropped else raw
    if count := int((surfels & good).sum()):
        notes = (*notes, f"{count} flat splats have a thickness of {FLAT:g} of their longest axis now")
    if not (g.opacities >= SEEN).any():
        notes = (*notes, f"nothing of it is seen: no splat is more opaque than {g.opacities.max().item():.2g}")
    told = (DRAWN[model],) if DRAWN[model] else ()
    return Read(path, g, dropped, (*notes, *told, *coarse(g)), model)


def coarse(g: Gaussians) -> tuple[str, ...]:
    """Return a note if single precision holds positions in steps that are large beside the splats' sizes."""
    if g.means.dtype != torch.float32:
        return ()
    far = g.means.abs().amax(1)
    step = torch.nextafter(far, torch.full_like(far, torch.inf)) - far
    size = g.scales.amax(1)
    share = (step / size).median().item()
    if share <= COARSE:
        return ()
    return (
        f"positions are as far as {far.max().item():.3g} from the origin and single precision holds them in steps of "
        f"{step.median().item():.2g}, where splats are {size.median().item():.2g} large: what made the file lost "
        "their places; write it again about the origin, or with double x y z",
    )


def writable(path: Name, g: Gaussians) -> Gaussians:
    """Return the Gaussians that a file can hold, on the CPU, rotations of unit length; UserError if there are none. All
    but positions is float32: formats round those as they must.
    """
    means = g.means.detach().to("cpu")
    g = g.detach().to("cpu", torch.float32)
    g = replace(g, means=means, quats=unit(g.quats), scales=thickened(g.scales))
    bad = torch.stack([*faults(g).values()]).any(0)
    if bad.all():
        raise UserError(f"nothing to write to {path}: of {len(bad)} Gaussians none has only finite values")
    return g[~bad]
