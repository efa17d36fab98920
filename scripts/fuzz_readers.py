"""Hostile files for every reader: python scripts/fuzz_readers.py --count 10000 --seed 0 (--only 17 repeats one)

Files are made from good ones of every format that is read (.ply of splats and of points, binary and text, with and without
lists, compressed as SuperSplat does; .splat; .spz of versions 2 and 3, of one and several gzip members, and of 4; .sog, bundled and as a folder; pages; key frames; photographs)
by faults that know their structure: other counts, types, names and orders in headers, other values in rows, other JSON,
other pictures, damage inside the compression and outside, bombs, and bytes at random. Each must be read as finite Gaussians
(points, key frames), or refused with a UserError that names the file, within a second of the processor (five of a photograph) and a bounded part
of memory. Anything else is printed with its number, the file is kept, and the exit status is 1.
"""

import argparse
import gzip
import io
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import zstandard
from hostile_files import hostile
from PIL import Image
from plyfile import PlyData, PlyElement

from splatdistill.errors import UserError
from splatdistill.export.paths import Place, key_frames
from splatdistill.export.saved_splats import SavedSplats, load
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats
from splatdistill.io.compressed import CHUNK, WORDS
from splatdistill.io.cutout import cut_out
from splatdistill.io.html import load_html, write_html
from splatdistill.io.photo import read_photo
from splatdistill.io.ply import write_ply
from splatdistill.io.points import Points, read_points
from splatdistill.io.rows import Read, faults
from splatdistill.io.sog import write_sog
from splatdistill.io.splat import write_splat
from splatdistill.io.spz import HEADER, HEADER_4, pack, write_spz
from splatdistill.io.spz_streams import ENTRY

SLOW, SLOW_PHOTO = 1.0, 5.0  # seconds of the processor for one file; a photograph may have 64 million pixels
LONGEST = 3000  # characters of a message
@dataclass(frozen=True)
class Good:
    """Valid file of a format."""

    kind: str
    data: bytes
    read: Callable[[Path], object]


def splats(n: int, degree: int) -> Gaussians:
    """Return a few that every format can hold."""
    rng = torch.Generator().manual_seed(n)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=torch.rand(n, 3, generator=rng) + 0.01,
        opacities=torch.rand(n, generator=rng),
        sh=0.1 * torch.randn(n, (degree + 1) ** 2, 3, generator=rng),
    )


def good_files(folder: Path) -> list[Good]:
    """Write one of every kind, and read it, which loads what readers load."""
    found: list[Good] = []

    def add(kind: str, write: Callable[[Path], object], read: Callable[[Path], object]) -> None:
        path = folder / f"good.{kind}"
        write(path)
        found.append(Good(kind, path.read_bytes(), read))
        verify(read(path))

    add("ply", lambda path: write_ply(path, splats(9, 1)), load_splats)
    add("ply", lambda path: write_ply(path, splats(5, 3), ["prompt a mug"], pad=False), load)
    row = PlyData.read(io.BytesIO(found[1].data))["vertex"].data[list("xyz") + [f"{n}_{i}" for n in ("f_dc", "scale", "rot") for i in range(3)] + ["rot_3", "opacity"]]
    row = np.array(row.tolist(), [(name, "f4") for name in row.dtype.names or ()])
    points = np.zeros(6, [*((n, "f8") for n in "xyz"), *((n, "u1") for n in ("red", "green", "blue"))])
    points["x"] = np.arange(6)
    faces = np.array([((0, 1, 2),), ((2, 1, 0),)], [("vertex_indices", "i4", (3,))])
    for text, order in ((True, "="), (False, ">"), (False, "<")):
        for elements in (["vertex"], ["face", "vertex"]):
            for data, read in ((row, load_splats), (points, read_points)):
                parts = [PlyElement.describe(data if name == "vertex" else faces, name) for name in elements]
                add("ply", lambda path, parts=parts, text=text, order=order: PlyData(parts, text=text, byte_order=order).write(str(path)), read)
    add("splat", lambda path: write_splat(path, splats(9, 0)), load_splats)
    add("spz", lambda path: write_spz(path, splats(9, 1)), load_splats)
    add("spz", lambda path: write_spz(path, splats(40, 3)), load_splats)
    for degree in (0, 3):
        add("4.spz", lambda path, degree=degree: path.write_bytes(spz_4(splats(30, degree))), load_splats)
        add("compressed.ply", lambda path, degree=degree: compressed_ply(path, splats(300, degree)), load_splats)
    for degree in (0, 2):
        add("sog", lambda path, degree=degree: write_sog(path, splats(9, degree)), load_splats)
    add("html", lambda path: write_html(path, splats(9, 1)), load_html)
    keys = [{"azimuth": 0, "elevation": 10, "distance": 3}, {"azimuth": 180}, {"fov": 30}]
    add("json", lambda path: path.write_text(json.dumps(keys), encoding="utf-8"), lambda path: key_frames(path, 7, Place()))
    disc = (np.hypot(*np.mgrid[-16:16, -20:20]) < 12)[..., None]
    rgba = np.where(disc, np.array([200, 60, 30, 255]), np.array([250, 250, 250, 0])).astype(np.uint8)
    for kind, pixels in (("png", rgba), ("jpg", rgba[..., :3]), ("webp", rgba)):
        add(kind, lambda path, pixels=pixels: Image.fromarray(pixels).save(path), lambda path: cut_out(read_photo(path), str(path)))
    return found


def spz_4(g: Gaussians) -> bytes:
    """Return a .spz of version 4, of the attributes of one of version 3."""
    raw = gzip.decompress(pack(Path("good.spz"), g))
    magic, _, count, degree, bits, flags, _ = HEADER.unpack(raw[: HEADER.size])
    sizes = [count * size for size in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)) if size]
    ends = np.cumsum([HEADER.size, *sizes])
    frames = [zstandard.ZstdCompressor().compress(raw[a:b]) for a, b in zip(ends[:-1], ends[1:])]
    table = b"".join(ENTRY.pack(len(frame), size) for frame, size in zip(frames, sizes))
    return HEADER_4.pack(magic, 4, count, degree, bits, flags, len(sizes), HEADER_4.size) + table + b"".join(frames)


def compressed_ply(path: Path, g: Gaussians) -> None:
    """Write splats somewhere within the bounds of their chunks, as SuperSplat's compressed .ply has them."""
    rng, chunks = np.random.default_rng(0), -(-len(g) // CHUNK)
    names = [f"{end}_{name}" for prefix in ("xyz", ("scale_x", "scale_y", "scale_z"), "rgb") for end in ("min", "max") for name in prefix]
    bounds = np.array([tuple(float(name[:3] == "max") - 3 * ("scale" in name) for name in names)] * chunks, [(name, "f4") for name in names])
    words = np.zeros(len(g), [(name, "u4") for name in WORDS])
    for name in WORDS:
        words[name] = rng.integers(0, 2**32, len(g))
    parts = [PlyElement.describe(bounds, "chunk"), PlyElement.describe(words, "vertex")]
    if g.degree:
        rest = np.zeros(len(g), [(f"f_rest_{i}", "u1") for i in range(3 * ((g.degree + 1) ** 2 - 1))])
        parts.append(PlyElement.describe(rest, "sh"))
    PlyData(parts, byte_order="<").write(str(path))


def verify(got: object) -> None:
    """Check what a reader gave."""
    for each in got if isinstance(got, list) else [got]:
        match each:
            case Points():
                assert len(each.xyz) and each.xyz.isfinite().all(), "points that are not finite"
                assert each.rgb is None or each.rgb.isfinite().all(), "colours that are not finite"
            case Read() | SavedSplats():
                assert len(each.gaussians) and not torch.stack([*faults(each.gaussians).values()]).any(), "rows that are no Gaussians"
            case torch.Tensor():
                assert got.shape[0] == 4 and got.isfinite().all() and 0 <= got.min() <= got.max() <= 1, "a picture that is none"
            case Place():
                pass
            case _:
                raise AssertionError(f"a reader gave {type(each)}")


def try_one(files: list[Good], folder: Path, seed: int, number: int, kind: str = "") -> str:
    """Make and read one file, of a kind or of any; say what became of it. Anything but splats or an explanation raises."""
    rng = Random(f"{seed}/{number}")
    kind = kind or rng.choice(sorted({good.kind for good in files}))
    good = rng.choice([good for good in files if good.kind == kind])
    path = hostile(good.kind, good.data, folder / f"hostile.{good.kind}", rng)
    began = time.process_time()
    try:
        verify(good.read(path))
        end = "read"
    except UserError as error:
        told = str(error)
        assert str(path) in told, f"the message does not name the file: {told}"
        assert len(told) < LONGEST and told.count("\n") < 3, f"a message of {len(told)} characters"
        end = "refused"
    slow = SLOW_PHOTO if good.kind in ("png", "jpg", "webp") else SLOW
    assert (took := time.process_time() - began) < slow, f"it took {took:.1f} s"
    return f"{good.kind} {end}"


def fuzz(folder: Path, seed: int, numbers: range, ready: Callable[[], None] = lambda: None, kind: str = "") -> Counter[str]:
    """Try files of these numbers, of one kind or of all; return how many of what. ready: called when all readers have read a
    good file.
    """
    files, found = good_files(folder), Counter[str]()
    ready()
    for number in numbers:
        try:
            found[try_one(files, folder, seed, number, kind)] += 1
        except Exception as error:
            raise AssertionError(f"file {number} of seed {seed}, kept in {folder}: {type(error).__name__}: {error}") from error
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many files (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of all of them (default 0)")
    parser.add_argument("--only", type=int, help="this one alone")
    parser.add_argument("--kind", default="", help="files of this kind alone, such as 4.spz or compressed.ply")
    parser.add_argument("--memory", type=int, default=1024, help="MiB of address space that reading may add (default 1024)")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def limited() -> None:
        import resource  # not on Windows

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        most = pages * resource.getpagesize() + asked.memory * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    try:
        found = fuzz(folder, asked.seed, range(asked.count) if asked.only is None else range(asked.only, asked.only + 1), limited, asked.kind)
    except AssertionError as error:
        traceback.print_exception(error.__cause__)
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(", ".join(f"{what} {count}" for what, count in sorted(found.items())), f"- nothing else in {sum(found.values())} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
