"""Point clouds from .ply files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.io.opening import Name
from splatdistill.io.rows import lacking
from splatdistill.io.table import colour_names, colours, read_table


@dataclass(frozen=True)
class Points:
    """Point cloud."""

    path: Path
    xyz: Float[Tensor, "n 3"]  # float32, or float64 where the file has doubles
    rgb: Float[Tensor, "n 3"] | None  # in [0, 1]; None if the file has no colours
    dropped: Mapping[str, int] = field(default_factory=dict)  # points left out, by what is wrong with them
    notes: tuple[str, ...] = ()  # what was changed, one fact each

    def messages(self) -> tuple[str, ...]:
        """Return what a person should know of the reading, a line each."""
        rows = len(self.xyz) + sum(self.dropped.values())
        left = (f"left out {lacking(self.dropped, rows, 'points')} of {self.path}",) if self.dropped else ()
        return (*left, *(f"{self.path}: {note}" for note in self.notes))


def read_points(path: Name, drop_invalid: bool = False) -> Points:
    """Read the points of any .ply with x y z, and red green blue (integers, floats in [0, 1], or floats of 0 to 255) if it
    has them.

    They are not turned: point clouds have no common convention of what is up. UserError if the file cannot be read, if
    values are not finite and `drop_invalid` does not allow to leave those points out, or if none is left.
    """
    table = read_table(path)
    table.demand(("x", "y", "z"), "a point cloud")
    xyz, rgb, notes = torch.from_numpy(table.positions(("x", "y", "z"))), None, ()
    wrong = {"a position that is not finite": ~xyz.float().isfinite().all(1)}
    if colour_names(table) is not None:
        values, notes = colours(table)
        rgb = torch.from_numpy(values)
        wrong["a colour that is not finite"] = wrong["a position that is not finite"].logical_not() & ~rgb.isfinite().all(1)
        rgb = rgb.clamp(0, 1)
    dropped = {reason: count for reason, bad in wrong.items() if (count := int(bad.sum()))}
    if dropped and not drop_invalid:
        raise UserError(
            f"{lacking(dropped, len(xyz), 'points')} of {path}; leave them out with --init.drop-invalid "
            "(drop_invalid=True), or repair the file"
        )
    good = ~torch.stack([*wrong.values()]).any(0)
    if not good.any():
        raise UserError(f"{path} holds no usable points; expected at least one row of finite values")
    return Points(Path(path), xyz[good], None if rgb is None else rgb[good], dropped, notes)
