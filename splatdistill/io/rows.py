"""What all formats of splats share: opening a file, what a row may hold, and what became of a write."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians

MOST = 10_000_000  # Gaussians of a packed file, as for the reference reader of .spz: a small file may claim any number
RATIO = 2  # Gaussians per byte of a packed file, at most, where 0.1 is usual: more is made to fill memory


@dataclass(frozen=True)
class Written:
    """What became of an export."""

    path: Path
    count: int  # Gaussians in the file
    dropped: int  # left out because a value of theirs was not finite


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file's bytes; UserError for what is not there, is no file, or cannot be read."""
    if not path.exists():
        raise UserError(f"no file {path}; check the name (it is looked for in {Path.cwd()})")
    if not path.is_file():  # a pipe would wait for ever
        raise UserError(f"{path} is not a file; give a file of splats" + (" inside it" if path.is_dir() else ""))
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def usable(g: Gaussians) -> Bool[Tensor, " n"]:
    """Which rows are Gaussians: finite, of positive size, with a rotation."""
    return g.finite() & (g.scales > 0).all(1) & (g.quats.norm(dim=1) > 0.5)


def kept(path: Path, raw: Gaussians, drop_invalid: bool) -> Gaussians:
    """The rows of a file that are Gaussians. UserError if there are none, or if others are among them and
    `drop_invalid` does not allow to leave those out.
    """
    good = usable(raw)
    if bad := int((~good).sum()):
        if not drop_invalid:
            raise UserError(
                f"{bad} of {len(good)} rows of {path} hold NaN or infinite values, or a rotation of length 0; "
                "leave them out with --init.drop-invalid (drop_invalid=True), or repair the file"
            )
        raw = raw[good]
    if not len(raw):
        raise UserError(f"{path} holds no usable Gaussians; expected at least one row of finite values")
    return raw


def writable(path: Path, g: Gaussians) -> Gaussians:
    """The Gaussians that a file can hold, float32 on the CPU, rotations of unit length; UserError if there are none."""
    g = g.detach().to("cpu", torch.float32)
    g = replace(g, quats=torch.nn.functional.normalize(g.quats, dim=1))
    good = usable(g)
    if not good.any():
        raise UserError(f"nothing to write to {path}: of {len(good)} Gaussians none has only finite values")
    return g[good]
