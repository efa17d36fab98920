"""Hostile files by fault: what fuzz_readers.py hands to readers. Each function makes a bad file of a good one's bytes."""

import base64
import gzip
import io
import json
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import zstandard
from PIL import Image

from splatdistill.io.html import DATA
from splatdistill.io.spz import HEADER, HEADER_4
from splatdistill.io.spz_streams import ENTRY

INTEGERS = (0, 1, 2, 3, 4, 7, 255, 256, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**7, 10**18, 10**40, -1, -3)
FLOATS = tuple(map(np.float32, (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38, -3.4e38, 1e19, 89.0, -104.0, 1e6, 255.0)))
WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", bytes(8), b"999999999999", b"-1", b"ply\n", b"\r", b"end_header\n")
TYPES = ("char", "uchar", "short", "uint16", "int", "uint32", "float", "double", "float64", "b1", "half", "string", "list uchar int", "list float int")
NAMES = ("x", "y", "z", "red", "alpha", "f_dc_0", "f_rest_0", "f_rest_44", "opacity", "scale_0", "scale_2", "rot_0", "nx", "", "\xe9", "x" * 300)
JSON = (None, True, False, 0, -1, 1, 2, 3, 1e308, -1e308, float("nan"), float("inf"), 10**30, "", "x", "../../etc/passwd", "/dev/zero", "meta.json",
        [], [[]], [0] * 3, [0] * 256, [None] * 256, ["a"] * 2, {}, {"files": []}, [1e308] * 256, [1e400] * 256, "\0")  # fmt: skip


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
    """Return the data with some of its floats replaced by special numbers."""
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


def spz4(data: bytes, rng: Random) -> bytes:
    """Change the header, the table or the streams of version 4, and pack them again: other sizes, bombs, no frames at all."""
    head = list(HEADER_4.unpack(data[: HEADER_4.size]))
    entries = list(ENTRY.iter_unpack(data[head[7] : head[7] + ENTRY.size * head[6]]))
    at, streams = head[7] + ENTRY.size * head[6], []
    for packed, size in entries:
        streams.append((zstandard.ZstdDecompressor().decompress(data[at : at + packed]), size))
        at += packed
    for _ in range(rng.choice((0, 0, 1, 2))):
        k = rng.randrange(1, len(head))
        head[k] = rng.choice(INTEGERS) % (256 if 3 <= k <= 6 else 2**32)
    if rng.random() < 0.1:
        head[1] = rng.choice((1, 2, 3, 4, 5))
    table, body = b"", b""
    for plain, size in rng.choice((*[streams] * 9, streams[:-1], streams[::-1], [*streams, streams[0]])):
        plain = damaged(plain, rng) if rng.random() < 0.3 else plain
        plain += bytes(rng.choice((10**6, 3 * 10**7))) if rng.random() < 0.02 else b""
        sized = rng.random() < 0.5
        frame = zstandard.ZstdCompressor(level=1, write_content_size=sized).compress(plain)
        frame = damaged(frame, rng) if rng.random() < 0.1 else frame
        size = rng.choice((*(abs(n) % 2**64 for n in INTEGERS), len(plain))) if rng.random() < 0.1 else size
        table += ENTRY.pack(len(frame) if rng.random() < 0.95 else rng.choice((0, 3, 10**6, 2**63)), size)
        body += frame
    extensions = rng.randbytes(rng.choice((0, 0, 0, 8, 40)))
    if extensions and rng.random() < 0.8:
        head[5], head[7] = 2, HEADER_4.size + len(extensions)
    out = HEADER_4.pack(*head) + extensions + table + body
    return damaged(out, rng) if rng.random() < 0.2 else out


def meddled(value: object, rng: Random) -> object:
    """Return a JSON value with one value changed somewhere."""
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


def photo(data: bytes, rng: Random) -> bytes:
    """Make another photograph of one: another picture, one that claims another size, or a damaged one."""
    match rng.choice(("picture", "claim", "damage")):
        case "picture":
            return picture(data, rng)
        case "claim":
            sides = b"".join(rng.choice((0, 1, 15, 7000, 60_000, 2**31 - 1)).to_bytes(4, "big") for _ in range(2))
            if data.startswith(b"\x89PNG"):  # its first chunk
                header = b"IHDR" + sides + data[24:29]
                return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
            if (at := data.find(b"\xff\xc0")) >= 0:  # the frame of a JPEG: height and width after length and precision
                return data[: at + 5] + sides[2:4] + sides[6:8] + data[at + 9 :]
            return damaged(data, rng)
        case _:
            return damaged(data, rng)


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


def hostile(kind: str, good: bytes, path: Path, rng: Random) -> Path:
    """Write a hostile file of a kind; return its path, which is a folder for an unbundled .sog."""
    plain = rng.random() < 0.15
    if kind == "sog" and not plain:
        files = sog(good, rng)
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
    make: dict[str, Callable[[bytes, Random], bytes]] = {
        "ply": ply, "compressed.ply": ply, "spz": spz, "4.spz": spz4, "html": html, "splat": floats_changed, "png": photo, "jpg": photo, "webp": photo,
    }  # fmt: skip
    if kind == "json" and not plain:
        text = json.dumps(meddled(json.loads(good), rng))
        data = rng.choice((text.encode(), text.encode(), b"[" * 9999, b"\xff" + text.encode(), text.replace("0", "0" * 5000, 1).encode()))
    else:
        data = damaged(good, rng) if plain or kind == "json" else make[kind](good, rng)
    path.write_bytes(data)
    return path
