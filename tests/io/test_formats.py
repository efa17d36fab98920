"""Every format of splats comes back as what it was, within its own precision, and is what its specification says."""

import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from test_ply import OTHERS, covariance, gaussians

from splatdistill import sh
from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io import frames, is_splats, palette, read_splats
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.io.sog import write_sog
from splatdistill.io.splat import write_splat
from splatdistill.io.spz import HEADER, MAGIC, write_spz
from splatdistill.scene.initial import FromFile

WRITERS = {"ply": write_ply, "splat": write_splat, "spz": write_spz, "sog": write_sog}
PACKED = ("splat", "spz", "sog")
FOLDER = os.environ.get("SPLATDISTILL_VIEWERS")


def mild(n: int = 300, degree: int = 3) -> Gaussians:
    """Return splats within the range of every format; the higher bands of .spz end at 1."""
    g = gaussians(n, degree)
    return Gaussians(g.means, g.quats, g.scales, g.opacities, 0.2 * g.sh)


def matched(given: Gaussians, got: Gaussians) -> Gaussians:
    """Return the splats in the order of the given ones: writers may sort."""
    nearest = torch.cdist(given.means, got.means).argmin(1)
    assert len(nearest.unique()) == len(given) == len(got)
    return got[nearest]


def assert_same_splats(given: Gaussians, got: Gaussians, place=2e-3, log_size=0.12, opacity=4e-3, colour=0.05) -> None:
    got = matched(given, got)
    torch.testing.assert_close(got.means, given.means, rtol=0, atol=place)
    torch.testing.assert_close(got.opacities, given.opacities, rtol=0, atol=opacity)
    sized, other = (torch.linalg.eigvalsh(covariance(g)).log() / 2 for g in (given, got))
    torch.testing.assert_close(other, sized, rtol=0, atol=log_size)
    shape, turned = (covariance(Gaussians(g.means, g.quats, given.scales, g.opacities, g.sh)) for g in (given, got))
    if torch.equal(given.scales.argsort(1), got.scales.argsort(1)):  # axes that are nearly as long may change places
        error = (shape - turned).flatten(1).norm(dim=1) / shape.flatten(1).norm(dim=1)
        assert error.max() < 0.05
    assert given.degree >= got.degree
    directions = torch.nn.functional.normalize(torch.randn(len(given), 3), dim=1)
    seen, expected = (sh.evaluate(g.sh, directions) for g in (got, given.with_degree(got.degree)))
    torch.testing.assert_close(seen, expected, rtol=0, atol=colour)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("degree", [0, 3])
def test_round_trip(tmp_path: Path, kind: str, degree: int) -> None:
    given, path = mild(degree=degree), tmp_path / f"a.{kind}"
    written = WRITERS[kind](path, given)
    got = read_splats(path)
    assert (written.path, written.count, written.dropped) == (path, 300, 0) and is_splats(path)
    assert got.degree == (0 if kind == "splat" else degree)
    assert_same_splats(given, got)
    if kind == "splat":  # float32 throughout but for bytes
        torch.testing.assert_close(matched(given, got).scales, given.scales, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_no_row_can_hold_is_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    g = mild(10)
    g.means[2, 0], g.scales[3], g.quats[4], g.opacities[6] = torch.nan, 0.0, 0.0, torch.inf
    written = WRITERS[kind](tmp_path / f"a.{kind}", g)
    assert (written.count, written.dropped) == (6, 4)
    assert_same_splats(g[torch.tensor([0, 1, 5, 7, 8, 9])], read_splats(tmp_path / f"a.{kind}"))
    with pytest.raises(UserError, match="nothing to write"):
        WRITERS[kind](tmp_path / f"a.{kind}", g[2:5])


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_splats_are_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for name in "ab":
        WRITERS[kind](tmp_path / name, mild(50))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", WRITERS)
def test_one_splat_and_many_of_one_place(tmp_path: Path, kind: str) -> None:
    path, one = tmp_path / f"a.{kind}", mild(1)
    for g in (one, one[torch.zeros(70, dtype=torch.long)]):
        WRITERS[kind](path, g)
        got = read_splats(path)
        assert len(got) == len(g)
        torch.testing.assert_close(got.means, g.means, rtol=0, atol=2e-3)


@pytest.mark.parametrize("up", frames.ROWS)
@pytest.mark.parametrize("facing", [0.0, 90.0, 37.0])
def test_worlds_are_orthogonal_and_reversible(tmp_path: Path, up: str, facing: float) -> None:
    """Places, shapes and colours agree after M, mirrored or not; our own files come home from every world."""
    g, m = mild(), frames.into(up, facing)
    torch.testing.assert_close(m @ m.T, torch.eye(3).double())
    assert torch.linalg.det(m).item() == pytest.approx(-1 if up in ("unity", "unreal") else 1)
    there = frames.placed(g, m)
    torch.testing.assert_close(there.means.double(), g.means.double() @ m.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(covariance(there), m @ covariance(g) @ m.T, rtol=1e-4, atol=1e-6)
    d = torch.nn.functional.normalize(torch.randn(300, 3), dim=1)
    seen = sh.evaluate(there.sh, (d.double() @ m.T).float())
    torch.testing.assert_close(seen, sh.evaluate(g.sh, d), rtol=0, atol=1e-5)
    write_ply(tmp_path / "a.ply", g, up=up)
    assert_same_splats(g, load_ply(tmp_path / "a.ply").strict(), 1e-5, 1e-4, 1e-5, 1e-4)


FRONT, LEFT, UP = torch.eye(3).double()  # of the object: +x, +y, +z of our world
FACTS = {  # where an object's front, left and top point in other worlds, and where their viewers stand
    "viewer": ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
    "gltf": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),  # glTF 2.0: +y up, +z forward, -x right
    "blender": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),  # its front view looks along +y
    "unity": ((0, 0, 1), (-1, 0, 0), (0, 1, 0)),  # forward, right and up are +z, +x and +y
    "unreal": ((1, 0, 0), (0, -1, 0), (0, 0, 1)),  # forward, right and up are +x, +y and +z
}


@pytest.mark.parametrize("up", FACTS)
def test_worlds_are_those_of_the_programs(up: str) -> None:
    m = frames.into(up)
    assert [(m @ v).tolist() for v in (FRONT, LEFT, UP)] == [list(map(float, v)) for v in FACTS[up]]


def test_splat_rows_are_what_viewers_read(tmp_path: Path) -> None:
    """xyz, sigma, rgba, 128 + 128 wxyz, largest and most opaque first."""
    g = mild(3, 0)
    g.scales[:], g.opacities[:] = torch.tensor([[0.1] * 3, [0.3] * 3, [0.2] * 3]), 0.8
    write_splat(tmp_path / "a.splat", g, up="raw")
    data = (tmp_path / "a.splat").read_bytes()
    assert len(data) == 96
    x, y, z, a, b, c, *rest = struct.unpack("<6f8B", data[:32])
    assert (x, y, z) == tuple(g.means[1].tolist()) and a == b == c == g.scales[1, 0].item()
    np.testing.assert_allclose(rest[:3], 255 * g.rgb[1].numpy(), atol=0.51)
    assert rest[3] == 204
    q = torch.tensor([v - 128.0 for v in rest[4:]])
    assert abs(torch.nn.functional.normalize(q, dim=0) @ g.quats[1]) > 0.9999
    assert struct.unpack("<f", data[32 + 12 : 32 + 16]) == (g.scales[2, 0].item(),)


def test_spz_bytes_are_those_of_the_specification(tmp_path: Path) -> None:
    """One splat, written out by hand: RUB axes, 24-bit fixed point, smallest three."""
    half = 0.5**0.5
    g = Gaussians(
        means=torch.tensor([[1.0, 2.0, -3.0]]),
        quats=torch.tensor([[half, 0.0, 0.0, half]]),
        scales=torch.tensor([[1.0, np.e, np.exp(-2.0)]]),
        opacities=torch.tensor([0.6]),
        sh=torch.tensor([[[0.0, 1.0, -1.0]]]),
    )
    write_spz(tmp_path / "a.spz", g)
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert len(data) == 16 + 20
    assert HEADER.unpack(data[:16]) == (MAGIC, 3, 1, 0, 16, 0, 0) and data[:4] == b"NGSP"
    fixed = [int.from_bytes(data[i : i + 3], "little", signed=True) / 2**16 for i in (16, 19, 22)]
    assert fixed == [2.0, -3.0, 1.0]  # right is our left, up is up, back is our front
    assert data[25] == 153 and list(data[26:29]) == [128, 166, 89]
    assert list(data[29:32]) == [160, 176, 128]
    word = int.from_bytes(data[32:36], "little")
    q, others = [0.0] * 4, [i for i in range(4) if i != word >> 30]  # x y z w
    for place, i in enumerate(others):
        bits = word >> 10 * (2 - place)
        q[i] = (bits & 511) / 511 * half * (-1 if bits >> 9 & 1 else 1)
    q[word >> 30] = (1 - sum(v * v for v in q)) ** 0.5
    expected = frames.placed(g, frames.into("gltf")).quats[0].roll(-1)
    assert abs(torch.tensor(q) @ expected) > 0.9999


def test_spz_of_version_2_is_read(tmp_path: Path) -> None:
    body = HEADER.pack(MAGIC, 2, 1, 1, 12, 0, 0)
    body += b"".join(v.to_bytes(3, "little", signed=True) for v in (4096, -8192, 2048))
    body += bytes([51]) + bytes([255, 128, 0]) + bytes([128, 144, 160]) + bytes([218, 128, 128]) + bytes([160] * 9)
    (tmp_path / "a.spz").write_bytes(gzip.compress(body))
    got = read_splats(tmp_path / "a.spz")
    torch.testing.assert_close(got.means, torch.tensor([[0.5, 1.0, -2.0]]))  # back, right, up
    assert got.opacities.item() == pytest.approx(0.2) and got.degree == 1
    assert got.scales.log().sort().values[0].tolist() == pytest.approx([-2.0, -1.0, 0.0], abs=1e-5)
    assert got.sh[0, 0, 0].item() == pytest.approx(0.5 / 0.15)
    turn = frames.placed(got, frames.into("gltf")).quats[0]  # w is what is left of x = 90.5 / 127.5
    assert abs(turn[1].item()) == pytest.approx(218 / 127.5 - 1, abs=1e-5)


def test_sog_is_seven_pictures_and_their_meaning(tmp_path: Path) -> None:
    write_sog(tmp_path / "a.sog", mild())
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        meta = json.loads(archive.read("meta.json"))
        names = {f for part in meta.values() if isinstance(part, dict) for f in part.get("files", ())}
        assert names | {"meta.json"} == {*archive.namelist()} and len(names) == 7
        sizes = {n: Image.open(io.BytesIO(archive.read(n))).size for n in names}
    assert meta["version"] == 2 and meta["count"] == 300 and meta["shN"]["bands"] == 3
    assert sizes["shN_centroids.webp"][0] == 64 * 15 and len({s for n, s in sizes.items() if "centroids" not in n}) == 1
    assert all(len(meta[part]["codebook"]) == 256 for part in ("scales", "sh0", "shN"))


def test_a_palette_stands_for_what_is_alike(monkeypatch) -> None:
    """More vectors than entries, around a few centres: each is given one near it. Few are kept as they are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 9)).astype(np.float32)
    vectors = centres[rng.integers(0, 20, 3000)] + 0.01 * rng.normal(size=(3000, 9)).astype(np.float32)
    entries, places = palette.palette(vectors)
    np.testing.assert_array_equal(entries[places], vectors)
    monkeypatch.setattr(palette, "EXACT", 100)
    monkeypatch.setattr(palette, "ENTRIES", 100)
    entries, places = palette.palette(vectors)
    assert entries.shape == (100, 9) and np.abs(entries[places] - vectors).max() < 0.1
    numbers, labels = palette.codebook(vectors)
    assert (np.diff(numbers) >= 0).all() and np.abs(numbers[labels] - vectors).max() < 0.05


@pytest.mark.parametrize(
    "order", [OTHERS, [*OTHERS[:3], "nx", "ny", "nz", *OTHERS[3:]], [*OTHERS[:3], *OTHERS[7:], *OTHERS[3:7]]]
)
def test_layouts_of_others(tmp_path: Path, order: list[str]) -> None:
    """gsplat's without normals, nerfstudio's with, brush's in another order."""
    rows = np.zeros(2, [(n, "f4") for n in order])
    rows["rot_0"], rows["x"], rows["scale_1"], rows["f_dc_2"] = 1, 3, -4, 0.5
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(tmp_path / "a.ply"))
    got = read_splats(tmp_path / "a.ply", drop_invalid=True)
    torch.testing.assert_close(got.means, torch.tensor([[0.0, 3, 0]] * 2))
    assert got.sh[0, 0].tolist() == [0, 0, 0.5] and got.scales.min().item() == pytest.approx(np.exp(-4))


def test_nerfstudio_says_that_z_is_up_and_may_give_bytes_for_colours(tmp_path: Path) -> None:
    order = ["x", "y", "z", "red", "green", "blue", *OTHERS[6:]]
    rows = np.zeros(1, [(n, "u1" if n in ("red", "green", "blue") else "f4") for n in order])
    rows["rot_0"], rows["z"], rows["red"], rows["green"] = 1, 2, 255, 51
    data = PlyData([PlyElement.describe(rows, "vertex")], comments=["Generated by Nerfstudio", "Vertical Axis: z"])
    data.write(str(tmp_path / "a.ply"))
    assert is_splats(tmp_path / "a.ply")
    got = read_splats(tmp_path / "a.ply")
    assert got.means.tolist() == [[0, 0, 2]]
    torch.testing.assert_close(got.rgb, torch.tensor([[1.0, 0.2, 0.0]]))
    torch.testing.assert_close(got.sh[0, 0, 0], torch.tensor(0.5 / SH_C0))


def test_a_run_starts_from_every_format(tmp_path: Path, rng: torch.Generator) -> None:
    for kind, write in WRITERS.items():
        write(tmp_path / f"a.{kind}", mild(40, 0))
        assert_same_splats(mild(40, 0), FromFile(path=tmp_path / f"a.{kind}").make(rng))


@pytest.mark.skipif(not FOLDER, reason="SPLATDISTILL_VIEWERS does not name a folder with the viewers' node_modules")
@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
@pytest.mark.parametrize("kind", PACKED)
def test_splat_transform_reads_and_writes_the_same(tmp_path: Path, kind: str) -> None:
    """An independent converter takes our files for the same splats as our .ply, and we take its files so."""
    tool = Path(str(FOLDER)) / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    if not tool.exists():
        pytest.skip(f"no {tool}: npm install @playcanvas/splat-transform")
    given = mild()
    WRITERS[kind](tmp_path / f"a.{kind}", given)
    subprocess.run(["node", tool, "-g", "cpu", tmp_path / f"a.{kind}", tmp_path / "theirs.ply"], check=True)
    assert_same_splats(given, load_ply(tmp_path / "theirs.ply").strict())
    if kind != "splat":  # which it does not write
        write_ply(tmp_path / "a.ply", given.with_degree(0), pad=False)
        version = ["--spz-version", "3"] if kind == "spz" else []
        theirs = tmp_path / f"theirs.{kind}"
        subprocess.run(["node", tool, "-g", "cpu", *version, tmp_path / "a.ply", theirs], check=True)
        assert_same_splats(given.with_degree(0), read_splats(theirs))
