"""Reader of a packed world: real objects as triangles, in one file that scripts/pack_world.py writes.

The file is an npz without pickles. `index` is JSON; the rest are arrays in which every object has a stretch: places (int16 over
[-1, 1]), openness (uint8), faces (uint16, numbers of places), materials of the faces (uint8), texture coordinates of the faces'
corners (uint16 over each object's range) and JPEG files. Objects stand as those of the toybox: z up, front along +x, within 1.
"""

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from splatdistill.errors import UserError
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.triangles import CornerMesh, corner_normals

VERSION = 1
ARRAYS = ("places", "openness", "faces", "materials", "uv", "textures")
MIDDLE = 0.8  # brightness that the mean of a texture takes when another colour is put on it


@dataclass(frozen=True)
class RealObject:
    """Model of a packed world."""

    name: str  # of its library, with its number there: no two are alike
    kind: str  # plain words for it
    title: str  # what its maker called it
    creator: str
    licence: str
    tinted: tuple[int, ...]  # materials that take another colour; none, where the model has none to give
    materials: np.ndarray  # (m, 4) float32: red, green, blue, number of the texture or -1
    textures: tuple[np.ndarray, ...]  # (h, w, 3) uint8
    surface: dict[str, np.ndarray]  # places, openness, faces, materials, uv

    def mesh(self, colour: str | None = None) -> CornerMesh:
        """Return triangles for the rasteriser, the main materials in one of the toybox's colours, or as they are.

        A texture keeps its pattern of light and dark.
        """
        plain = self._mesh
        if colour is None:
            return plain
        if not self.tinted:
            raise ValueError(f"{self.name} ({self.kind}) has no material that takes a colour")
        materials, texels = plain.materials.copy(), plain.texels.copy()
        for m in self.tinted:
            materials[m, :3] = COLOURS[colour]
            if (first := int(materials[m, 3])) >= 0:
                stretch = slice(first, first + int(materials[m, 4] * materials[m, 5]))
                light = plain.texels[stretch].astype(np.float32).mean(1)
                light *= MIDDLE * 255 / max(float(light.mean()), 1.0)
                texels[stretch] = np.clip(light, 0, 255)[:, None].astype(np.uint8)
                materials[m, :3] /= MIDDLE
        return CornerMesh(plain.corners, plain.normals, plain.uv, plain.openness, plain.material, materials, texels)

    @cached_property
    def _mesh(self) -> CornerMesh:
        faces = self.surface["faces"]
        corners = self.surface["places"][faces]
        starts = np.cumsum([0, *(t.shape[0] * t.shape[1] for t in self.textures)])
        table = np.zeros((len(self.materials), 6), np.float32)
        table[:, :3], table[:, 3] = self.materials[:, :3], -1
        for m, number in enumerate(self.materials[:, 3].astype(int)):
            if number >= 0:
                height, width = self.textures[number].shape[:2]
                table[m, 3:] = starts[number], width, height
        texels = np.concatenate([t.reshape(-1, 3) for t in self.textures]) if self.textures else np.zeros((1, 3), np.uint8)
        openness = self.surface["openness"][faces]
        return CornerMesh(corners, corner_normals(corners), self.surface["uv"], openness, self.surface["materials"].astype(np.int32), table, texels)


@dataclass(frozen=True)
class PackedWorld:
    """All objects of a pack."""

    objects: tuple[RealObject, ...]
    digest: str  # of the contents, however they were compressed

    @staticmethod
    def load(path: str | Path) -> "PackedWorld":
        """Read a pack. Raises UserError where the file is none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                index = json.loads(file["index"].tobytes())
                arrays = {name: file[name] for name in ARRAYS}
        except FileNotFoundError:
            raise UserError(f"no packed world at {path}; scripts/pack_world.py --out FILE writes one") from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} is no packed world ({error}); scripts/pack_world.py --out FILE writes one") from None
        if index["version"] != VERSION:
            raise UserError(f"{path} is a packed world of version {index['version']}; this program reads {VERSION}")
        return PackedWorld(tuple(_object(entry, arrays) for entry in index["objects"]), digest(index, arrays))

    def __getitem__(self, name: str) -> RealObject:
        return next(o for o in self.objects if o.name == name)

    @cached_property
    def kinds(self) -> dict[str, list[RealObject]]:
        """Return the objects of each kind."""
        found: dict[str, list[RealObject]] = {}
        for o in self.objects:
            found.setdefault(o.kind, []).append(o)
        return found


def digest(index: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of a pack's contents."""
    known = hashlib.sha256(json.dumps(index, sort_keys=True).encode())
    for name in ARRAYS:
        known.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        known.update(np.ascontiguousarray(arrays[name]).tobytes())
    return known.hexdigest()


def _object(entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> RealObject:
    """Return one object from the common arrays."""
    from PIL import Image

    at = {name: slice(*entry[name]) for name in ("places", "faces")}
    faces = arrays["faces"][at["faces"]].astype(np.int64)
    uv = np.zeros((len(faces), 3, 2), np.float32)
    if entry["uv"]:
        low, size = np.array(entry["uv_low"], np.float32), np.array(entry["uv_size"], np.float32)
        uv = arrays["uv"][slice(*entry["uv"])].astype(np.float32) / 65535 * size + low
    textures = []
    for stretch in entry["textures"]:
        with Image.open(io.BytesIO(arrays["textures"][slice(*stretch)].tobytes())) as picture:
            textures.append(np.asarray(picture.convert("RGB")))
    surface = {
        "places": arrays["places"][at["places"]].astype(np.float32) / 32767,
        "openness": arrays["openness"][at["places"]].astype(np.float32) / 255,
        "faces": faces,
        "materials": arrays["materials"][at["faces"]],
        "uv": uv,
    }
    return RealObject(
        entry["name"],
        entry["kind"],
        entry["title"],
        entry["creator"],
        entry["licence"],
        tuple(entry["tinted"]),
        np.array(entry["materials"], np.float32).reshape(-1, 4),
        tuple(textures),
        surface,
    )
