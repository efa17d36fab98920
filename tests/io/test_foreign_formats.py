"""Files of other programs: SuperSplat's compressed .ply, .spz of version 4, and what files say of their renderer.

Two small files were written by splat-transform 2.7.1 (which packs .spz by Niantic's own library); the others are written
here from the layouts that are documented, without the code under test.
"""

import base64
import gzip
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from plyfile import PlyData, PlyElement
from test_formats import assert_same_splats, mild
from test_ply import OTHERS

from splatdistill.errors import UserError
from splatdistill.export.saved_splats import chosen
from splatdistill.export.write import Asked, export
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io import frames, is_splats, load_splats
from splatdistill.io.ply import read_comments, write_ply
from splatdistill.io.spz import write_spz

CONVERTED = {
    "compressed.ply": (
        "c-nQ-F-rq67zW@_1o0*Zw>kuIwb-hy3ijOG934H<YucW@CPyyHr3eNJ1yK+jRD=$KsJOT}=+G{TAh<f}p#A`-I-RjYMNHuCay)PH<qO9JzOYJ^"
        ")ewgTk02%--{aiJ4kkqp5tvR*S}v{CFyU|s6U-3DMOY9p41B~VI71}-Sr0R*Tq<p0ANQuZm32~uX)9nfz>Eu6@~PUQ<`E~-q0nLdAEHRJT%pim"
        "T~{-7kvd#tj)XbV_G2p8kAykWcF1&C)?q<cndz{s!$SXSZKwoCaO!u~x~DimZWR}ufQBCTDAA{ka%4_>=hR0o^(pJO5LW(d?^Y0lC5PdVJCg=a"
        "8$4rhQ~ha!&lo&w@SMSCE%h%s6^x3QSpdj30HC8TH7?rfUEMN2oLKH0tkydtH+JVCdE6dOJhcb+*V-rL*23ugeST-m$-mvr+0Pd%_EmD+2HltI"
        "qsPyW_<RUV#d~0X0DyzjRu*)(`1>u0<HN7mJ8xw#6R)uZ@tNFh$mXVOY|Ci7A*F1Jrh3SRkn$U`v5fl"
    ),
    "spz": (
        "c-r%G4-Q~qU|?VdVn!YYHU$P$paP|(p)?PaW`@#2P?{45UldIrx_KH~_5UhJ-vqKg{AU1K&H+>U=RX6`T|fRaNI=vuOENG#YcK}0IXxK|<`pzI"
        "tc`S=JQ*%h-B!?>Se=tI5iG)!$iR@fbgEhA(z#~&NzbOhEovxeSkREMq9G$AV@3lIOaKu983hvxRsaC$#WqI"
    ),
}


def three() -> Gaussians:
    """Return the splats that were written by write_ply and converted."""
    return Gaussians(
        torch.tensor([[0.5, -1.0, 2.0], [-0.25, 0.75, 0.0], [1.5, 0.25, -0.5]]),
        torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0, 0], [0.5, -0.5, 0.5, 0.5], [0.2, 0.9, -0.3, 0.1]]), dim=1),
        torch.tensor([[0.1, 0.2, 0.05], [0.3, 0.02, 0.1], [0.04, 0.04, 0.4]]),
        torch.tensor([0.9, 0.5, 0.2]),
        torch.tensor([
            [[0.8, -0.4, 0.1], [0.3, 0, -0.2], [0, 0.1, 0], [-0.25, 0, 0.2]],
            [[0, 1.2, -1], [0, 0.1, 0], [0.2, 0.2, -0.2], [0, 0, 0]],
            [[-1.5, 0.5, 0.5], [0.1, -0.1, 0.3], [0, 0, 0], [0.4, 0.2, 0.1]],
        ]),
    )  # fmt: skip


@pytest.mark.parametrize("kind", CONVERTED)
def test_files_of_splat_transform(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(zlib.decompress(base64.b85decode(CONVERTED[kind])))
    assert is_splats(path)
    got = load_splats(path)
    assert got.gaussians.degree == 1 and not got.dropped and not got.notes
    assert_same_splats(three(), got.gaussians)


def words(values: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Pack shares of 0 to 1 into words, so many bits each from the highest."""
    out = np.zeros(len(values), np.uint64)
    for column, width in zip(values.T, bits):
        out = out << np.uint64(width) | np.round(column * (2**width - 1)).astype(np.uint64)
    return out.astype(np.uint32)


def compressed(path: Path, g: Gaussians, coloured: bool, order: str = "<", comments: tuple[str, ...] = (), text: bool = False) -> None:
    """Write SuperSplat's compressed .ply of splats in the world of .ply files."""
    g = frames.placed(g, frames.into("viewer"))
    xyz, sizes = g.means.numpy(), g.scales.log().numpy()
    rgb = 0.5 + SH_C0 * g.sh[:, 0].numpy()
    rgb = rgb if coloured else rgb.clip(0, 1)
    chunks, shares = [], {"xyz": np.empty_like(xyz), "scale": np.empty_like(xyz), "rgb": rgb.copy()}
    for start in range(0, len(g), 256):
        row: list[float] = []
        for name, values in (("xyz", xyz), ("scale", sizes), *([("rgb", rgb)] if coloured else [])):
            part = values[start : start + 256]
            low, high = part.min(0), part.max(0)
            row += [*low, *high]
            shares[name][start : start + 256] = (part - low) / np.where(high > low, high - low, 1)
        chunks.append(tuple(row))
    names = [
        f"{end}_{prefix}{axis}" for prefix, axes in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for end in ("min", "max") for axis in axes
    ]
    packed = np.zeros(len(g), [(f"packed_{name}", f"{order}u4") for name in ("position", "rotation", "scale", "color")])
    packed["packed_position"], packed["packed_scale"] = (words(shares[name], (11, 10, 11)) for name in ("xyz", "scale"))
    packed["packed_color"] = words(np.concatenate([shares["rgb"], g.opacities.numpy()[:, None]], 1), (8, 8, 8, 8))
    q = g.quats.numpy()
    for k, row in enumerate(q):
        largest = int(np.abs(row).argmax())
        rest = np.delete(row * np.sign(row[largest]), largest)
        packed["packed_rotation"][k] = largest << 30 | int(words((rest / 2**0.5 + 0.5)[None], (10, 10, 10))[0])
    chunk = np.array(chunks, [(name, f"{order}f4") for name in names[: 18 if coloured else 12]])
    parts = [PlyElement.describe(chunk, "chunk"), PlyElement.describe(packed, "vertex")]
    if g.degree:
        flat = g.sh[:, 1:].transpose(1, 2).flatten(1).numpy()
        rest = np.array(
            [tuple(row) for row in np.floor((flat / 8 + 0.5) * 256).clip(0, 255)], [(f"f_rest_{i}", "u1") for i in range(flat.shape[1])]
        )
        parts.append(PlyElement.describe(rest, "sh"))
    PlyData(parts, byte_order=order, comments=list(comments), text=text).write(str(path))


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 256, 300])
@pytest.mark.parametrize("coloured", [True, False])
def test_compressed_ply_is_what_its_layout_says(tmp_path: Path, degree: int, count: int, coloured: bool) -> None:
    given = mild(count, degree)
    if not coloured:  # colours between 0 and 1 alone
        given.sh[:, 0] = given.sh[:, 0].clamp(-1.7, 1.7)
    compressed(tmp_path / "a.ply", given, coloured, comments=("up gltf",))
    assert_same_splats(given, load_splats(tmp_path / "a.ply").gaussians, place=5e-3, log_size=0.02)


@pytest.mark.parametrize(("order", "text"), [(">", False), ("<", True)])
def test_compressed_ply_of_any_bytes(tmp_path: Path, order: str, text: bool) -> None:
    compressed(tmp_path / "a.ply", mild(300, 1), True, order, text=text)
    assert_same_splats(mild(300, 1), load_splats(tmp_path / "a.ply").gaussians, place=5e-3, log_size=0.02)


def test_an_empty_element_of_bands_is_none(tmp_path: Path) -> None:
    """gsplat 1.5 writes an element sh with no properties at degree 0."""
    path = tmp_path / "a.ply"
    compressed(path, mild(9, 0), True)
    path.write_bytes(path.read_bytes().replace(b"end_header", b"element sh 9\nend_header"))
    assert_same_splats(mild(9, 0), load_splats(path).gaussians, place=5e-3, log_size=0.02)


@pytest.mark.parametrize(("fault", "message"), [
    (lambda d: d.replace(b"element chunk 2", b"element chunk 1"), "have 2 chunks; there are 1"),
    (lambda d: d.replace(b"element chunk 2", b"element lump 2"), "no element chunk"),
    (lambda d: d.replace(b"min_scale_x", b"min_scale_u"), "no min_scale_x"),
    (lambda d: d.replace(b"uint packed_color", b"float packed_color"), "packed_color should be an unsigned"),
    (lambda d: d.replace(b"property uchar f_rest_8\n", b""), "of 8 properties; expected 300 of 9, 24 or 45"),
    (lambda d: d.replace(b"uchar f_rest_0", b"char f_rest_0"), "f_rest_0 should be an unsigned"),
    (lambda d: d[:-5], "truncated"),
])  # fmt: skip
def test_compressed_ply_that_contradicts_itself_is_explained(tmp_path: Path, fault, message: str) -> None:
    path = tmp_path / "a.ply"
    compressed(path, mild(300, 1), True)
    path.write_bytes(fault(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load_splats(path)
    assert str(path) in str(caught.value)


def spz4(g: Gaussians, flags: int = 0, extensions: bytes = b"", degree: int | None = None, more: bytes = b"") -> bytes:
    """Return a .spz of version 4: the attributes of version 3, which test_formats.py holds to their layout, as frames."""
    raw = gzip.decompress(v3(g))
    count, bits = struct.unpack("<I", raw[8:12])[0], raw[13]
    own = (g.degree + 1) ** 2 - 1
    ends = np.cumsum([16, *(count * size for size in (9, 1, 3, 3, 4, 3 * own) if size)])
    streams = [raw[a:b] for a, b in zip(ends[:-1], ends[1:])]
    if more:
        streams[-1] = b"".join(streams[-1][3 * own * k : 3 * own * (k + 1)] + more for k in range(count))
    frames_ = [zstandard.ZstdCompressor(write_content_size=bool(k % 2)).compress(s) for k, s in enumerate(streams)]
    table = b"".join(struct.pack("<QQ", len(frame), len(s)) for frame, s in zip(frames_, streams))
    said = g.degree if degree is None else degree
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, count, said, bits, flags, len(streams), 32 + len(extensions))
    return head + extensions + table + b"".join(frames_)


def v3(g: Gaussians) -> bytes:
    """Return the bytes of version 3."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_spz(Path(folder) / "a.spz", g)
        return (Path(folder) / "a.spz").read_bytes()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_version_4_holds_what_version_3_does(tmp_path: Path, degree: int) -> None:
    (tmp_path / "3.spz").write_bytes(v3(mild(70, degree)))
    (tmp_path / "4.spz").write_bytes(spz4(mild(70, degree)))
    first, second = (load_splats(tmp_path / f"{k}.spz").gaussians for k in (3, 4))
    assert first.degree == second.degree == degree
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_version_4_with_extensions_and_degree_4(tmp_path: Path) -> None:
    path, orbit = tmp_path / "a.spz", struct.pack("<IIfff", 0xADBE0002, 12, -0.5, 0.5, 1.0)
    path.write_bytes(spz4(mild(9, 3), flags=2, extensions=orbit))
    read = load_splats(path)
    assert_same_splats(mild(9, 3), read.gaussians)
    assert any("extensions" in note for note in read.notes)
    path.write_bytes(spz4(mild(9, 3), degree=4, more=bytes([200]) * 27))
    read = load_splats(path)
    assert_same_splats(mild(9, 3), read.gaussians)
    assert any("degree 4" in note for note in read.notes)


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


GOOD = spz4(mild(5, 1))


@pytest.mark.parametrize(("data", "message"), [
    (b"NGSP" + bytes(20), "truncated"),
    (changed(GOOD, 4, "<I", 5), "version 5; expected 2 to 4"),
    (changed(GOOD, 4, "<I", 3), "version 3 and not packed"),
    (changed(GOOD, 8, "<I", 6), "54 bytes were to come, its table says 45"),
    (changed(GOOD, 8, "<I", 9_000_000), "not to be believed"),
    (changed(GOOD, 12, "<B", 5), "header says"),
    (changed(GOOD, 12, "<B", 2), "its table says"),
    (changed(GOOD, 15, "<B", 255), "do not fit"),
    (changed(GOOD, 16, "<I", 2**31), "do not fit"),
    (changed(GOOD, 40, "<Q", 10**12), "its table says"),
    (changed(GOOD, 32 + 96, "<I", 0), "damaged"),
    (GOOD[:-9], "do not fit"),
    (gzip.compress(changed(gzip.decompress(v3(mild(5, 1))), 4, "<I", 4)), "packed twice"),
])  # fmt: skip
def test_version_4_that_is_damaged_is_explained(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.spz"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_splats(path)
    assert str(path) in str(caught.value)


def test_a_frame_that_would_fill_memory_gives_no_more_than_was_asked_for(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(400 << 20))
    table = GOOD[32:128]
    sizes = [list(struct.unpack("<QQ", table[k : k + 16])) for k in range(0, 96, 16)]
    body = bomb + GOOD[128 + sizes[0][0] :]
    sizes[0][0] = len(bomb)
    (tmp_path / "a.spz").write_bytes(GOOD[:32] + b"".join(struct.pack("<QQ", *row) for row in sizes) + body)
    before = peak()
    got = load_splats(tmp_path / "a.spz").gaussians
    assert not got.means.any() and peak() - before < 200 << 10


def peak() -> int:
    """Return the process's greatest memory so far, kB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("model", ["default", "antialiased", "2dgs"])
def test_the_renderer_travels_from_file_to_file(tmp_path: Path, model: str) -> None:
    write_ply(tmp_path / "a.ply", mild(9, 1), ["prompt a mug"], model=model)
    comment = {"default": "default", "antialiased": "mip", "2dgs": "2dgs"}[model]
    assert f"SplatRenderMode: {comment}" in read_comments(tmp_path / "a.ply")
    saved = chosen(tmp_path / "a.ply", 1)
    assert saved.model == model and saved.comments == ("prompt a mug",) and bool(saved.notes) == (model != "default")
    for kind in ("ply", "sog", "spz"):
        export(tmp_path / f"b.{kind}", kind, saved.gaussians, Asked(comments=saved.comments, model=saved.model))
        known = "default" if kind == "spz" and model == "2dgs" else model  # a flag tells two
        assert load_splats(tmp_path / f"b.{kind}").model == known
    assert gzip.decompress((tmp_path / "b.spz").read_bytes())[14] == (model == "antialiased")
    with zipfile.ZipFile(tmp_path / "b.sog") as archive:
        assert json.loads(archive.read("meta.json")).get("model", "default") == model
    assert [c for c in read_comments(tmp_path / "b.ply") if "RenderMode" in c] == [f"SplatRenderMode: {comment}"]


@pytest.mark.parametrize(("comments", "model"), [
    (["SplatRenderMode: mip"], "antialiased"), (["  SPLATRENDERMODE:  Mip "], "antialiased"), (["SplatRenderMode: banana"], "default"),
    (["antialiased 1"], "antialiased"), (["antialiased 0"], "default"), (["antialiased 1", "SplatRenderMode: default"], "default"),
    (["Exported from Brush", "SH degree: 0"], "default"), (["SplatRenderMode: 2dgs"], "2dgs"),
])  # fmt: skip
def test_comments_that_name_the_renderer(tmp_path: Path, comments: list[str], model: str) -> None:
    """brush's and Postshot's spelling, in every case; the last one counts."""
    row = np.array([(1, 2, 3, 0, 0, 0, 0, -2, -2, -2, 1, 0, 0, 0)], [(n, "f4") for n in OTHERS])
    PlyData([PlyElement.describe(row, "vertex")], comments=comments).write(str(tmp_path / "a.ply"))
    assert load_splats(tmp_path / "a.ply").model == model


def test_surfels_are_known_by_their_two_sizes(tmp_path: Path) -> None:
    """2D Gaussian Splatting writes no scale_2; the third axis is thin, the others as they were."""
    names = [n for n in OTHERS if n != "scale_2"]
    row = np.array([(1, 2, 3, 0, 0, 0, 0, -2, -1, 1, 0, 0, 0)], [(n, "f4") for n in names])
    PlyData([PlyElement.describe(row, "vertex")], comments=["SplatRenderMode: mip"]).write(str(tmp_path / "a.ply"))
    read = load_splats(tmp_path / "a.ply")
    assert read.model == "2dgs" and any("flat splats" in note for note in read.notes)
    sizes = read.gaussians.scales[0].sort().values
    torch.testing.assert_close(sizes[1:], torch.tensor([-2.0, -1.0]).exp())
    assert sizes[0] < 1e-3 * sizes[1]
