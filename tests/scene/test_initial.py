"""Beginnings of scenes: the distributions that the initialisers promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from splatdistill.errors import UserError
from splatdistill.io.ply import write_ply
from splatdistill.scene.initial import Ball, Blob, FromFile, cloud, spacing


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_ball_is_even_in_volume() -> None:
    g = Ball(count=20_000, radius=0.8, scale=0.02).make(rng())
    u = (g.means.norm(dim=1) / 0.8) ** 3  # uniform on [0, 1] if and only if even in volume
    assert u.max() <= 1 + 1e-5
    torch.testing.assert_close(u.sort().values, torch.linspace(0, 1, 20_000), rtol=0, atol=0.02)  # Kolmogorov-Smirnov
    assert g.means.mean(0).norm() < 0.02 and len(g) == 20_000 and g.degree == 0
    torch.testing.assert_close(g.rgb, torch.full((20_000, 3), 0.5))
    torch.testing.assert_close(g.opacities, torch.full((20_000,), 0.1))
    torch.testing.assert_close(g.scales, torch.full((20_000, 3), 0.02))


def test_blob_is_denser_in_the_middle_and_normal() -> None:
    g = Blob(count=20_000, radius=0.8, scale=0.02).make(rng())
    torch.testing.assert_close(g.means.std(0), torch.full((3,), 0.4), rtol=0.03, atol=0)
    assert (g.means.norm(dim=1) < 0.4).float().mean() > 1.3 * 0.5**3  # a ball would have an eighth of the points there


def test_sizes_are_distances_to_the_three_nearest() -> None:
    points = torch.rand(1500, 3, generator=rng())
    distances = (points[:, None] - points[None]).norm(dim=-1).fill_diagonal_(torch.inf)
    expected = distances.sort(dim=1).values[:, :3].square().mean(1).sqrt()
    torch.testing.assert_close(spacing(points), expected)
    g = cloud(points, torch.zeros(1500, 3), None, 0.1)
    torch.testing.assert_close(g.scales[:, 0], expected.clamp(max=2 * expected.median()))


def test_coincident_points_get_a_size() -> None:
    assert (cloud(torch.zeros(10, 3), torch.zeros(10, 3), None, 0.1).scales > 0).all()


@pytest.mark.parametrize("kind", [Ball, Blob])
def test_same_generator_same_start(kind: type[Ball] | type[Blob]) -> None:
    a, b, c = (kind(count=50, colour="random").make(rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(a.means, b.means) and torch.equal(a.sh, b.sh)
    assert not torch.equal(a.means, c.means)
    assert a.rgb.std() > 0.2 and a.rgb.min() >= 0 and a.rgb.max() <= 1


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"count": 3},
        {"radius": 0.0},
        {"radius": float("nan")},
        {"scale": -1.0},
        {"opacity": 1.0},
        {"opacity": 0.0},
    ],
)
def test_impossible_numbers_are_explained(bad: dict) -> None:
    with pytest.raises(UserError):
        Ball(**bad).make(rng())


def write_points(path: Path, n: int, nan: int = 0) -> np.ndarray:
    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.zeros(n, kinds)
    for i, name in enumerate("xyz"):
        rows[name] = np.random.default_rng(i).normal(size=n)
    rows["green"] = np.arange(n) % 256
    rows["y"][:nan] = np.nan
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return rows


def test_splats_from_a_file_are_kept_whole(tmp_path: Path) -> None:
    given = Ball(count=40, colour="random").make(rng()).with_degree(2)
    given.sh[:, 4] = 0.3
    write_ply(tmp_path / "a.ply", given)
    got = FromFile(tmp_path / "a.ply").make(rng())
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(got, name), getattr(given, name), rtol=3e-6, atol=3e-6)
    some = FromFile(tmp_path / "a.ply", count=7).make(rng(3))
    assert len(some) == 7 and torch.equal(some.means, FromFile(tmp_path / "a.ply", count=7).make(rng(3)).means)
    same = (some.means[:, None] == got.means[None]).all(2)
    assert same.any(1).all() and same.any(0).sum() == 7  # seven different ones of the forty


def test_points_from_a_file_become_round_gaussians(tmp_path: Path) -> None:
    rows = write_points(tmp_path / "a.ply", 300)
    got = FromFile(tmp_path / "a.ply", opacity=0.3).make(rng())
    torch.testing.assert_close(got.means[:, 1], torch.from_numpy(rows["y"].copy()))
    torch.testing.assert_close(got.rgb[:, 1], torch.from_numpy(rows["green"] / 255).float())
    torch.testing.assert_close(got.scales[:, 0], spacing(got.means).clamp(max=2 * spacing(got.means).median()))
    assert (got.opacities == 0.3).all() and got.degree == 0


def test_broken_rows_of_a_file_are_refused_or_dropped(tmp_path: Path) -> None:
    write_points(tmp_path / "a.ply", 50, nan=3)
    with pytest.raises(UserError, match=r"3 of 50 points.*--init\.drop-invalid"):
        FromFile(tmp_path / "a.ply").make(rng())
    assert len(FromFile(tmp_path / "a.ply", drop_invalid=True).make(rng())) == 47


def test_many_points_take_seconds_and_some_of_them_are_chosen(tmp_path: Path) -> None:
    write_points(tmp_path / "a.ply", 60_000)
    got = FromFile(tmp_path / "a.ply").make(rng())
    assert len(got) == 60_000 and got.scales.isfinite().all()
    assert len(FromFile(tmp_path / "a.ply", count=100).make(rng())) == 100


def test_points_in_one_place_are_no_object(tmp_path: Path) -> None:
    for count, few in ((3, None), (40, 2)):
        write_points(tmp_path / "a.ply", count)
        with pytest.raises(UserError, match=r"a\.ply gives [23] of its points; expected at least 4"):
            FromFile(tmp_path / "a.ply", count=few).make(rng())
    rows = write_points(tmp_path / "a.ply", 40)
    rows["x"], rows["y"], rows["z"] = 1.0, 2.0, 3.0
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(tmp_path / "a.ply"))
    with pytest.raises(UserError, match="all in one place"):
        FromFile(tmp_path / "a.ply").make(rng())
    twice = torch.rand(50, 3, generator=rng()).repeat_interleave(2, 0)
    assert (spacing(twice) > 0).all()  # the one beside it counts, and two more


def test_a_file_must_be_named() -> None:
    with pytest.raises(UserError, match="--init.path"):
        FromFile().make(rng())
