"""Splats of SuperSplat's compressed .ply: chunks of 256, and four words of 32 bits for a splat (PlayCanvas).

Element `chunk` has the least and the greatest of x y z, of scale_0..2 (logarithms) and, in newer files, of red green blue.
Element `vertex` has packed_position and packed_scale (11, 10 and 11 bits between those), packed_rotation (2 bits: which
component of wxyz is largest, then 10 bits of each of the others, from -1/sqrt 2 to 1/sqrt 2) and packed_color (bytes red
green blue opacity). Element `sh`, if it is there, has a byte for each f_rest, in 256 steps of -4 to 4. The world is that of
.ply files.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float32, UInt32

from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io.table import ElementTable

CHUNK = 256  # splats between the same bounds
ELEMENTS = ("chunk", "vertex", "sh")
WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # the components but the largest, wxyz


def unpacked(tables: Mapping[str, ElementTable]) -> Gaussians:
    """Return physical values in the file's own frame, unchecked, of the elements of a compressed .ply; UserError where they
    do not belong together.
    """
    vertex = tables["vertex"]
    if "chunk" not in tables:
        raise UserError(f"{vertex.path} does not hold Gaussian splats: its vertices are compressed and it has no element chunk")
    vertex.demand(WORDS, "a compressed .ply", "u")
    position, rotation, scale, colour = (vertex.rows[name].astype(np.uint32) for name in WORDS)
    count, chunks = len(vertex.rows), tables["chunk"]
    if len(chunks.rows) != -(-count // CHUNK):
        raise UserError(f"{vertex.path}: {count} compressed splats have {-(-count // CHUNK)} chunks; there are {len(chunks.rows)}")

    def between(names: str, prefix: str, share: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        bounds = []
        for end in ("min", "max"):
            columns = [f"{end}_{prefix}{name}" for name in names]
            chunks.demand(columns, "a compressed .ply")
            bounds.append(chunks.columns(columns).repeat(CHUNK, 0)[:count])
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is left out with its rows
            return bounds[0] * (1 - share) + bounds[1] * share

    rgba = fields(colour, 8, 8, 8, 8)
    rgb = between("rgb", "", rgba[:, :3]) if "min_r" in (chunks.rows.dtype.names or ()) else rgba[:, :3]
    return Gaussians(
        means=torch.from_numpy(between("xyz", "", fields(position, 11, 10, 11))),
        quats=torch.from_numpy(rotations(rotation)),
        scales=torch.from_numpy(between("xyz", "scale_", fields(scale, 11, 10, 11))).exp(),
        opacities=torch.from_numpy(rgba[:, 3].copy()),
        sh=torch.from_numpy(np.concatenate([((rgb - 0.5) / np.float32(SH_C0))[:, None], bands(tables.get("sh"), count)], 1)),
    )


def fields(words: UInt32[np.ndarray, " n"], *bits: int) -> Float32[np.ndarray, "n k"]:
    """Return the fields of words, so many bits each from the highest, as shares of the greatest that they can be."""
    out, left = np.empty((len(words), len(bits)), np.float32), sum(bits)
    for k, width in enumerate(bits):
        left -= width
        most = (1 << width) - 1
        out[:, k] = (words >> np.uint32(left) & np.uint32(most)) / np.float32(most)
    return out


def rotations(words: UInt32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 4"]:
    """Return unit quaternions wxyz of packed rotations."""
    three = (fields(words & np.uint32((1 << 30) - 1), 10, 10, 10) - 0.5) * np.float32(2**0.5)
    rows, largest = np.arange(len(words)), words >> np.uint32(30)
    quats = np.zeros((len(words), 4), np.float32)
    quats[rows[:, None], OTHERS[largest]] = three
    quats[rows, largest] = np.sqrt(np.clip(1 - (three * three).sum(1), 0, None))
    return quats


def bands(table: ElementTable | None, count: int) -> Float32[np.ndarray, "n k 3"]:
    """Return the coefficients above the constant band: bytes, red's first, then green's, then blue's."""
    names = [] if table is None else list(table.rows.dtype.names or ())
    if table is None or not names:
        return np.zeros((count, 0, 3), np.float32)
    rest = [f"f_rest_{i}" for i in range(len(names))]
    if len(rest) not in (9, 24, 45) or len(table.rows) != count:
        raise UserError(
            f"{table.path}: its element sh has {len(table.rows)} rows of {len(names)} properties; expected {count} of 9, 24 or 45"
        )
    table.demand(rest, "a compressed .ply", "u")
    byte = table.columns(rest)
    share = np.where(byte == 0, 0, np.where(byte == 255, 1, (byte + 0.5) / 256))
    return (8 * (share - 0.5)).astype(np.float32).reshape(count, 3, len(rest) // 3).transpose(0, 2, 1)
