"""Textured triangle meshes as .glb and .obj, in the world of glTF: y up, the front along +z.

Vertices are shared; in a .glb they are doubled where charts of the texture meet. Each is read back by trimesh before it
counts. Needs the extra `mesh`.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from splatdistill.errors import UserError
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.opening import Name

NEEDS = (
    "meshes need scikit-image, trimesh and xatlas, which are not all here: "
    'pip install "scikit-image>=0.24,<1" "trimesh>=4,<6" "xatlas>=0.0.9,<0.1"'
)
LINEAR = {"magFilter": 9729, "minFilter": 9729, "wrapS": 33071, "wrapT": 33071}  # averages of cells mean nothing
UNLIT = "KHR_materials_unlit"  # light is baked into the colours


Material = Literal["unlit", "lit"]


@dataclass(frozen=True)
class Mesh:
    """Coloured triangles in the toolkit's world, counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float32[np.ndarray, "u 2"]  # places in the texture; (0, 0) is the upper left, in [0, 1]
    corners: Int[np.ndarray, "f 3"]  # of each face: rows of uv. One vertex has several where charts meet
    texture: UInt8[np.ndarray, "h w 3"]
    charts: int  # pieces that the surface is cut into to lie flat


def vertex_normals(vertices: Float32[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float32[np.ndarray, "v 3"]:
    """Return unit normals of the vertices, faces weighted by area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    total = np.stack([np.bincount(faces.ravel(), across[:, k].repeat(3), len(vertices)) for k in range(3)], 1)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)).astype(np.float32)


@dataclass(frozen=True)
class WrittenMesh:
    """Result of an export."""

    path: Path
    mesh: Mesh
    bytes: int  # of all files
    form: "Form"


@dataclass(frozen=True)
class Form:
    """Shape of a surface, whatever its measures."""

    pieces: int
    watertight: bool  # every edge belongs to two faces that run along it in opposite directions
    genus: int  # handles of all pieces together: 0 for balls, 1 for a ring. Of no meaning unless watertight


def library() -> ModuleType:
    """Return trimesh, or raise a UserError that says how to get it and what else meshes need."""
    try:
        import skimage.measure  # noqa: F401
        import trimesh
        import xatlas  # noqa: F401
    except ImportError as error:
        raise UserError(NEEDS) from error
    return trimesh


def xatlas_library() -> ModuleType:
    """Return xatlas, or raise as `library`."""
    library()
    import xatlas

    return xatlas


def write_glb(path: Name, mesh: Mesh, comments: Sequence[str] = (), material: Material = "unlit") -> WrittenMesh:
    """Write one binary glTF 2.0 file. comments: one fact each, for the asset's extras. material: colours as they are, or lit
    by whoever shows them, dull. UserError if it cannot be written or does not read back; what was at `path` is then as before.
    """
    path, trimesh = Path(path), library()
    turn = frames.into("gltf").numpy().astype(np.float32)
    origin = np.empty(len(mesh.uv), np.int64)  # vertices are written once for each chart that they belong to
    origin[mesh.corners] = mesh.faces
    uv = mesh.uv * [1, -1] + [0, 1]  # trimesh counts from the lower left
    surface = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=False
    )
    shape = trimesh.Trimesh(
        mesh.vertices[origin] @ turn.T,
        mesh.corners,
        vertex_normals=vertex_normals(mesh.vertices, mesh.faces)[origin] @ turn.T,
        visual=trimesh.visual.TextureVisuals(uv=uv, material=surface),
        process=False,
    )

    def finish(tree: dict[str, Any]) -> None:
        tree["asset"]["generator"] = "splatdistill"
        tree["asset"]["extras"] = {"comments": list(comments)}
        tree["samplers"] = [LINEAR]
        for each in tree["textures"]:
            each["sampler"] = 0
        if material == "unlit":
            tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), UNLIT]
            for each in tree["materials"]:
                each["extensions"] = {UNLIT: {}}

    data = trimesh.Scene({"splats": shape}).export(file_type="glb", tree_postprocessor=finish)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        found = _read_back(path, temporary, "glb", mesh)
    return WrittenMesh(path, mesh, len(data), found)


def write_obj(path: Name, mesh: Mesh, comments: Sequence[str] = (), material: Material = "unlit") -> WrittenMesh:
    """Write a .obj with shared vertices, and beside it its .mtl and the texture as -texture.png. As `write_glb` otherwise."""
    path = Path(path)
    library()
    turn = frames.into("gltf").numpy().astype(np.float32)
    stem = plain(path.stem)
    about, picture = path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}-texture.png")
    buffer = io.BytesIO()
    Image.fromarray(mesh.texture).save(buffer, "png")
    head = "".join(
        f"# {' '.join(c.split())}\n" for c in ("made by splatdistill; y is up, the front looks along +z", *comments)
    )
    text = io.StringIO()
    text.write(f"{head}mtllib {about.name}\no splats\nusemtl splats\n")
    np.savetxt(text, mesh.vertices @ turn.T, "v %.9g %.9g %.9g")
    np.savetxt(text, mesh.uv * [1, -1] + [0, 1], "vt %.7g %.7g")
    np.savetxt(text, np.stack([mesh.faces + 1, mesh.corners + 1], 2).reshape(-1, 6), "f %d/%d %d/%d %d/%d")
    shading = 0 if material == "unlit" else 1  # the colour alone, or with diffuse light
    said = f"{head}newmtl splats\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum {shading}\nmap_Kd {picture.name}\n"
    parts = ((picture, buffer.getvalue()), (about, said.encode()), (path, text.getvalue().encode()))
    found: Form | None = None
    for target, data in parts:  # the .obj last, so that what it names is there when it is read
        with replacing(target) as temporary:
            temporary.write_bytes(data)
            if target == path:
                found = _read_back(path, temporary, "obj", mesh)
    assert found is not None
    return WrittenMesh(path, mesh, sum(len(d) for _, d in parts), found)


def plain(name: str) -> str:
    """Return a name of ASCII without spaces, as .obj and .mtl files need it for what they name: the same, or where anything
    had to be replaced, with a digest behind it, so that different names stay different.
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return safe if safe == name else f"{safe.strip('_') or 'mesh'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _read_back(path: Path, temporary: Path, kind: str, meant: Mesh) -> Form:
    """Return the form of a file's mesh; UserError unless it is the one that was meant, texture and all."""
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
    return form(corners)


def form(corners: Float[np.ndarray, "f 3 3"]) -> Form:
    """Return the form of triangles by their corners' places; equal places are one vertex."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    points, place = np.unique(corners.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True)
    faces, n = place.reshape(-1, 3).astype(np.int64), len(points)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there, count = np.unique(edges[:, 0] * n + edges[:, 1], return_counts=True)
    back = np.unique(edges[:, 1] * n + edges[:, 0])
    pieces, _ = connected_components(coo_array((np.ones(len(edges), bool), edges.T), (n, n)), directed=False)
    tight = bool((count == 1).all() and np.array_equal(there, back) and len(faces) > 0)
    euler = n - len(np.union1d(there, back)) // 2 + len(faces)
    return Form(int(pieces), tight, int(pieces) - euler // 2)
