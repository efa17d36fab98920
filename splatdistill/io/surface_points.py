"""Points on the surfaces of meshes that other programs made: .glb and .obj, by trimesh (extra `mesh`)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from splatdistill.errors import UserError
from splatdistill.io.opening import Name
from splatdistill.io.points import Points

SUFFIXES = (".glb", ".gltf", ".obj")
NEEDS = 'reading a mesh needs trimesh, which is not here: pip install "trimesh>=4,<6"'


def is_mesh(path: Name) -> bool:
    """Return whether a file's name is that of a readable mesh format."""
    return Path(path).suffix.lower() in SUFFIXES


def read_surface(path: Name, count: int, rng: torch.Generator) -> Points:
    """Return `count` points spread evenly over the faces of a mesh, in the mesh's own axes, with the colours of its texture,
    vertices or faces; without colours where it has none. UserError for a file that is no mesh.
    """
    try:
        import trimesh
    except ImportError as error:
        raise UserError(NEEDS) from error
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; expected a mesh ({', '.join(SUFFIXES)})")
    try:
        pieces = [m for m in trimesh.load_scene(str(path), process=False).dump() if isinstance(m, trimesh.Trimesh) and len(m.faces)]
        drawn = [sampled(m) for m in pieces]
    except Exception as error:  # whatever a reader of many formats raises over a broken file
        said = str(error).strip().splitlines() or [""]
        raise UserError(f"{path} cannot be read as a mesh ({type(error).__name__}: {said[0][:160]}); expected {', '.join(SUFFIXES)}") from error
    areas = np.concatenate([m.area_faces for m in pieces]) if pieces else np.zeros(0)
    if not np.isfinite(areas).all() or areas.sum() <= 0:
        raise UserError(f"{path} has no surface: {len(areas)} faces without area; expected the mesh of an object")
    chosen = torch.multinomial(torch.from_numpy(areas), count, replacement=True, generator=rng).numpy()
    share = torch.rand(count, 2, generator=rng, dtype=torch.float64).numpy()
    xyz, rgb = np.empty((count, 3)), np.empty((count, 3))
    start, coloured = 0, False
    for mesh, colour in zip(pieces, drawn):
        here = (chosen >= start) & (chosen < start + len(mesh.faces))
        corners = barycentric(share[here])
        faces = chosen[here] - start
        xyz[here] = np.einsum("nk,nkc->nc", corners, mesh.vertices[mesh.faces[faces]])
        found = colour(faces, corners)
        coloured = coloured or found is not None
        rgb[here] = 0.5 if found is None else found
        start += len(mesh.faces)
    if not np.isfinite(xyz).all():
        raise UserError(f"{path} has vertices that are not finite; expected the mesh of an object")
    return Points(path, torch.from_numpy(xyz).float(), torch.from_numpy(rgb).float().clamp(0, 1) if coloured else None)


def barycentric(share: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Return weights of the corners that spread points evenly over a triangle: those beyond its diagonal are folded back."""
    folded = np.where(share.sum(1, keepdims=True) > 1, 1 - share, share)
    return np.concatenate([1 - folded.sum(1, keepdims=True), folded], 1)


def sampled(mesh: Any) -> Any:
    """Return a function from faces and weights of their corners to colours in [0, 1], or to None where the mesh has none."""
    visual = mesh.visual
    if visual.kind == "texture":
        material = visual.material
        picture = getattr(material, "baseColorTexture", None) if hasattr(material, "baseColorTexture") else getattr(material, "image", None)
        main = np.asarray(material.main_color[:3], np.float64) / 255
        if picture is None or visual.uv is None:
            return lambda faces, corners: np.broadcast_to(main, (len(faces), 3))
        factor = getattr(material, "baseColorFactor", None)
        tint = np.ones(3) if factor is None else np.asarray(factor[:3], np.float64) / 255
        pixels = np.asarray(picture.convert("RGB"), np.float64) / 255
        return lambda faces, corners: tint * looked_up(pixels, np.einsum("nk,nkc->nc", corners, visual.uv[mesh.faces[faces]]))
    if visual.kind == "vertex":
        colours = visual.vertex_colors[:, :3] / 255
        return lambda faces, corners: np.einsum("nk,nkc->nc", corners, colours[mesh.faces[faces]])
    if visual.kind == "face":
        of_faces = visual.face_colors[:, :3] / 255
        return lambda faces, corners: of_faces[faces]
    return lambda faces, corners: None


def looked_up(pixels: Float[np.ndarray, "h w 3"], uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Return a texture's nearest colour at places counted from the lower left, repeated beyond [0, 1]."""
    h, w, _ = pixels.shape
    u, v = np.mod(uv[:, 0], 1), np.mod(1 - uv[:, 1], 1)
    column, row = (np.minimum((p * n).astype(np.int64), n - 1) for p, n in ((u, w), (v, h)))
    return pixels[row, column]
