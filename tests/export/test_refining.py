"""Textures refined on a surface that stands still: views of meshes are right and linear in texels, and guidances move them where they should."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_cube import cube
from train.small import config, red_and_blue

from splatdistill.cameras import orbit
from splatdistill.cli import main
from splatdistill.export.mesh_views import MeshViews
from splatdistill.export.meshes import meshed
from splatdistill.export.prepare import Preparation
from splatdistill.export.refine import refined
from splatdistill.guidance import CSD, SDS, VSD, Guidance, Times
from splatdistill.io.mesh import Mesh
from splatdistill.render import rasterizer
from splatdistill.train.session import Session

AROUND = orbit([0.0, 90.0, 180.0, 270.0, 40.0], [10.0, 10.0, 10.0, 10.0, 60.0], 3.0, 40.0, 96)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return meshed(cube(), rasterizer("cpu"), 40, 512)


def texture(mesh: Mesh) -> torch.Tensor:
    return torch.from_numpy(mesh.texture.copy()).permute(2, 0, 1).float() / 255


def test_views_of_a_mesh_are_those_of_its_splats(mesh):
    """By the splats' own rasteriser, a reference that shares no line: silhouettes, sides, the letter on the front."""
    views = MeshViews.of(mesh, AROUND)
    white = torch.ones(len(AROUND), 3)
    rgb, want = views.show(texture(mesh), white), rasterizer("cpu")(cube(), AROUND, white)
    alpha = torch.nn.functional.avg_pool2d(views.seen, views.seen.shape[-1] // AROUND.width)
    union = (alpha > 0.5) | (want.alpha > 0.5)
    assert (((alpha > 0.5) & (want.alpha > 0.5)).sum((1, 2, 3)) / union.sum((1, 2, 3)) > 0.9).all()
    error = (rgb - want.rgb).abs().mean((1, 2, 3))
    assert (error < 0.03).all()
    mirrored = (rgb.flip(3) - want.rgb).abs().mean((1, 2, 3))
    assert mirrored[0] > 1.5 * error[0]  # the letter is not mirrored


def test_views_are_linear_in_texels_and_gradients_reach_what_is_seen_and_nothing_else(mesh):
    views, black = MeshViews.of(mesh, AROUND[:1]), torch.zeros(1, 3)
    one, other = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(k), dtype=torch.float32) for k in (0, 1))
    torch.testing.assert_close(views.show(one + 2 * other, black), views.show(one, black) + 2 * views.show(other, black), atol=1e-5, rtol=1e-5)
    one.requires_grad_()
    views.show(one, black).sum().backward()
    seen_from_behind = MeshViews.of(mesh, AROUND[2:3])
    marks = torch.zeros(3, 64, 64, requires_grad=True)
    seen_from_behind.show(marks, black).sum().backward()
    assert (one.grad >= 0).all() and one.grad.sum() == pytest.approx(3 * float(views.seen.sum()) / 4, rel=1e-4)
    only = (marks.grad > 0.5) & (one.grad == 0)
    assert only.sum() > 100  # the back's own texels, which the front does not see


@pytest.mark.parametrize("guidance", [SDS(scale=1.0, times=Times(t_min=0.02, t_max=0.5)), CSD(scale=1.0), VSD(scale=1.0)], ids=lambda g: type(g).__name__)
def test_a_guidance_moves_the_texture_and_not_the_surface(mesh, guidance: Guidance):
    """Towards the red that the prior means; by the paths with a target, without one, and with a network that learns."""
    gray = replace(mesh, texture=np.full_like(mesh.texture, 128))
    session = Session(config(guidance, guidance_weight=1.0, inner=1 if guidance.targetless() else 3), red_and_blue())
    told: list[int] = []
    found = refined(gray, session, 40, told.append)
    assert told == list(range(1, 41)) and found.vertices is gray.vertices and np.array_equal(found.uv, gray.uv)
    rgb = MeshViews.of(found, AROUND).show(texture(found), torch.ones(len(AROUND), 3))[:, :, 40:56, 40:56].mean((0, 2, 3))
    assert rgb[0] > rgb[2] + 0.1
    again = refined(gray, Session(session.config, red_and_blue()), 40)
    assert np.array_equal(found.texture, again.texture)


def test_no_steps_leave_the_texture_as_it_is(mesh):
    assert np.array_equal(refined(mesh, Session(config(), red_and_blue()), 0).texture, mesh.texture)


@pytest.mark.parametrize("preparation", [Preparation(), Preparation("ground", height=2.0, facing=90.0), Preparation("centre", scale=3.0)], ids=str)
def test_points_go_where_the_prepared_splats_are(preparation: Preparation):
    g = replace(cube(), means=cube().means + torch.tensor([0.3, -0.2, 0.1]))
    kept = preparation.kept(g)
    torch.testing.assert_close(preparation.points(kept.means, kept), preparation.of(g).means, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "mug"
    small = ["--steps", "8", "--init.count", "300", "--init.opacity", "0.9", "--init.scale", "0.15", "--no-viewer", "--checkpoint-every", "0", "--preview-every", "0"]
    assert main(["train", "--guidance", "sds", "--prior", "tiny", "--prompt", "a red mug", "--out", str(path), *small]) == 0
    return path


@pytest.mark.parametrize("guidance", ["", "sds[scale=2]"])
def test_export_refines_the_texture_of_a_run_and_puts_it_where_it_was_asked(run: Path, tmp_path: Path, capsys, guidance: str) -> None:
    import trimesh

    asked = ["--out", str(tmp_path / "a.glb"), "--refine-texture", "2", "--resolution", "16", "--texture", "256", "--height", "2", "--pivot", "ground"]
    assert main(["export", str(run), *asked, *(["--refine-guidance", guidance] if guidance else [])]) == 0
    said = capsys.readouterr().out
    assert "refining the texture 2/2" in said and "2 tall" in said
    low, high = trimesh.load(tmp_path / "a.glb").bounds
    assert low[1] == pytest.approx(0, abs=1e-4) and high[1] == pytest.approx(2, abs=1e-3)  # glTF: y up


def test_what_cannot_be_refined_is_said_before_any_work(run: Path, tmp_path: Path, capsys) -> None:
    refusals = {
        ("--format", "glb", "--refine-texture", "-1"): "0 or more; got -1",
        ("--format", "spz", "--refine-texture", "5"): "for meshes, --format glb or obj; got spz",
        ("--format", "glb", "--refine-guidance", "sds"): "goes with --refine-texture K",
        ("--format", "glb", "--refine-texture", "5", "--refine-guidance", "sds@wrong-view"): "expected NAME or NAME[OPTION=VALUE, ...]",
        ("--format", "glb", "--refine-texture", "5", "--refine-guidance", "nothing"): "nothing",
    }
    for argv, told in refusals.items():
        assert main(["export", str(run), *argv]) == 2
        said = capsys.readouterr().err
        assert told in said and "Traceback" not in said, argv
    assert main(["export", str(run / "splats.ply"), "--out", str(tmp_path / "a.glb"), "--refine-texture", "5"]) == 2
    assert "expected the directory of a finished run" in capsys.readouterr().err
