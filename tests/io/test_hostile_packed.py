"""Packed files that are damaged, contradict themselves or are no splats at all are explained; readers guess nothing."""

import gzip
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_formats import WRITERS, mild

from splatdistill.errors import UserError
from splatdistill.io import read_splats
from splatdistill.io.sog import write_sog
from splatdistill.io.spz import HEADER, MAGIC, write_spz


def test_the_content_decides_and_what_is_unknown_is_explained(tmp_path: Path) -> None:
    write_spz(tmp_path / "a.ply", mild(5))
    assert len(read_splats(tmp_path / "a.ply")) == 5
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(UserError, match=r"expected \.ply, \.splat, \.spz, \.sog"):
        read_splats(tmp_path / "a.txt")
    with pytest.raises(UserError, match="no file"):
        read_splats(tmp_path / "b.spz")


def spz(version=3, count=1, degree=0, bits=12, body=bytes(20)) -> bytes:
    return gzip.compress(HEADER.pack(MAGIC, version, count, degree, bits, 0, 0) + body)


BAD = {
    "a.splat": {"empty": (b"", "at least one"), "half a row": (bytes(48), "truncated"), "no rotation": (
        struct.pack("<6f8B", *[1.0] * 6, *[128] * 8), "1 of 1 rows"), "NaN": (
        struct.pack("<6f8B", np.nan, *[1.0] * 5, *[0] * 8), "1 of 1 rows"), "no size": (
        struct.pack("<6f8B", *[0.0] * 6, *[0] * 8), "1 of 1 rows")},
    "a.spz": {"empty": (b"", "truncated"), "one byte": (b"\x1f", "truncated|gzip"), "not gzip": (bytes(99), "gzip"),
        "half": (spz()[:-15], "truncated|damaged"), "huge count": (spz(count=2**32 - 1), "header says"),
        "large count": (spz(count=60_000), "truncated"),
        "a bomb": (spz(count=9_000_000, body=bytes(2_000_000)), "not to be believed"),
        "another version": (spz(version=9), "version 9"),
        "version 0 and plain": (b"NGSP" + bytes(60), "version 0"), "degree 9": (spz(degree=9), "header says"),
        "not spz": (gzip.compress(bytes(64)), "NGSP"), "no splats": (spz(count=0), "no usable")},
    "a.sog": {"empty": (b"", "not a zip"), "half": (b"PK\x03\x04" + bytes(60), "not a zip")},
}  # fmt: skip


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in BAD for what in BAD[name]])
def test_bad_files_are_explained(tmp_path: Path, name: str, what: str) -> None:
    data, message = BAD[name][what]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_splats(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("change", [
    {"count": -1}, {"count": 1e9}, {"count": 10**7}, {"count": "many"}, {"version": 1}, {"means": None},
    {"scales": {"codebook": [0] * 3, "files": ["scales.webp"]}}, {"sh0": {"codebook": [0] * 256, "files": ["../../x"]}},
    {"scales": {"codebook": [None] * 256, "files": ["meta.json"]}}, {"shN": {"bands": 9, "count": 3}},
    {"quats": {"files": []}}, {"quats": {"files": ["sh0.webp"]}},
])  # fmt: skip
def test_sogs_that_contradict_themselves_are_explained(tmp_path: Path, change: dict) -> None:
    write_sog(tmp_path / "a.sog", mild(20, 0))
    with zipfile.ZipFile(tmp_path / "a.sog") as old, zipfile.ZipFile(tmp_path / "b.sog", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(json.loads(data) | change) if name == "meta.json" else data)
    with pytest.raises(UserError, match="b.sog"):
        read_splats(tmp_path / "b.sog")


@pytest.mark.parametrize("side", [10_001, 16_384])  # over 89 million pixels Pillow warns, over 179 million it raises
def test_a_sog_with_a_picture_that_claims_to_be_huge_is_explained(tmp_path: Path, side: int) -> None:
    write_sog(tmp_path / "a.sog", mild(20, 0))
    with zipfile.ZipFile(tmp_path / "a.sog") as old, zipfile.ZipFile(tmp_path / "b.sog", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "means_l.webp":  # VP8L: 14 bits of width - 1 and of height - 1 after the signature
                data = data[:21] + (int.from_bytes(data[21:25], "little") >> 28 << 28 | (side - 1) << 14 | side - 1).to_bytes(4, "little") + data[25:]
            new.writestr(name, data)
    with pytest.raises(UserError, match=rf"b\.sog.*Image size \({side**2} pixels\)"):
        read_splats(tmp_path / "b.sog")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(WRITERS)), st.binary(max_size=60), st.integers(0, 2000), st.booleans())
def test_no_bytes_do_anything_else(tmp_path: Path, kind: str, noise: bytes, at: int, inside: bool) -> None:
    """Overwritten somewhere, in the stream that gzip packs or on the outside: splats, or an explanation."""
    good, path = tmp_path / f"good.{kind}", tmp_path / f"fuzz.{kind}"
    if not good.exists():
        WRITERS[kind](good, mild(9))
    data = good.read_bytes()
    if inside and kind == "spz":
        data = gzip.decompress(data)
    at %= len(data)
    data = data[:at] + noise + data[at + len(noise) :]
    path.write_bytes(gzip.compress(data, 1) if inside and kind == "spz" else data)
    try:
        assert read_splats(path).finite().all()
    except UserError as error:
        assert str(path) in str(error)
