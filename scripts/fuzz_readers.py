"""Hostile files for every reader: python scripts/fuzz_readers.py [--count N] [--seed S] [--only I] [--memory MIB]

Files are made from good ones of every format that is read (.ply of splats and of points, binary and text, with and without
lists; .splat; .spz of versions 2 and 3, of one and several gzip members; .sog, bundled and as a folder; pages; key frames)
by faults that know their structure: other counts, types, names and orders in headers, other values in rows, other JSON,
other pictures, damage inside the compression and outside, bombs, and bytes at random. Each must be read as finite Gaussians
(points, key frames), or refused with a UserError that names the file, within a second of the processor and a bounded part
of memory. Anything else is printed with its number, the file is kept, and the exit status is 1.
"""

import argparse
import base64
import gzip
import io
import json
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from splatdistill.errors import UserError
from splatdistill.export.paths import Place, key_frames
from splatdistill.export.saved_splats import SavedSplats, load
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats
from splatdistill.io.html import DATA, load_html, write_html
from splatdistill.io.ply import write_ply
from splatdistill.io.points import Points, read_points
from splatdistill.io.rows import Read, faults
from splatdistill.io.sog import write_sog
from splatdistill.io.splat import write_splat
from splatdistill.io.spz import HEADER, write_spz

SLOW = 1.0  # seconds of the processor for one file
LONGEST = 3000  # characters of a message
INTEGERS = (0, 1, 2, 3, 4, 7, 255, 256, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**7, 10**18, 10**40, -1, -3)
FLOATS = tuple(map(np.float32, (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38, -3.4e38, 1e19, 89.0, -104.0, 1e6, 255.0)))
WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", bytes(8), b"999999999999", b"-1", b"ply\n", b"\r", b"end_header\n")
TYPES = ("char", "uchar", "short", "uint16", "int", "uint32", "float", "double", "float64", "b1", "half", "string", "list uchar int", "list float int")
NAMES = ("x", "y", "z", "red", "alpha", "f_dc_0", "f_rest_0", "f_rest_44", "opacity", "scale_0", "scale_2", "rot_0", "nx", "", "\xe9", "x" * 300)
JSON = (None, True, False, 0, -1, 1, 2, 3, 1e308, -1e308, float("nan"), float("inf"), 10**30, "", "x", "../../etc/passwd", "/dev/zero", "meta.json",
        [], [[]], [0] * 3, [0] * 256, [None] * 256, ["a"] * 2, {}, {"files": []}, [1e308] * 256, [1e400] * 256, "\0")  # fmt: skip


@dataclass(frozen=True)
class Good:
    """A good file of a kind."""

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
    for degree in (0, 2):
        add("sog", lambda path, degree=degree: write_sog(path, splats(9, degree)), load_splats)
    add("html", lambda path: write_html(path, splats(9, 1)), load_html)
    keys = [{"azimuth": 0, "elevation": 10, "distance": 3}, {"azimuth": 180}, {"fov": 30}]
    add("json", lambda path: path.write_text(json.dumps(keys)), lambda path: key_frames(path, 7, Place()))
    return found


def verify(got: object) -> None:
    """Check what a reader gave."""
    for each in got if isinstance(got, list) else [got]:
        match each:
            case Points():
                assert len(each.xyz) and each.xyz.isfinite().all(), "points that are not finite"
                assert each.rgb is None or each.rgb.isfinite().all(), "colours that are not finite"
            case Read() | SavedSplats():
                assert len(each.gaussians) and not torch.stack([*faults(each.gaussians).values()]).any(), "rows that are no Gaussians"
            case Place():
                pass
            case _:
                raise AssertionError(f"a reader gave {type(each)}")


def damaged(data: bytes, rng: Random) -> bytes:
    """Make one to four faults that know no structure."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(len(data), 1))
        match rng.choice(("overwrite", "word", "bit", "cut", "repeat", "insert", "all")):
            case "overwrite":
                noise = rng.randbytes(rng.randint(1, 16))
                data = data[:at] + noise + data[at + len(noise) :]
            case "word":
                word = rng.choice(WORDS)
                data = data[:at] + word + data[at + len(word) :]
            case "bit" if data:
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "repeat":
                data = data[:at] + data[at : at + 64] * rng.randint(2, 40) + data[at:]
            case "insert":
                data = data[:at] + rng.randbytes(rng.randrange(64)) + data[at:]
            case "all" if rng.random() < 0.2:
                data = rng.randbytes(rng.randrange(200))
    return data


def floats_changed(data: bytes, rng: Random, start: int = 0) -> bytes:
    """Put special numbers where rows have theirs."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = start + 4 * rng.randrange(max((len(out) - start) // 4, 1))
        value = np.array(rng.choice(FLOATS), rng.choice(("<f4", ">f4"))).tobytes()
        out[at : at + 4] = value[: max(0, len(out) - at)]
    return bytes(out)


def ply(data: bytes, rng: Random) -> bytes:
    """Change a header's lines, or the rows behind it."""
    head, end, body = data.partition(b"end_header\n")
    lines = head.decode("latin-1").splitlines()
    for _ in range(rng.randint(1, 3)):
        k = rng.randrange(1, len(lines)) if len(lines) > 1 else 0
        words = lines[k].split(" ")
        match rng.choice(("count", "type", "name", "drop", "double", "swap", "order", "comment", "line", "word", "rows", "rows", "more", "none")):
            case "count":
                lines = [" ".join([*w.split(" ")[:2], str(rng.choice(INTEGERS))]) if w.startswith("element") and rng.random() < 0.7 else w for w in lines]
            case "type" if words[0] == "property":
                lines[k] = f"property {rng.choice(TYPES)} {words[-1]}"
            case "name":
                lines[k] = " ".join([*words[:-1], rng.choice(NAMES)])
            case "drop":
                del lines[k]
            case "double":
                lines.insert(k, lines[k])
            case "swap":
                other = rng.randrange(len(lines))
                lines[k], lines[other] = lines[other], lines[k]
            case "order":
                lines = [f"format {rng.choice(('ascii', 'binary_little_endian', 'binary_big_endian', 'binary', ''))} {rng.choice(('1.0', '2.0', ''))}" if w.startswith("format") else w for w in lines]
            case "comment":
                lines.insert(k, rng.choice(("comment ", "comment", "obj_info x", "comment up gltf", "comment made by splatdistill", "comment \xe9\xff", "comment " + "x" * rng.choice((100, 70_000)), "comment degree 0")))
            case "line":
                lines.insert(k, rng.choice(("element vertex 3", "element face 2", "element", "property", "property list", "property list uchar int i", "end_header ", " ", "\t", "element vertex 3 4", "property list double double d", "element e 10")))
            case "word":
                words[rng.randrange(len(words))] = str(rng.choice((*INTEGERS, *NAMES, *TYPES)))
                lines[k] = " ".join(words)
            case "rows":
                body = rng.choice((floats_changed, damaged))(body, rng)
            case "more":
                body += rng.randbytes(rng.randrange(200))
            case _:
                pass
    mark = rng.choice(("\n",) * 8 + ("\r\n", "\r"))
    out = mark.join(lines).encode("latin-1", "replace") + mark.encode() + end.replace(b"\n", mark.encode()) + body
    return rng.choice((b"",) * 9 + (b"\xef\xbb\xbf",)) + out


def spz(data: bytes, rng: Random) -> bytes:
    """Change the header or the streams inside, and pack it again: in one member, in several, with more behind it."""
    raw = gzip.decompress(data)
    head, body = list(HEADER.unpack(raw[: HEADER.size])), raw[HEADER.size :]
    for _ in range(rng.randint(0, 2)):
        k = rng.randrange(1, len(head))
        head[k] = rng.choice(INTEGERS) % (2**32 if k < 3 else 256)
    if rng.random() < 0.3:
        head[1] = rng.choice((1, 2, 3, 4))
    if rng.random() < 0.5:
        body = damaged(body, rng)
    raw = HEADER.pack(*head) + body
    if rng.random() < 0.03:
        raw += bytes(rng.choice((10**6, 3 * 10**7)))
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.choice((0, 0, 0, 1, 2, 30))))
    parts = [gzip.compress(raw[a:b], 1, mtime=0) for a, b in zip([0, *cuts], [*cuts, len(raw)])]
    out = rng.choice((b"", b"", bytes(9))).join(parts) + rng.choice((b"", b"", bytes(70_000), b"behind", b"\x1f\x8b"))
    return damaged(out, rng) if rng.random() < 0.2 else out


def meddled(value: object, rng: Random) -> object:
    """Put another value somewhere into JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: meddled(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        k = rng.randrange(len(value))
        return [*value[:k], meddled(value[k], rng), *value[k + 1 :]]
    return rng.choice(JSON)


def picture(data: bytes, rng: Random) -> bytes:
    """Make another picture of one: of other size, mode or format, of several frames, claiming to be huge, or damaged."""
    match rng.choice(("size", "mode", "format", "noise", "frames", "huge", "damage", "bomb")):
        case "size":
            pixels = Image.new("RGBA", (rng.choice((1, 3, 64, 640, 16_383)), rng.choice((1, 2, 5, 100))))
        case "mode":
            pixels = Image.open(io.BytesIO(data)).convert(rng.choice(("RGB", "L")))
        case "noise":
            w, h = Image.open(io.BytesIO(data)).size
            pixels = Image.frombytes("RGBA", (w, h), rng.randbytes(4 * w * h))
        case "format":
            out = io.BytesIO()
            Image.new("RGBA", (4, 4)).save(out, rng.choice(("png", "gif", "tiff")))
            return out.getvalue()
        case "frames":
            out, frame = io.BytesIO(), Image.open(io.BytesIO(data)).convert("RGBA")
            frame.save(out, "webp", save_all=True, append_images=[Image.new("RGBA", frame.size, (9, 9, 9, 253))] * 3, lossless=True)
            return out.getvalue()
        case "huge":  # VP8L: 14 bits of width - 1 and of height - 1 behind the signature
            side = rng.choice((4000, 9000, 16_384)) - 1
            return data[:21] + (int.from_bytes(data[21:25], "little") >> 28 << 28 | side << 14 | side).to_bytes(4, "little") + data[25:]
        case "bomb":
            return bytes(rng.choice((10**6, 4 * 10**7)))
        case _:
            return damaged(data, rng)
    out = io.BytesIO()
    pixels.save(out, "webp", lossless=True, exact=True)
    return out.getvalue()


def sog(data: bytes, rng: Random) -> dict[str, bytes]:
    """Return the files of a .sog, some of them others."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(sorted(files))
        match rng.choice(("meta", "meta", "meta", "picture", "drop", "exchange", "count")):
            case "meta" if "meta.json" in files:
                with suppress(ValueError):
                    files["meta.json"] = json.dumps(meddled(json.loads(files["meta.json"]), rng)).encode()
            case "picture" if name.endswith(".webp") and files[name][:4] == b"RIFF":
                with suppress(OSError, SyntaxError, ValueError):
                    files[name] = picture(files[name], rng)
            case "drop":
                del files[name]
                if not files:
                    return {"meta.json": b"{}"}
            case "exchange":
                files[name] = files[rng.choice(sorted(files))]
            case "count":
                files["meta.json"] = files.get("meta.json", b"").replace(b'"count": 9', f'"count": {rng.choice(INTEGERS)}'.encode())
            case _:
                files[name] = damaged(files[name], rng)
    return files


def zipped(files: dict[str, bytes], rng: Random) -> bytes:
    """Pack files as a zip, in a folder or not, some twice."""
    out, prefix = io.BytesIO(), rng.choice(("", "", "", "scene/", "../", "/"))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))) as archive:
        warnings.simplefilter("ignore")
        kind = archive.compression
        for name, inner in files.items():
            for _ in range(rng.choice((1,) * 19 + (2,))):
                archive.writestr(zipfile.ZipInfo(prefix + name), inner, kind)
    return damaged(out.getvalue(), rng) if rng.random() < 0.3 else out.getvalue()


def html(data: bytes, rng: Random) -> bytes:
    """Change what a page holds, or the page."""
    found = DATA.search(data)
    if found is None or rng.random() < 0.3:
        return damaged(data, rng)
    packed = base64.b64encode(spz(base64.b64decode(found[1]), rng))
    packed = rng.choice((packed, packed, packed, packed[:-1], packed.replace(b"A", b"\n", 3), b"", b"====", damaged(packed, rng)))
    return data[: found.start(1)] + packed + data[found.end(1) :]


def hostile(good: Good, path: Path, rng: Random) -> Path:
    """Write a hostile file of a kind; return its path, which is a folder for an unbundled .sog."""
    plain = rng.random() < 0.15
    if good.kind == "sog" and not plain:
        files = sog(good.data, rng)
        if rng.random() < 0.3:
            folder = path.with_suffix("")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, inner in files.items():
                if rng.random() < 0.02:
                    (folder / name).symlink_to(rng.choice(("/dev/zero", "nowhere", name, "/etc")))
                else:
                    (folder / name).write_bytes(inner)
            return folder if "meta.json" in files and rng.random() < 0.8 else folder / "meta.json"
        path.write_bytes(zipped(files, rng))
        return path
    make: dict[str, Callable[[bytes, Random], bytes]] = {"ply": ply, "spz": spz, "html": html, "splat": floats_changed}
    if good.kind == "json" and not plain:
        text = json.dumps(meddled(json.loads(good.data), rng))
        data = rng.choice((text.encode(), text.encode(), b"[" * 9999, b"\xff" + text.encode(), text.replace("0", "0" * 5000, 1).encode()))
    else:
        data = damaged(good.data, rng) if plain or good.kind == "json" else make[good.kind](good.data, rng)
    path.write_bytes(data)
    return path


def try_one(files: list[Good], folder: Path, seed: int, number: int) -> str:
    """Make and read one file; say what became of it. Anything but splats or an explanation raises."""
    rng = Random(f"{seed}/{number}")
    kind = rng.choice(sorted({good.kind for good in files}))
    good = rng.choice([good for good in files if good.kind == kind])
    path = hostile(good, folder / f"hostile.{good.kind}", rng)
    began = time.process_time()
    try:
        verify(good.read(path))
        end = "read"
    except UserError as error:
        told = str(error)
        assert str(path) in told, f"the message does not name the file: {told}"
        assert len(told) < LONGEST and told.count("\n") < 3, f"a message of {len(told)} characters"
        end = "refused"
    assert (took := time.process_time() - began) < SLOW, f"it took {took:.1f} s"
    return f"{good.kind} {end}"


def fuzz(folder: Path, seed: int, numbers: range, ready: Callable[[], None] = lambda: None) -> Counter[str]:
    """Try files of these numbers; return how many of what. ready: called when all readers have read a good file."""
    files, found = good_files(folder), Counter[str]()
    ready()
    for number in numbers:
        try:
            found[try_one(files, folder, seed, number)] += 1
        except Exception as error:
            raise AssertionError(f"file {number} of seed {seed}, kept in {folder}: {type(error).__name__}: {error}") from error
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many files (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of all of them (default 0)")
    parser.add_argument("--only", type=int, help="this one alone")
    parser.add_argument("--memory", type=int, default=1024, help="MiB of address space that reading may add (default 1024)")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def limited() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + asked.memory * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    try:
        found = fuzz(folder, asked.seed, range(asked.count) if asked.only is None else range(asked.only, asked.only + 1), limited)
    except AssertionError as error:
        traceback.print_exception(error.__cause__)
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(", ".join(f"{what} {count}" for what, count in sorted(found.items())), f"- nothing else in {sum(found.values())} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
