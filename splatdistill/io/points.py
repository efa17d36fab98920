"""Point clouds from .ply files."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.io.table import RGB, colours, read_table


@dataclass(frozen=True)
class Points:
    """A point cloud."""

    xyz: Float[Tensor, "n 3"]
    rgb: Float[Tensor, "n 3"] | None  # in [0, 1]; None if the file has no colours


def read_points(path: Path, drop_invalid: bool = False) -> Points:
    """The points of any .ply with x y z, and red green blue (integers, or floats in [0, 1]) if it has them.

    They are not turned: point clouds have no common convention of what is up. UserError if the file cannot be read,
    or if values are not finite and `drop_invalid` does not allow to leave those points out.
    """
    table = read_table(path)
    table.demand(("x", "y", "z"), "a point cloud")
    xyz, rgb = torch.from_numpy(table.columns(("x", "y", "z"))), None
    good = xyz.isfinite().all(1)
    if set(RGB) <= set(table.rows.dtype.names or ()):
        rgb = torch.from_numpy(colours(table))
        good &= rgb.isfinite().all(1)
        rgb = rgb.clamp(0, 1)
    if bad := int((~good).sum()):
        if not drop_invalid:
            raise UserError(
                f"{bad} of {len(good)} points of {path} hold NaN or infinite values; leave them out with "
                "--init.drop-invalid (drop_invalid=True), or repair the file"
            )
        xyz, rgb = xyz[good], None if rgb is None else rgb[good]
    return Points(xyz, rgb)
