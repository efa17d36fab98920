"""Gaussian splats as .sog, version 2: lossless WebP pictures in a zip, a pixel each (PlayCanvas; SuperSplat's own).

meta.json names the pictures: positions (16 bits of sign(x) ln(1 + |x|) between the least and the greatest, low and high
bytes apart), rotations (three bytes of the components but the largest, whose index is in alpha), standard deviations
(logarithms) and colours of the constant band (bytes that index a codebook of 256 numbers; opacity in alpha), and for
higher bands a palette and each splat's place in it. The world is that of .ply viewers. Read are also zips that have all
this in a folder, and folders with these files (unbundled .sog, named by the folder or by its meta.json).
"""

import io
import json
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.extent import along_a_curve
from splatdistill.io.opening import Name, opened
from splatdistill.io.palette import codebook, palette
from splatdistill.io.rows import MOST, RATIO, Model, Read, Written, judged, writable

PER_ROW = 64  # entries of the palette in a row of its picture
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # the components but the largest, wxyz
BANDS = (0, 3, 8, 15)  # coefficients of a colour above the constant band, by degree
LIMIT = 1 << 20  # bytes of meta.json


def order(g: Gaussians) -> Int[Tensor, " n"]:
    """Return for each pixel its Gaussian: neighbours in space are neighbours, so that the pictures pack well."""
    return torch.from_numpy(along_a_curve(g.means.detach().cpu().numpy()))


def write_sog(path: Name, gaussians: Gaussians, comments: Sequence[str] = (), model: Model = "default") -> Written:
    """Write splats. comments: one fact each, for meta.json, where `model` stands too unless it is the default. What is left out and what is raised: as `write_ply`."""
    path = Path(path)
    g = writable(path, gaussians)
    g = frames.placed(g[order(g)], frames.into("viewer"))
    width = 4 * math.ceil(math.ceil(len(g) ** 0.5) / 4)
    height = 4 * math.ceil(len(g) / width / 4)
    pictures: dict[str, UInt8[np.ndarray, "h w 4"]] = {}

    def lay(name: str, values: np.ndarray, width: int = width, height: int = height) -> str:
        """Write rows of up to four numbers as the pixels of a picture; return its name."""
        pixels = np.zeros((height * width, 4), np.uint8)
        pixels[:, 3] = 255
        pixels[: len(values), : values.shape[1]] = values
        pictures[f"{name}.webp"] = pixels.reshape(height, width, 4)
        return f"{name}.webp"

    x = g.means.double().numpy()
    x = np.sign(x) * np.log1p(np.abs(x))
    low, high = x.min(0), x.max(0)
    fixed = np.round(65535 * (x - low) / np.where(high > low, high - low, 1)).astype(np.uint32)
    sizes, size_labels = codebook(g.scales.log().numpy())
    colours, colour_labels = codebook(g.sh[:, 0].numpy())
    opacity = np.round(255 * g.opacities.numpy()).astype(np.uint8)[:, None]
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "splatdistill", "comments": list(comments)},
        "count": len(g),
        "means": {
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": [lay("means_l", fixed & 255), lay("means_u", fixed >> 8)],
        },
        "scales": {"codebook": sizes.tolist(), "files": [lay("scales", size_labels)]},
        "quats": {"files": [lay("quats", _packed(g.quats.numpy()))]},
        "sh0": {"codebook": colours.tolist(), "files": [lay("sh0", np.concatenate([colour_labels, opacity], 1))]},
    }
    if g.degree:
        entries, places = palette(g.sh[:, 1:].flatten(1).numpy())
        k = BANDS[g.degree]
        numbers, labels = codebook(entries)
        files = [
            lay("shN_centroids", labels.reshape(-1, 3), PER_ROW * k, math.ceil(len(entries) / PER_ROW)),
            lay("shN_labels", np.stack([places & 255, places >> 8], 1)),
        ]
        meta["shN"] = {"count": len(entries), "bands": g.degree, "codebook": numbers.tolist(), "files": files}
    if model != "default":
        meta["model"] = model
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # stored: WebP is packed already
        for name, pixels in pictures.items():
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "webp", lossless=True, exact=True)  # exact: colours where alpha is 0
            archive.writestr(zipfile.ZipInfo(name), picture.getvalue())
        archive.writestr(zipfile.ZipInfo("meta.json"), json.dumps(meta))
    return Written(path, len(g), len(gaussians) - len(g))


META = "meta.json"
Member = Callable[[str, int], bytes]  # a file's bytes by its name; ValueError above so many


def load_sog(path: Name) -> Read:
    """Read the splats of a .sog file or folder, on the CPU, in our world; errors as `load_ply`."""
    path = Path(path)
    try:
        with _members(path) as (member, size):
            raw, model = _unpack(path, member, size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} is not a .sog that can be read: not a zip, or damaged ({error})") from error
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, SyntaxError, OSError) as error:
        what = "its meta.json and pictures do not fit"
        raise UserError(f"{path} is not a .sog that can be read: {what} ({error})") from error
    found = judged(path, raw, model=model)
    return replace(found, gaussians=frames.placed(found.gaussians, frames.into("viewer").T))


def unbundled(path: Path) -> Path | None:
    """Return the folder of an unbundled .sog that a path names, itself or by its meta.json; None where it is none."""
    folder = path.parent if path.name == META else path
    return folder if os.path.isfile(folder / META) else None  # which says no where a name is none


@contextmanager
def _members(path: Path) -> Iterator[tuple[Member, int]]:
    """Open the files of a .sog: how to read them, and how many bytes they are together."""
    if (folder := unbundled(path)) is not None:

        def beside(name: str, limit: int) -> bytes:
            if name != Path(name).name or name in ("", ".", ".."):
                raise ValueError(f"{name!r} is not in the folder of meta.json")
            try:
                with opened(folder / name) as file:
                    return _limited(name, file.read(limit + 1), limit)
            except UserError as error:  # told with the name of the whole
                raise ValueError(str(error)) from error

        yield beside, sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        return
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.rpartition("/")[2] == META]
        prefix = min(inside, key=len, default=META).removesuffix(META)

        def member(name: str, limit: int) -> bytes:
            if (kind := archive.getinfo(prefix + name).compress_type) not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is packed by method {kind}; expected stored or deflated")  # others inflate unbounded
            with archive.open(prefix + name) as packed:
                return _limited(name, packed.read(limit + 1), limit)

        yield member, os.fstat(file.fileno()).st_size


def _limited(name: str, data: bytes, limit: int) -> bytes:
    """Return what was read of a file; ValueError if that is more than `limit` bytes, however much it would unpack to."""
    if len(data) > limit:
        raise ValueError(f"{name} has more than {limit} bytes")
    return data


def _picture(data: bytes) -> Image.Image:
    """Open a WebP, not decoded yet. ValueError where its header claims more pixels than Pillow trusts, far above MOST."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=["WEBP"])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(str(error)) from error


def _unpack(path: Path, member: Member, size: int) -> tuple[Gaussians, Model]:
    """Return what an archive of `size` bytes holds, in the file's own world, unchecked, and its renderer. Whatever is wrong
    raises something.
    """
    meta = json.loads(member(META, LIMIT))
    if not isinstance(meta, dict) or meta.get("version") != 2:
        raise UserError(f"{path} is a .sog of another version than 2; convert it with `splat-transform in.sog out.ply`")
    n = meta["count"]
    most = min(MOST, RATIO * size + (1 << 16))
    if not isinstance(n, int) or not 0 < n <= most:
        raise ValueError(f"a count of {n!r} in {size} bytes; expected 1 to {most}")

    def pixels(part: str, which: int, count: int = n, width: int | None = None) -> UInt8[np.ndarray, "count 4"]:
        data = member(str(meta[part]["files"][which]), 64 * count + LIMIT)
        with _picture(data) as picture:
            w, h = picture.size
            if not count <= w * h <= 4 * count + (1 << 16) or width not in (None, w):
                raise ValueError(f"a picture of {w}x{h} for {count} entries")
            return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:count]

    def numbers(part: str, key: str, count: int, kind: type[np.floating] = np.float32) -> Float[np.ndarray, " count"]:
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused with the splats
            found = np.array(meta[part][key], kind)
        if found.shape != (count,):
            raise ValueError(f"{part}.{key} has the shape {found.shape}; expected {count} numbers")
        return found

    # in double: far from the origin the logarithms of a whole object differ in their last digits
    low, high = numbers("means", "mins", 3, np.float64), numbers("means", "maxs", 3, np.float64)
    fixed = pixels("means", 0)[:, :3].astype(np.float64) + 256.0 * pixels("means", 1)[:, :3]
    x = (low + (high - low) * (fixed / 65535)).clip(-80, 80)
    sh0 = pixels("sh0", 0)
    sh = numbers("sh0", "codebook", 256)[sh0[:, None, :3]]
    if "shN" in meta:
        bands, count = meta["shN"]["bands"], meta["shN"]["count"]
        if bands not in (1, 2, 3) or not isinstance(count, int) or not 0 < count <= 1 << 16:
            raise ValueError(f"a palette of {count!r} entries of degree {bands!r}")
        k = BANDS[bands]
        entries = pixels("shN", 0, count * k, PER_ROW * k)[:, :3]
        places = pixels("shN", 1)
        where = np.minimum(places[:, 0] + 256 * places[:, 1].astype(np.int64), count - 1)
        sh = np.concatenate([sh, numbers("shN", "codebook", 256)[entries.reshape(count, k, 3)[where]]], 1)
    said: tuple[Model, ...] = tuple(known for known in get_args(Model) if known == meta.get("model"))
    return Gaussians(
        means=torch.from_numpy(_places(x)),
        quats=torch.from_numpy(_unpacked(pixels("quats", 0))),
        scales=torch.from_numpy(numbers("scales", "codebook", 256)[pixels("scales", 0)[:, :3]]).exp(),
        opacities=torch.from_numpy(sh0[:, 3].astype(np.float32) / 255),
        sh=torch.from_numpy(sh),
    ), (said or ("default",))[0]


def _places(x: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return sign(x) (e^|x| - 1), float32 where that holds places as exactly as the file's 16 bits do, else float64."""
    means = np.sign(x) * np.expm1(np.abs(x))
    step = np.spacing(np.abs(means).max(0).astype(np.float32))
    return means.astype(np.float32) if (step <= np.ptp(means, axis=0) / 65535).all() else means


def _packed(quats: Float[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    q = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    rows, largest = np.arange(len(q)), np.abs(q).argmax(1)
    q = q * np.where(q[rows, largest] < 0, -1, 1)[:, None]
    three = np.round(255 * (q[rows[:, None], OTHERS[largest]] * 2**0.5 * 0.5 + 0.5)).clip(0, 255)
    return np.concatenate([three, 252 + largest[:, None]], 1).astype(np.uint8)


def _unpacked(packed: UInt8[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    largest = packed[:, 3].astype(np.int64) - 252
    if (largest < 0).any():
        raise ValueError("a rotation without the index of its largest component")
    rows, q = np.arange(len(packed)), np.zeros((len(packed), 4), np.float32)
    three = (packed[:, :3] / np.float32(255) - 0.5) * np.float32(2 / 2**0.5)
    q[rows[:, None], OTHERS[largest]] = three
    q[rows, largest] = np.sqrt(np.clip(1 - (three * three).sum(1), 0, None))
    return q / np.linalg.norm(q, axis=1, keepdims=True)
