"""The .ply that we write is the one viewers expect, and comes back as what it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from splatdistill import sh
from splatdistill.errors import UserError
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.io.ply import Provenance, is_splats, load_ply, read_comments, write_ply

OTHERS = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]  # no normals


def gaussians(n: int = 30, degree: int = 3, seed: int = 0) -> Gaussians:
    rng = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=torch.exp(torch.randn(n, 3, generator=rng) - 3),
        opacities=torch.rand(n, generator=rng) * 0.98 + 0.01,
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=rng),
    )


def covariance(g: Gaussians) -> torch.Tensor:
    """Return R S S R^T with R from the quaternion, written out independently of the code under test."""
    w, x, y, z = g.quats.double().unbind(1)
    r = torch.stack(
        [
            *(w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
        ],
        1,
    ).reshape(-1, 3, 3)
    return r @ torch.diag_embed(g.scales.double() ** 2) @ r.transpose(1, 2)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("up", ["viewer", "raw"])
@pytest.mark.parametrize("pad", [True, False])
def test_round_trip(tmp_path: Path, degree: int, up: str, pad: bool) -> None:
    given = gaussians(degree=degree)
    path = tmp_path / "a.ply"
    written = write_ply(path, given, up=up, pad=pad)
    assert (written.path, written.count, written.dropped) == (path, 30, 0)
    got = load_ply(path).strict()
    assert got.degree == degree
    flip = torch.where((got.quats * given.quats).sum(1, keepdim=True) < 0, -1.0, 1.0)  # q and -q are one rotation
    torch.testing.assert_close(got.quats * flip, given.quats, rtol=0, atol=2e-6)
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(got, name), getattr(given, name), rtol=3e-6, atol=3e-6)


def test_bytes_are_the_layout_that_importers_demand(tmp_path: Path) -> None:
    g = gaussians()
    path = tmp_path / "a.ply"
    write_ply(path, g, up="raw")
    raw = path.read_bytes()
    head, _, body = raw.partition(b"end_header\n")
    assert head.startswith(b"ply\nformat binary_little_endian 1.0\n") and len(body) == 248 * 30
    vertex = PlyData.read(str(path))["vertex"]  # an independent reader
    rest = [f"f_rest_{i}" for i in range(45)]
    assert [p.name for p in vertex.properties] == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest,
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    np.testing.assert_allclose(vertex["z"], g.means[:, 2])
    np.testing.assert_allclose(vertex["f_dc_1"] * SH_C0 + 0.5, g.rgb[:, 1], rtol=1e-5)
    np.testing.assert_allclose(vertex["f_rest_0"], g.sh[:, 1, 0])  # channel-major: red's 15, green's 15, blue's 15
    np.testing.assert_allclose(vertex["f_rest_14"], g.sh[:, 15, 0])
    np.testing.assert_allclose(vertex["f_rest_16"], g.sh[:, 2, 1])
    np.testing.assert_allclose(vertex["f_rest_44"], g.sh[:, 15, 2])
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), g.opacities, rtol=1e-5)
    np.testing.assert_allclose(np.exp(vertex["scale_2"]), g.scales[:, 2], rtol=1e-5)
    np.testing.assert_allclose(vertex["rot_0"], g.quats[:, 0], rtol=1e-5)
    assert not vertex["nx"].any() and not vertex["nz"].any()


@pytest.mark.parametrize("facing", [0.0, 90.0, 37.0])
def test_viewers_see_the_front_upright(tmp_path: Path, facing: float) -> None:
    """In the viewers' world (x right, y down, z away) azimuth `facing` looks along -z: places, shapes and colours."""
    g = gaussians()
    path = tmp_path / "a.ply"
    write_ply(path, g, up="viewer", facing=facing)
    seen = load_ply(path, up="raw").strict()  # as it is stored
    a = np.radians(facing)
    front, left, up = np.array([np.cos(a), np.sin(a), 0]), np.array([-np.sin(a), np.cos(a), 0]), np.array([0, 0, 1.0])
    rotation = torch.tensor(np.stack([left, -up, -front]))  # rows: their x, y, z in our world
    assert torch.linalg.det(rotation) == pytest.approx(1)
    torch.testing.assert_close(seen.means.double(), g.means.double() @ rotation.T, rtol=1e-5, atol=1e-5)
    expected = rotation @ covariance(g) @ rotation.T
    torch.testing.assert_close(covariance(seen), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    directions = torch.nn.functional.normalize(torch.randn(30, 3), dim=1)
    colours = sh.evaluate(seen.sh, (directions.double() @ rotation.T).float())
    torch.testing.assert_close(colours, sh.evaluate(g.sh, directions), rtol=1e-4, atol=1e-4)


def test_reading_turns_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    rows = np.array([(1, 2, 3, 0, 0, 0, 0, -2, -2, -2, 1, 0, 0, 0)], [(n, "f8") for n in OTHERS])
    PlyData([PlyElement.describe(rows, "vertex")], byte_order=">").write(str(path))
    assert is_splats(path)
    got = load_ply(path).strict()
    torch.testing.assert_close(got.means, torch.tensor([[-3.0, 1.0, -2.0]]))  # towards us, right, down
    torch.testing.assert_close(load_ply(path, up="raw").strict().means, torch.tensor([[1.0, 2.0, 3.0]]))
    assert got.degree == 0 and got.opacities.item() == 0.5


def test_comments_are_one_line_of_ascii_each_and_come_back(tmp_path: Path) -> None:
    nasty = "a mug\nend_header\nelement vertex 9\n\u00fcber \U0001f600 C:\\new"
    about = Provenance(prompt=nasty, prior="tiny", licence="Apache-2.0", version="0.1.0")
    path = tmp_path / "a.ply"
    write_ply(path, gaussians(4), about.comments())
    head = path.read_bytes().partition(b"\nend_header\n")[0]
    assert head.isascii() and head.count(b"element vertex") == 1 and b"element vertex 4\n" in head
    assert len(PlyData.read(str(path))["vertex"].data) == 4
    comments = read_comments(path)
    assert f"prompt {nasty}" in comments and "prior tiny" in comments
    assert "licence of the prior's weights Apache-2.0" in comments and "splatdistill version 0.1.0" in comments


def test_endless_comments_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, gaussians(4), ["prompt " + "\U0001f600" * 50_000])
    assert len(load_ply(path).strict()) == 4 and read_comments(path)[-2].endswith("[cut]")


def test_rows_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    g = gaussians(10)
    g.means[2, 0], g.scales[3], g.quats[4], g.sh[5, 7, 2], g.opacities[6] = torch.nan, 0.0, 0.0, torch.inf, torch.nan
    path = tmp_path / "a.ply"
    written = write_ply(path, g)
    assert (written.count, written.dropped) == (5, 5)
    torch.testing.assert_close(load_ply(path).strict().means, g.means[[0, 1, 7, 8, 9]], rtol=0, atol=1e-6)
    before = path.read_bytes()
    with pytest.raises(UserError, match="nothing to write"):
        write_ply(path, g[2:7])
    with pytest.raises(UserError, match="nothing to write"):
        write_ply(path, g[:0])
    assert path.read_bytes() == before


def test_opaque_and_clear_have_finite_logits(tmp_path: Path) -> None:
    g = gaussians(2)
    g.opacities.copy_(torch.tensor([0.0, 1.0]))
    assert write_ply(tmp_path / "a.ply", g).dropped == 0
    torch.testing.assert_close(load_ply(tmp_path / "a.ply").strict().opacities, g.opacities, rtol=0, atol=2e-6)


def test_filling_is_taken_away_only_if_it_is_filling(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, gaussians(3, degree=1), up="raw")
    data = PlyData.read(str(path))
    assert load_ply(path).strict().degree == 1
    data["vertex"]["f_rest_10"] = 1.0  # someone painted on it
    data.write(str(tmp_path / "b.ply"))
    assert load_ply(tmp_path / "b.ply").strict().degree == 3
