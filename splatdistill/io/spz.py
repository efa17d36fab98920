"""Gaussian splats as .spz, version 3: about 20 bytes each before gzip (nianticlabs/spz, MIT).

A header of 16 bytes (magic, version, count, degree, fractional bits of the positions, flags), then all positions
(3 x 24 bits, fixed point), opacities (byte), colours of the constant band (3 bytes, f_dc 0.15 + 1/2), logarithms of the
standard deviations (3 bytes, (ln s + 10) 16), rotations (4 bytes: which component is largest, and sign and 9 bits of
the three others) and the higher bands (bytes, 128 + 128 c, colours innermost). Its world has y up and looks back along
z (RUB): the same as glTF's, and not that of .ply files. Read are versions 2 to 4.

Version 4 has a plain header of 32 bytes (the same fields, then a byte that counts streams and the place of their table),
extensions, the table, and each attribute as a stream of Zstandard of its own, in the same order; degree 4 is possible.
"""

import gzip
import math
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.opening import Name, opened
from splatdistill.io.rows import MOST, RATIO, Model, Read, Written, judged, writable
from splatdistill.io.spz_streams import Frames, Inflated

MAGIC, VERSION = 0x5053474E, 3  # "NGSP"
HEADER = struct.Struct("<IIIBBBB")
HEADER_4 = struct.Struct("<IIIBBBBI12x")
ANTIALIASED, EXTENDED = 1, 2  # flags
DEGREES = {2: 3, 3: 3, 4: 4}  # highest degree that a version holds
USUAL, FINEST = 16, 23  # fractional bits of a position: steps of 1.5e-5, and of 1.2e-7
MOST_FIXED = 2**23 - 1  # a position as a whole number of 24 bits
STEP = 0.05  # of a splat's size, for steps of its position
COLOUR = 0.15  # of f_dc in a byte's range
ROOT_HALF = 0.5**0.5  # no component but the largest exceeds it
CONVERT = "convert it first, for example with `splat-transform --spz-version 3 in.spz out.spz`"


@dataclass(frozen=True)
class Header:
    """Fields that the headers of all versions have."""

    version: int
    count: int
    degree: int
    bits: int  # of a position behind the point
    flags: int

    def check(self, path: Path, size: int) -> None:
        """Raise a UserError for a header that is not to be believed of a file of `size` bytes."""
        if self.version not in DEGREES:
            raise UserError(f"{path} is a .spz of version {self.version}; expected 2 to 4: {CONVERT}")
        most = DEGREES[self.version]
        if self.count > MOST or self.degree > most or self.bits > FINEST:
            raise UserError(
                f"{path} is not a .spz that can be read: its header says {self.count} splats of degree {self.degree} with "
                f"{self.bits} fractional bits; expected at most {MOST}, {most} and {FINEST}"
            )
        if self.count > RATIO * size + (1 << 16):
            raise UserError(f"{path} is not to be believed: {self.count} splats in {size} bytes")


def write_spz(path: Name, gaussians: Gaussians, model: Model = "default") -> Written:
    """Write splats. model: told by a flag. What is left out and what is raised: as `write_ply`. Values beyond the format's
    range are cut.
    """
    path = Path(path)
    g = writable(path, gaussians)
    data = pack(path, g, model)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Written(path, len(g), len(gaussians) - len(g))


def fractional_bits(g: Gaussians) -> int:
    """Choose how many bits of a position stand behind the point: so many that a step is STEP of the size of all but the
    smallest splats, USUAL at least, and no more than leave room for the farthest one in 24 bits.
    """
    far = g.means.abs().max().item()
    room = math.floor(math.log2(MOST_FIXED / max(far, 1e-6)))
    sizes = g.scales.amax(1).double()
    small = sizes.kthvalue(1 + len(sizes) // 100).values.item()
    wanted = math.ceil(-math.log2(STEP * small))
    return max(0, min(max(USUAL, wanted), room, FINEST))


def pack(path: Path, g: Gaussians, model: Model = "default") -> bytes:
    """Return a file's bytes; UserError if it cannot hold them. path: for that message."""
    g = frames.placed(g, frames.into("gltf"))
    bits = fractional_bits(g)
    far = g.means.abs().max().item()
    if not far * 2**bits <= MOST_FIXED:
        raise UserError(
            f"cannot write {path}: .spz holds positions up to 8e6, here is one of {far:.3g}; move the object to the origin "
            "with --pivot centre, or scale it down"
        )
    head = HEADER.pack(MAGIC, VERSION, len(g), g.degree, bits, ANTIALIASED if model == "antialiased" else 0, 0)
    fixed = (g.means.double() * 2**bits).round().to(torch.int32).numpy().astype("<i4")
    parts = [
        fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3],
        _bytes(255 * g.opacities),
        _bytes(255 * (COLOUR * g.sh[:, 0] + 0.5)),
        _bytes(16 * (g.scales.log() + 10)),
        _packed(g.quats),
        _bytes(128 + 128 * g.sh[:, 1:]),
    ]
    body = b"".join([head, *(np.ascontiguousarray(p).tobytes() for p in parts)])
    return gzip.compress(body, 9, mtime=0)  # the same splats are the same bytes


def load_spz(path: Name) -> Read:
    """Read the splats of a .spz file, on the CPU, in our world; errors as `load_ply`."""
    path = Path(path)
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(4)[:4] != MAGIC.to_bytes(4, "little"):
            return unpack(path, Inflated(path, file, size))
        head = file.read(HEADER_4.size)
        if len(head) < HEADER_4.size:
            raise UserError(f"{path} is truncated: it has {len(head)} bytes, the header of a .spz of version 4 has {HEADER_4.size}")
        _, version, count, degree, bits, flags, streams, table = HEADER_4.unpack(head)
        header = Header(version, count, degree, bits, flags)
        header.check(path, size)
        if version < 4:
            raise UserError(f"{path} is not a .spz that can be read: it is of version {version} and not packed by gzip")
        return _read(path, header, Frames(path, file, size, table, streams))


def unpack(path: Path, stream: Inflated) -> Read:
    """Return the splats that a stream of version 2 or 3 holds, in our world; errors as `load_ply`."""
    magic, version, count, degree, bits, flags, _ = HEADER.unpack(stream.take(HEADER.size))
    if magic != MAGIC:
        raise UserError(f"{path} is not a .spz that can be read: it does not begin with NGSP")
    header = Header(version, count, degree, bits, flags)
    header.check(path, stream.size)
    if version == 4:
        raise UserError(f"{path} is not a .spz that can be read: it is of version 4, which is not inside gzip; is it packed twice?")
    return _read(path, header, stream)


def _read(path: Path, header: Header, stream: Inflated | Frames) -> Read:
    """Return the splats behind a header, in our world."""
    notes = ()
    if header.flags & EXTENDED:
        notes = ("its extensions (data of other programs, which move no splat) are left out",)
    raw = _attributes(header, stream)
    if raw.degree > 3:
        raw, notes = raw.with_degree(3), (*notes, "its colours are of degree 4; what changes fastest with the direction is left out")
    found = judged(path, raw, notes, "antialiased" if header.flags & ANTIALIASED else "default")
    return replace(found, gaussians=frames.placed(found.gaussians, frames.into("gltf").T))


def _attributes(header: Header, stream: Inflated | Frames) -> Gaussians:
    """Return physical values in the file's own world, unchecked."""

    def take(*shape: int) -> UInt8[np.ndarray, "..."]:
        return np.frombuffer(stream.take(header.count * math.prod(shape)), np.uint8).reshape(header.count, *shape)

    fixed = np.zeros((header.count, 3, 4), np.uint8)
    fixed[..., 1:] = take(3, 3)
    means = torch.from_numpy((fixed.view("<i4")[..., 0] >> 8).astype(np.float32) / np.float32(2**header.bits))
    opacities, dc, scales = (_floats(take(k)) for k in (1, 3, 3))
    quats = _unpacked(take(4)) if header.version >= 3 else _first_three(_floats(take(3)) / 127.5 - 1)
    rest = (_floats(take((header.degree + 1) ** 2 - 1, 3)) - 128) / 128
    base = ((dc / 255 - 0.5) / COLOUR)[:, None]
    return Gaussians(means, quats, (scales / 16 - 10).exp(), opacities[:, 0] / 255, torch.cat([base, rest], 1))


def _packed(quats: Float[Tensor, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    """Pack the largest component's index (of x y z w) in 2 bits; sign and 9 bits of each of the others, from the highest."""
    q = torch.nn.functional.normalize(quats, dim=1).roll(-1, 1).numpy()
    rows, largest = np.arange(len(q)), np.abs(q).argmax(1)
    q = q * np.where(q[rows, largest] < 0, -1, 1)[:, None]
    word = largest.astype(np.uint32)
    for i in range(4):
        magnitude = np.round(np.abs(q[:, i]) / ROOT_HALF * 511).clip(0, 511).astype(np.uint32)
        word = np.where(i == largest, word, word << 10 | (q[:, i] < 0).astype(np.uint32) << 9 | magnitude)
    return word.astype("<u4")[:, None].view(np.uint8)


def _unpacked(packed: UInt8[np.ndarray, "n 4"]) -> Float[Tensor, "n 4"]:
    word = np.ascontiguousarray(packed).view("<u4")[:, 0]
    largest, q = word >> 30, np.zeros((len(word), 4), np.float32)
    for i in (3, 2, 1, 0):
        value = (word & 511) * np.float32(ROOT_HALF / 511) * np.where(word >> 9 & 1, -1, 1)
        q[:, i], word = np.where(i == largest, 0, value), np.where(i == largest, word, word >> 10)
    left = np.sqrt(np.clip(1 - (q * q).sum(1), 0, None))
    q[np.arange(len(q)), largest] = left
    return torch.nn.functional.normalize(torch.from_numpy(q).roll(1, 1), dim=1)


def _first_three(xyz: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Return rotations of version 2, whose w is what is left."""
    w = (1 - xyz.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
    return torch.nn.functional.normalize(torch.cat([w, xyz], 1), dim=1)


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _bytes(values: Tensor) -> np.ndarray:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()
