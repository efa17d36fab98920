"""Gaussian splats as .spz, version 3: about 20 bytes each before gzip (nianticlabs/spz).

A header of 16 bytes (magic, version, count, degree, fractional bits of the positions, flags), then all positions
(3 x 24 bits, fixed point), opacities (byte), colours of the constant band (3 bytes, f_dc 0.15 + 1/2), logarithms of the
standard deviations (3 bytes, (ln s + 10) 16), rotations (4 bytes: which component is largest, and sign and 9 bits of
the three others) and the higher bands (bytes, 128 + 128 c, colours innermost). Its world has y up and looks back along
z (RUB): the same as glTF's, and not that of .ply files. Read are versions 2 and 3.
"""

import gzip
import math
import os
import struct
import zlib
from dataclasses import replace
from io import BufferedIOBase
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
from splatdistill.io.rows import MOST, RATIO, Read, Written, judged, writable

MAGIC, VERSION = 0x5053474E, 3  # "NGSP"
HEADER = struct.Struct("<IIIBBBB")
USUAL, FINEST = 16, 23  # fractional bits of a position: steps of 1.5e-5, and of 1.2e-7
MOST_FIXED = 2**23 - 1  # a position as a whole number of 24 bits
STEP = 0.05  # of a splat's size, for steps of its position
COLOUR = 0.15  # of f_dc in a byte's range
ROOT_HALF = 0.5**0.5  # no component but the largest exceeds it
CONVERT = "convert it first, for example with `splat-transform --spz-version 3 in.spz out.spz`"


def write_spz(path: Name, gaussians: Gaussians) -> Written:
    """Write splats. What is left out and what is raised: as `write_ply`. Values beyond the format's range are cut."""
    path = Path(path)
    g = writable(path, gaussians)
    data = pack(path, g)
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


def pack(path: Path, g: Gaussians) -> bytes:
    """Return a file's bytes; UserError if it cannot hold them. path: for that message."""
    g = frames.placed(g, frames.into("gltf"))
    bits = fractional_bits(g)
    far = g.means.abs().max().item()
    if not far * 2**bits <= MOST_FIXED:
        raise UserError(
            f"cannot write {path}: .spz holds positions up to 8e6, here is one of {far:.3g}; move the object to the origin "
            "with --pivot centre, or scale it down"
        )
    head = HEADER.pack(MAGIC, VERSION, len(g), g.degree, bits, 0, 0)
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
        if file.peek(4)[:4] == MAGIC.to_bytes(4, "little"):
            raise UserError(f"{path} is a .spz of version 4 or later; expected 2 or 3: {CONVERT}")
        raw = unpack(path, Inflated(path, file, os.fstat(file.fileno()).st_size))
    found = judged(path, raw)
    return replace(found, gaussians=frames.placed(found.gaussians, frames.into("gltf").T))


class Inflated:
    """Gzip members one after the other, as pigz and those who append write them, that give so many bytes and no more,
    however far they would go on.
    """

    def __init__(self, path: Path, file: BufferedIOBase, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.stream, self.waiting = zlib.decompressobj(wbits=31), b""

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; UserError if there are fewer."""
        out = bytearray()
        try:
            while len(out) < size:
                self.waiting = self.waiting or self.file.read(1 << 16)
                if not self.waiting:
                    break
                if self.stream.eof:
                    self.waiting = self.waiting.lstrip(b"\0")  # zeros may fill up what is between members
                    if not self.waiting:
                        continue
                    if self.waiting[:1] != b"\x1f":
                        break
                    self.stream = zlib.decompressobj(wbits=31)
                out += self.stream.decompress(self.waiting, size - len(out))
                self.waiting = self.stream.unused_data if self.stream.eof else self.stream.unconsumed_tail
        except zlib.error as error:
            raise UserError(f"{self.path} is not a .spz that can be read: not gzip, or damaged ({error})") from error
        if len(out) < size:
            raise UserError(f"{self.path} is truncated or its header wrong: {size} bytes were to come, {len(out)} did")
        return bytes(out)


def unpack(path: Path, stream: Inflated) -> Gaussians:
    """Return what a stream holds, in the file's own world; unchecked."""
    magic, version, count, degree, bits, _, _ = HEADER.unpack(stream.take(HEADER.size))
    if magic != MAGIC:
        raise UserError(f"{path} is not a .spz that can be read: it does not begin with NGSP")
    if version not in (2, 3):
        raise UserError(f"{path} is a .spz of version {version}; expected 2 or 3: {CONVERT}")
    if count > MOST or degree > 3 or bits > 23:
        raise UserError(
            f"{path} is not a .spz that can be read: its header says {count} splats of degree {degree} with {bits} "
            f"fractional bits; expected at most {MOST}, 3 and 23"
        )
    if count > RATIO * stream.size + (1 << 16):
        raise UserError(f"{path} is not to be believed: {count} splats in {stream.size} bytes")

    def take(*shape: int) -> UInt8[np.ndarray, "..."]:
        return np.frombuffer(stream.take(count * math.prod(shape)), np.uint8).reshape(count, *shape)

    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = take(3, 3)
    means = torch.from_numpy((fixed.view("<i4")[..., 0] >> 8).astype(np.float32) / np.float32(2**bits))
    opacities, dc, scales = (_floats(take(k)) for k in (1, 3, 3))
    quats = _unpacked(take(4)) if version == 3 else _first_three(_floats(take(3)) / 127.5 - 1)
    rest = (_floats(take((degree + 1) ** 2 - 1, 3)) - 128) / 128
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
