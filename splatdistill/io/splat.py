"""Gaussian splats as .splat: 32 bytes each, colours of the constant band, no header.

A row is x y z (float32), the three standard deviations (float32), red green blue and opacity (bytes), and the rotation
(bytes, 128 + 128 q, wxyz), in the world of .ply viewers. The layout of the first WebGL viewer of splats
(antimatter15/splat), which shows a file while it loads: the largest and most opaque come first.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.frames import Up
from splatdistill.io.opening import Name, opened
from splatdistill.io.rows import Read, Written, judged, writable

ROW = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def order(g: Gaussians) -> Int[Tensor, " n"]:
    """Return for each row of a file the Gaussian that is there."""
    return (g.scales.log().sum(1).exp() * g.opacities).argsort(descending=True, stable=True)


def write_splat(path: Name, gaussians: Gaussians, up: Up = "viewer") -> Written:
    """Write splats, without what depends on the viewing direction. `up`, what is left out and what is raised: as
    `write_ply`.
    """
    g = frames.placed(writable(path, gaussians.with_degree(0)), frames.into(up))
    g = g[order(g)]
    rows = np.empty(len(g), ROW)
    rows["xyz"], rows["scale"] = g.means, g.scales
    rows["rgba"] = _bytes(255 * torch.cat([g.rgb, g.opacities[:, None]], 1))
    quats = torch.nn.functional.normalize(g.quats, dim=1)
    # 256 does not fit into a byte, 0 does, and -q is the same rotation
    rows["quat"] = _bytes(128 + 128 * torch.where(quats.amax(1, keepdim=True) > 127.5 / 128, -quats, quats))
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(rows.tobytes())
    return Written(Path(path), len(g), len(gaussians) - len(g))


def load_splat(path: Name, up: Up = "viewer") -> Read:
    """Read the splats of a .splat file, on the CPU, in our world; errors as `load_ply`. up: the world of the file, which
    does not say.
    """
    with opened(path) as file:
        data = file.read()
    if not data or len(data) % ROW.itemsize:
        raise UserError(
            f"{path} is not a .splat that can be read: expected rows of {ROW.itemsize} bytes, and at least one, "
            f"got {len(data)} bytes; is it truncated?"
        )
    rows = np.frombuffer(data, ROW)
    rgba, quats = (torch.from_numpy(rows[n].astype(np.float32)) for n in ("rgba", "quat"))
    raw = Gaussians(
        means=torch.from_numpy(rows["xyz"].astype(np.float32)),
        quats=(quats - 128) / 128,
        scales=torch.from_numpy(rows["scale"].astype(np.float32)),
        opacities=rgba[:, 3] / 255,
        sh=((rgba[:, :3] / 255 - 0.5) / SH_C0)[:, None],
    )
    found = judged(path, raw)
    return replace(found, gaussians=frames.placed(found.gaussians, frames.into(up).T))


def _bytes(values: Tensor) -> np.ndarray:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()
