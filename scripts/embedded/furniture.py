"""Models of the Debian package sweethome3d-furniture as triangles in the toybox's frame; for scripts/pack_world.py."""

import io
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

FOLDER = Path("/usr/share/sweethome3d/furniture")
LIBRARIES = {"BlendSwap-CC-0": "CC0-1.0", "BlendSwap-CC-BY": "CC-BY-3.0", "KatorLegaz": "CC-BY-3.0", "Scopia": "CC-BY-3.0"}
"""The libraries used and their licences; Reallusion's rigged people are left out."""
RADIUS = 0.95  # of the sphere around the origin that every model fills
TO_TOYBOX = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)  # y up, front +z -> z up, front +x
CLEAR = 0.6  # materials less opaque than this are glass, and dropped


@dataclass(frozen=True)
class Entry:
    """Model of the catalogue."""

    library: str
    index: int
    name: str
    model: str  # path inside the library
    creator: str
    rotation: np.ndarray  # (3, 3)
    size: tuple[float, float, float]  # width, height, depth


@dataclass
class Paint:
    """Material: a colour, and a texture that replaces it."""

    colour: tuple[float, float, float]
    texture: Image.Image | None = None


@dataclass
class Model:
    """Triangles with corners in the toybox's frame."""

    corners: np.ndarray  # (faces, 3, 3) float64
    uv: np.ndarray  # (faces, 3, 2) float64
    material: np.ndarray  # (faces,) int
    paints: list[Paint] = field(default_factory=list)


def catalogue(folder: Path = FOLDER) -> list[Entry]:
    """Return every model of the libraries; Java properties in latin-1, `key#index=value`."""
    found = []
    for library in LIBRARIES:
        with zipfile.ZipFile(folder / f"{library}.sh3f") as z:
            text = z.read("PluginFurnitureCatalog.properties").decode("latin-1")
        entries: dict[int, dict[str, str]] = {}
        for line in text.splitlines():
            if m := re.match(r"\s*(\w+)#(\d+)\s*=\s*(.*)", line):
                entries.setdefault(int(m[2]), {})[m[1]] = m[3].strip().encode("latin-1").decode("unicode_escape")
        for i, e in sorted(entries.items()):
            if "model" not in e:
                continue
            turn = np.array([float(v) for v in e["modelRotation"].split()]).reshape(3, 3) if "modelRotation" in e else np.eye(3)
            size = (float(e["width"]), float(e["height"]), float(e["depth"]))
            found.append(Entry(library, i, e["name"], e["model"].lstrip("/"), e.get("creator", ""), turn, size))
    return found


def load(entry: Entry, turn: float = 0.0, folder: Path = FOLDER) -> Model:
    """Return the model upright, its front along +x after a turn by hand (degrees, counter-clockwise from above), in a sphere of RADIUS."""
    with tempfile.TemporaryDirectory() as d, zipfile.ZipFile(folder / f"{entry.library}.sh3f") as z:
        inside = entry.model.rsplit("/", 1)[0] + "/"
        if entry.model.endswith(".zip"):
            zipfile.ZipFile(io.BytesIO(z.read(entry.model))).extractall(d)
            file = min(Path(d).rglob("*.obj"))
        else:
            z.extractall(d, [n for n in z.namelist() if n.startswith(inside)])
            file = Path(d) / entry.model
        scene = trimesh.load(file, force="scene", process=False)
        parts = [g for g in scene.dump() if isinstance(g, trimesh.Trimesh) and len(g.faces)]
        for g in parts:
            if (image := getattr(getattr(g.visual, "material", None), "image", None)) is not None:
                image.load()
    model = joined([g for g in parts if opacity(g) >= CLEAR] or parts)
    p = model.corners.reshape(-1, 3) @ entry.rotation.T
    low, high = p.min(0), p.max(0)
    p = (p - (low + high) / 2) * np.array(entry.size) / np.maximum(high - low, 1e-9)
    a = np.radians(turn)
    p = p @ TO_TOYBOX.T @ np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]).T
    p = (p - (p.min(0) + p.max(0)) / 2) / np.linalg.norm(p - (p.min(0) + p.max(0)) / 2, axis=1).max() * RADIUS
    model.corners = p.reshape(-1, 3, 3)
    return model


def opacity(g: trimesh.Trimesh) -> float:
    """Return `d`, or 1 - `Tr`, of a part's material."""
    extra = getattr(getattr(g.visual, "material", None), "kwargs", {})

    def number(key: str, default: float) -> float:
        try:
            return float(np.ravel(extra.get(key, default)).astype(float)[0])
        except (ValueError, IndexError):
            return default

    return min(number("d", 1.0), 1.0 - number("tr", 0.0)) if "d" not in extra else number("d", 1.0)


def joined(parts: list[trimesh.Trimesh]) -> Model:
    """Return all parts as one model, with a material for each distinct one."""
    corners, uvs, materials = [], [], []
    paints: list[Paint] = []
    known: dict[tuple[object, ...], int] = {}
    for g in parts:
        material = getattr(g.visual, "material", None)
        image, uv = getattr(material, "image", None), getattr(g.visual, "uv", None)
        textured = image is not None and uv is not None and len(uv) == len(g.vertices) and np.isfinite(uv).all()
        main = np.asarray(getattr(material, "main_color", (180, 180, 180, 255)))[:3] / 255.0
        key = ("image", image.tobytes(), image.size) if textured else ("plain", *np.round(main, 4))
        if key not in known:
            known[key] = len(paints)
            paints.append(Paint((1.0, 1.0, 1.0), image) if textured else Paint(tuple(float(c) for c in main)))
        corners.append(g.vertices[g.faces])
        uvs.append(uv[g.faces] if textured else np.zeros((len(g.faces), 3, 2)))
        materials.append(np.full(len(g.faces), known[key]))
    return Model(np.concatenate(corners).astype(float), np.concatenate(uvs).astype(float), np.concatenate(materials), paints)
