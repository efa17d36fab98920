"""Textured triangle meshes as .glb and .obj, in the world of glTF: y up, the front along +z.

Each is read back by trimesh before it counts. Needs the extra `mesh`.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from splatdistill.errors import UserError
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.opening import Name

NEEDS = 'meshes need scikit-image and trimesh, which are not here: pip install "scikit-image>=0.24,<1" "trimesh>=4,<6"'
LINEAR = {"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}  # averages of cells mean nothing
UNLIT = "KHR_materials_unlit"  # light is baked into the colours


@dataclass(frozen=True)
class Mesh:
    """Triangles with colours: in our world, counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "f 3 2"]  # of each face's corners in the texture; (0, 0) is the upper left, in [0, 1]
    texture: UInt8[np.ndarray, "h w 3"]

    def normals(self) -> Float32[np.ndarray, "v 3"]:
        """Return unit normals of the vertices, faces weighted by area."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        across = np.cross(b - a, c - a)
        total = np.stack(
            [np.bincount(self.faces.ravel(), across[:, k].repeat(3), len(self.vertices)) for k in range(3)], 1
        )
        return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)).astype(np.float32)


@dataclass(frozen=True)
class WrittenMesh:
    """Result of an export."""

    path: Path
    vertices: int
    faces: int
    bytes: int  # of all files
    watertight: bool  # every edge has two faces


def library() -> ModuleType:
    """Return trimesh, or raise a UserError that says how to get it."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(NEEDS) from error
    return trimesh


def write_glb(path: Name, mesh: Mesh, comments: Sequence[str] = ()) -> WrittenMesh:
    """Write one binary glTF 2.0 file. comments: one fact each, for the asset's extras. UserError if it cannot be written or
    does not read back; what was at `path` is then as before.
    """
    path, trimesh = Path(path), library()
    turn = frames.into("gltf").numpy().astype(np.float32)
    corners = mesh.faces.ravel()  # a vertex for each corner, since neighbours lie elsewhere in the texture
    uv = mesh.uv.reshape(-1, 2) * [1, -1] + [0, 1]  # trimesh counts from the lower left
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False
    )
    shape = trimesh.Trimesh(
        mesh.vertices[corners] @ turn.T,
        np.arange(len(corners)).reshape(-1, 3),
        vertex_normals=mesh.normals()[corners] @ turn.T,
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )

    def finish(tree: dict[str, Any]) -> None:
        tree["asset"]["generator"] = "splatdistill"
        tree["asset"]["extras"] = {"comments": list(comments)}
        tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), UNLIT]
        tree["samplers"] = [LINEAR]
        for each in tree["textures"]:
            each["sampler"] = 0
        for each in tree["materials"]:
            each["extensions"] = {UNLIT: {}}

    data = trimesh.Scene({"splats": shape}).export(file_type="glb", tree_postprocessor=finish)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        tight = _read_back(path, temporary, "glb", mesh)
    return WrittenMesh(path, len(mesh.vertices), len(mesh.faces), len(data), tight)


def write_obj(path: Name, mesh: Mesh, comments: Sequence[str] = ()) -> WrittenMesh:
    """Write a .obj with shared vertices, and beside it its .mtl and the texture as -texture.png. As `write_glb` otherwise."""
    path = Path(path)
    library()
    turn = frames.into("gltf").numpy().astype(np.float32)
    stem = plain(path.stem)
    material, picture = path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}-texture.png")
    buffer = io.BytesIO()
    Image.fromarray(mesh.texture).save(buffer, "png")
    head = "".join(
        f"# {' '.join(c.split())}\n" for c in ("made by splatdistill; y is up, the front looks along +z", *comments)
    )
    where = np.arange(1, 3 * len(mesh.faces) + 1).reshape(-1, 3)
    text = io.StringIO()
    text.write(f"{head}mtllib {material.name}\no splats\nusemtl splats\n")
    np.savetxt(text, mesh.vertices @ turn.T, "v %.9g %.9g %.9g")
    np.savetxt(text, mesh.uv.reshape(-1, 2) * [1, -1] + [0, 1], "vt %.7g %.7g")
    np.savetxt(text, np.stack([mesh.faces + 1, where], 2).reshape(-1, 6), "f %d/%d %d/%d %d/%d")
    about = f"{head}newmtl splats\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\n"
    parts = ((picture, buffer.getvalue()), (material, about.encode()), (path, text.getvalue().encode()))
    tight = False
    for target, data in parts:  # the .obj last, so that what it names is there when it is read
        with replacing(target) as temporary:
            temporary.write_bytes(data)
            if target == path:
                tight = _read_back(path, temporary, "obj", mesh)
    return WrittenMesh(path, len(mesh.vertices), len(mesh.faces), sum(len(d) for _, d in parts), tight)


def plain(name: str) -> str:
    """Return a name of ASCII without spaces, as .obj and .mtl files need it for what they name: the same, or where anything
    had to be replaced, with a digest behind it, so that different names stay different.
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return safe if safe == name else f"{safe.strip('_') or 'mesh'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _read_back(path: Path, temporary: Path, kind: str, meant: Mesh) -> bool:
    """Tell if the mesh of a file is watertight; UserError unless it is the one that was meant, texture and all."""
    trimesh = library()
    try:
        with open(temporary, "rb") as file:
            resolver = trimesh.resolvers.FilePathResolver(str(path.parent))
            scene = trimesh.load_scene(file, file_type=kind, resolver=resolver, process=False)
        (got,) = scene.geometry.values()
        picture = got.visual.material.baseColorTexture if kind == "glb" else got.visual.material.image
        corners = np.asarray(got.vertices)[got.faces]
        expected = meant.vertices[meant.faces] @ frames.into("gltf").numpy().T
        wide = np.ptp(expected.reshape(-1, 3), axis=0).max()  # and not the distance from the origin, which may be large
        if corners.shape != expected.shape or not np.abs(corners - expected).max() <= 1e-5 * wide:
            raise ValueError(f"{len(corners)} faces came back, not the {len(expected)} that were written")
        if (np.asarray(picture.convert("RGB")) != meant.texture).any() or got.visual.uv is None:
            raise ValueError("the texture came back different")
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise UserError(f"{path} does not read back as what was to be written, so it was not kept: {error}") from error
    return watertight(expected)


def watertight(corners: Float[np.ndarray, "f 3 3"]) -> bool:
    """Tell if every edge belongs to two faces that run along it in opposite directions; equal places are one vertex."""
    _, place = np.unique(corners.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True)
    faces = place.reshape(-1, 3).astype(np.int64)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    n = len(place) + 1
    there, count = np.unique(edges[:, 0] * n + edges[:, 1], return_counts=True)
    back = np.unique(edges[:, 1] * n + edges[:, 0])
    return bool((count == 1).all() and np.array_equal(there, back) and len(faces) > 0)
