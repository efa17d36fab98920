"""Splats as a textured mesh: views, surface, texture, file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from splatdistill.errors import UserError
from splatdistill.export.bake import baked
from splatdistill.export.surface import VIEWS, look_around, surface
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import sphere
from splatdistill.io.mesh import Mesh, WrittenMesh, library, write_glb, write_obj
from splatdistill.render import Rasterizer

MeshFormat = Literal["glb", "obj"]
WRITERS = {"glb": write_glb, "obj": write_obj}
STEPS = VIEWS + 2  # views, surface, texture


def meshed(
    g: Gaussians, render: Rasterizer, resolution: int, texture: int | None = None, step: Callable[[int], None] = lambda k: None
) -> Mesh:
    """The textured surface of splats, where they are. resolution: cells along the longest side; step: told how many of
    STEPS are done.
    """
    if not 8 <= resolution <= 512:
        raise UserError(f"--resolution is cells along the longest side, 8 to 512; got {resolution}")
    library()  # before the work
    middle = sphere(g)[0]
    centred = replace(g, means=g.means - middle)
    seen = look_around(centred, render, max(128, min(2 * resolution, 512)), step)
    shape = surface(centred.to("cpu"), seen, resolution)
    step(VIEWS + 1)
    mesh = baked(shape, seen, texture)
    step(STEPS)
    return replace(mesh, vertices=mesh.vertices + middle.cpu().numpy())


def write(path: Path, kind: MeshFormat, mesh: Mesh, comments: Sequence[str]) -> WrittenMesh:
    """Write a mesh and read it back."""
    return WRITERS[kind](path, mesh, comments)
