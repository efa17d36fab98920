"""Splats that come back from a file are judged one by one: nothing is certified that a person would see is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.export.prepare import Preparation
from splatdistill.export.read_back import Tolerances, check, differences, odd
from splatdistill.export.write import FORMATS, export
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats
from splatdistill.io.extent import box, bulk, sphere
from splatdistill.io.ply import write_ply
from splatdistill.io.spz import fractional_bits


def ball(n: int = 60, size: float = 0.05, at: tuple[float, float, float] = (0.0, 0.0, 0.0), seed: int = 0) -> Gaussians:
    """Return splats on a sphere of radius a half, their means in double precision."""
    rng = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=1)
    return Gaussians(
        means=means + torch.tensor(at, dtype=torch.float64),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=size * (0.5 + torch.rand(n, 3, generator=rng)),
        opacities=torch.full((n,), 0.9),
        sh=0.2 * torch.randn(n, 1, 3, generator=rng),
    )


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return all distances, without matrix products, which lose precision far from the origin."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def map_file(path: Path, at: tuple[float, float, float], kind: str = "f8") -> Path:
    """Return a .ply in map coordinates, as photogrammetry writes it."""
    g = ball(at=at)
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    columns = torch.cat(
        [g.means, g.sh[:, 0].double(), torch.logit(g.opacities)[:, None].double(), g.scales.log().double(), g.quats.double()], 1
    )
    rows = np.empty(len(g), [(n, kind if n in "xyz" else "f4") for n in names])
    for name, column in zip(names, columns.T.numpy(), strict=True):
        rows[name] = column
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return path


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7), st.floats(-9, 3), st.floats(0, 4), st.booleans())
def test_whatever_is_kept_is_what_was_meant(tmp_path: Path, kind: str, x: float, y: float, size: float, spread: float, far: bool) -> None:
    """Far balls, small ones, mixed scales: a file is kept only if every place is within a fifth of its splat's size or a
    thousandth of the object, looked at here without the code under test.
    """
    g = ball(30, float(np.exp(size)), (x, y, 0.0) if far else (0.0, 0.0, 0.0))
    mixed = torch.linspace(-spread / 2, spread / 2, 30).exp()[:, None]
    g = replace(g, scales=g.scales * mixed)
    path = tmp_path / f"a.{kind}"
    path.unlink(missing_ok=True)
    try:
        export(path, kind, g)
    except UserError as error:
        assert str(path) in str(error) and not path.exists()
        return
    got = load_splats(path).gaussians if kind != "html" else FORMATS["html"].read(path, None).gaussians
    away = distances(g.means, got.means)
    nearest, row = away.min(1)
    assert (nearest <= torch.clamp_min(0.2 * g.scales.double().median(1).values, 1e-3 * 0.5 * 1.2)).all()
    ratio = got.scales.double().sort(1).values[row].prod(1) / g.scales.double().prod(1)
    if len(row.unique()) == len(g):
        assert (ratio.log().abs() < 0.9).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_map_coordinates_survive_a_pivot_and_are_refused_without(tmp_path: Path, capsys, kind: str) -> None:
    source = map_file(tmp_path / "map.ply", (431_000.0, 5_400_000.0, 120.0))
    out = tmp_path / f"out.{kind}"
    assert main(["export", str(source), "--out", str(out)]) == 2  # a .sog holds them, but viewers that draw it do not
    assert "--pivot centre" in capsys.readouterr().err and not out.exists()
    assert main(["export", str(source), "--out", str(out), "--pivot", "centre"]) == 0
    if kind != "html":
        got = load_splats(out).gaussians
        meant = ball().means
        there = got.means.double() - got.means.double().mean(0)
        turned = load_splats(source).gaussians.means
        torch.testing.assert_close(distances(there, there).sum(), distances(meant, meant).sum(), rtol=1e-3, atol=0)
        assert turned.dtype == torch.float64 and turned.abs().max() > 5e6


def test_a_mesh_far_away_is_refused_and_one_that_is_moved_is_as_here(tmp_path: Path, capsys) -> None:
    source = map_file(tmp_path / "map.ply", (4_310_000.0, 5_400_000.0, 120.0))
    common = ["export", str(source), "--resolution", "12", "--texture", "256"]
    for kind in ("glb", "obj"):
        assert main([*common, "--out", str(tmp_path / f"a.{kind}")]) == 2
        assert "--pivot centre" in capsys.readouterr().err
    assert main([*common, "--out", str(tmp_path / "a.obj"), "--pivot", "centre"]) == 0
    vertices = [line.split()[1:] for line in (tmp_path / "a.obj").read_text(encoding="utf-8").splitlines() if line.startswith("v ")]
    assert 0.4 < np.abs(np.array(vertices, float)).max() < 0.8


def test_one_oversized_splat_and_one_stray_are_named_and_can_be_left_out(tmp_path: Path, capsys) -> None:
    g = ball(200).to(dtype=torch.float32)
    g.scales[7] = torch.tensor([1e9, 0.1, 0.1])
    g.means[11] = torch.tensor([3e6, 0.0, 0.0])
    assert bulk(g).radius < 1 and sphere(g)[1] < 1
    low, high = box(g)
    assert (high - low).max() < 1.3
    away, large = odd(g)
    assert "1 splat (row 11)" in away and "3e+06" in away and "1 splat (row 7)" in large and "1e+09" in large
    source = write_ply(tmp_path / "a.ply", g).path
    assert main(["export", str(source), "--out", str(tmp_path / "a.spz")]) == 2
    said = capsys.readouterr()
    assert "row 7" in said.out and "--no-strays" in said.err and "nan" not in said.out + said.err
    assert main(["export", str(source), "--out", str(tmp_path / "a.spz"), "--no-strays"]) == 0
    assert "1.1 wide" in (said := capsys.readouterr().out) and "inf" not in said and "nan" not in said
    assert len(load_splats(tmp_path / "a.spz").gaussians) == 198
    assert len(Preparation(strays=False).of(g)) == 198 and len(Preparation().of(g)) == 200


@pytest.mark.parametrize("what", ["means", "scales", "quats", "opacities", "sh"])
def test_nan_that_comes_back_is_never_within_limits(what: str) -> None:
    g, limits = ball(), Tolerances(0.1, 1e-4, 0.1, 0.05)
    check(differences(g, g, "a.ply"), limits, g, "a.ply")
    broken = getattr(g, what).clone()
    broken[3] = torch.nan
    with pytest.raises(UserError, match=r"a\.ply does not read back"):
        check(differences(g, replace(g, **{what: broken}), "a.ply"), limits, g, "a.ply")


def test_small_splats_get_as_many_bits_as_they_need(tmp_path: Path) -> None:
    """In .spz a step is a small part of a splat's size, where the extent leaves room for that."""
    for size, radius in ((0.05, 0.5), (1e-3, 0.5), (2e-4, 0.5), (2e-4, 8.0), (0.5, 3e3)):
        g = ball(size=size)
        g = replace(g, means=2 * radius * g.means)
        bits = fractional_bits(g)
        assert radius * 2**bits < 2**23 <= radius * 2 ** (bits + 1) or 2.0**-bits <= 0.05 * g.scales.amax(1).min()
        export(tmp_path / "a.spz", "spz", g)
        got = load_splats(tmp_path / "a.spz").gaussians
        nearest = distances(g.means, got.means).min(1).values
        assert (nearest <= max(2.0**-bits, 1e-15)).all()


@pytest.mark.parametrize("command", ["export", "render", "view"])
def test_commands_tell_what_they_left_out(tmp_path: Path, capsys, monkeypatch, command: str) -> None:
    write_ply(tmp_path / "a.ply", ball(50).to(dtype=torch.float32))
    data = PlyData.read(str(tmp_path / "a.ply"), mmap=False)
    data["vertex"]["x"][:20], data["vertex"]["rot_0"][30] = np.nan, np.inf
    data["vertex"]["f_dc_1"][31] = np.inf
    data.write(str(tmp_path / "a.ply"))
    extra = {"export": ["--format", "splat"], "render": ["--size", "16", "--azimuth", "0"], "view": ["--port", "8731"]}[command]
    if command == "view":
        from splatdistill_viewer.gallery import Gallery

        monkeypatch.setattr(Gallery, "hold", lambda self: None)
    main([command, str(tmp_path / "a.ply"), *extra])
    said = capsys.readouterr().out
    for fact in ("left out 22 of 50 rows", "20 with a position that is not finite", "1 with a rotation", "1 with a colour"):
        assert fact in said


@pytest.mark.parametrize("command", ["export", "render", "view"])
def test_a_file_without_a_usable_row_is_an_error_everywhere(tmp_path: Path, capsys, command: str) -> None:
    write_ply(tmp_path / "a.ply", ball(5).to(dtype=torch.float32))
    data = PlyData.read(str(tmp_path / "a.ply"), mmap=False)
    data["vertex"]["y"][:] = np.nan
    data.write(str(tmp_path / "a.ply"))
    assert main([command, str(tmp_path / "a.ply"), *(["--format", "spz"] if command == "export" else [])]) == 2
    assert "5 with a position that is not finite" in capsys.readouterr().err
