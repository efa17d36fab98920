"""Splats as a textured mesh: views, surface, texture, file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from splatdistill.errors import UserError
from splatdistill.export.bake import baked
from splatdistill.export.prepare import Pivot
from splatdistill.export.surface import COARSEST, FINEST, PIXELS, VIEWS, at_most, look_around, surface
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import sphere
from splatdistill.io.mesh import Material, Mesh, WrittenMesh, library, write_glb, write_obj
from splatdistill.io.opening import Name
from splatdistill.render import Rasterizer

MeshFormat = Literal["glb", "obj"]
WRITERS = {"glb": write_glb, "obj": write_obj}
STEPS = VIEWS + 2  # views, surface, texture
LOST, USUAL = 0.1, 100  # of a cell that a vertex may be off, and cells along a side where none are asked for
TRIANGLES = 30_000  # a few megabytes, which any engine takes


def meshed(
    g: Gaussians,
    render: Rasterizer,
    resolution: int | None = None,
    texture: int | None = None,
    triangles: int | None = None,
    step: Callable[[int], None] = lambda k: None,
) -> Mesh:
    """Return the textured surface of splats, where they are. resolution: cells along the longest side; by default as many as
    give at most so many triangles (by default TRIANGLES). step: told how many of STEPS are done.
    """
    if resolution is not None and triangles is not None:
        raise UserError("--triangles and --resolution both say how fine the mesh is; give one of them")
    if resolution is not None and not COARSEST <= resolution <= FINEST:
        raise UserError(f"--resolution is cells along the longest side, {COARSEST} to {FINEST}; got {resolution}")
    if triangles is not None and triangles < 1:
        raise UserError(f"--triangles is how many there may be, at least 1; got {triangles}")
    library()  # before the work
    middle, radius = sphere(g)
    if not np.spacing(np.float32(middle.abs().max().item())) <= LOST * 2 * radius / (resolution or USUAL):
        raise UserError(
            f"the object lies {middle.norm().item():.3g} from the origin, where single precision cannot tell a mesh's vertices "
            "apart: move it there with --pivot centre"
        )
    centred = replace(g, means=g.means - middle).to(dtype=torch.float32)  # after moving: far away single loses places
    seen = look_around(centred, render, max(PIXELS, min(2 * (resolution or 0), 512)), step)
    here = centred.to("cpu")
    shape = surface(here, seen, resolution) if resolution else at_most(here, seen, triangles or TRIANGLES)
    step(VIEWS + 1)
    mesh = baked(shape, seen, texture)
    step(STEPS)
    return replace(mesh, vertices=(mesh.vertices + middle.cpu().double().numpy()).astype(np.float32))


def seated(mesh: Mesh, height: float | None, pivot: Pivot) -> Mesh:
    """Return a mesh of exactly this height (None: as high as it is) with the origin where its own box says: the surface of
    splats ends some per cent beside the box of the splats, by which these were prepared.
    """
    v = mesh.vertices.astype(np.float64)
    if height is not None:
        v *= height / max(np.ptp(v[:, 2]), 1e-12)
    if pivot != "keep":
        low, high = v.min(0), v.max(0)
        v -= np.append(0.5 * (low + high)[:2], low[2] if pivot == "ground" else 0.5 * (low + high)[2])
    return replace(mesh, vertices=v.astype(np.float32))


def sides(mesh: Mesh) -> list[float]:
    """Return a mesh's size along x, y and z."""
    return np.ptp(mesh.vertices, axis=0).tolist()


def write(path: Name, kind: MeshFormat, mesh: Mesh, comments: Sequence[str], material: Material = "unlit") -> WrittenMesh:
    """Write a mesh and read it back."""
    return WRITERS[kind](path, mesh, comments, material)


def description(made: WrittenMesh) -> str:
    """Describe the contents of a mesh's file."""
    mesh, form = made.mesh, made.form
    height, width = mesh.texture.shape[:2]
    charts = f"{mesh.charts} chart{'s' if mesh.charts > 1 else ''}"
    shape = f"{form.pieces} piece{'s' if form.pieces > 1 else ''}, "
    shape += f"watertight, genus {form.genus}" if form.watertight else "with holes"
    return (
        f"{len(mesh.vertices)} vertices ({len(mesh.uv)} with seams), {len(mesh.faces)} triangles, {charts} in a texture of "
        f"{width}x{height}; {shape}"
    )
