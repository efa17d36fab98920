"""Meshes are closed, of the genus of the object, in few charts without seams, and open in other libraries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_cube import cube
from splats import ball, join

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.export import bake, charts, meshes
from splatdistill.export.saved_splats import chosen
from splatdistill.gaussians import Gaussians
from splatdistill.io import mesh as mesh_file
from splatdistill.io.mesh import Mesh, form
from splatdistill.io.ply import write_ply
from splatdistill.render import rasterizer


def sprinkled(places: torch.Tensor, size: float) -> Gaussians:
    """Return small opaque splats at places, coloured by position."""
    count = len(places)
    sh = torch.zeros(count, 1, 3)
    sh[:, 0] = 1.2 * torch.sin(3 * places)
    return Gaussians(places, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), size), torch.full((count,), 0.95), sh)


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))


def sphere(n: int = 800, size: float = 0.05) -> Gaussians:
    """Return splats randomly placed on a sphere's surface."""
    return sprinkled(0.5 * torch.nn.functional.normalize(noise(n) - 0.5, dim=1), size)


def ring(n: int = 800) -> Gaussians:
    """Return a torus that lies on its side."""
    a, b, _ = (2 * torch.pi * noise(n)).unbind(1)
    far = 0.5 + 0.14 * torch.cos(b)
    return sprinkled(torch.stack([far * torch.cos(a), 0.14 * torch.sin(b), far * torch.sin(a)], 1), 0.05)


@pytest.fixture(scope="module")
def made() -> Mesh:
    return meshes.meshed(cube(), rasterizer("cpu"), 24, 512)


@pytest.mark.parametrize(("splats", "genus"), [(sphere, 0), (ring, 1)])
@pytest.mark.parametrize("resolution", [24, pytest.param(64, marks=pytest.mark.slow)])
def test_a_ball_has_no_handle_and_a_ring_has_one(splats, genus: int, resolution: int) -> None:
    got = meshes.meshed(splats(), rasterizer("cpu"), resolution, 256 if resolution < 40 else None)
    assert form(got.vertices[got.faces]) == mesh_file.Form(1, True, genus)
    assert len(got.vertices) - len(got.faces) // 2 == 2 - 2 * genus  # Euler, by shared vertices alone
    reach = np.linalg.norm(got.vertices, axis=1).max()
    assert 0.5 < reach < 0.8 and got.charts < len(got.faces) / 30


@pytest.mark.slow
def test_what_training_makes_has_no_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mushroom and a snowman of the embedded prior, whole runs."""
    monkeypatch.chdir(tmp_path)
    for prompt in ("a red mushroom", "a blue snowman"):
        assert main(["train", "--prompt", prompt, "--prior", "tiny", "--device", "cpu", "--out", "run"]) == 0
        got = meshes.meshed(chosen(tmp_path / "run", 1).gaussians, rasterizer("cpu"))
        found = form(got.vertices[got.faces])
        assert found.watertight and found.genus == 0 and got.charts < len(got.faces) / 50
        (tmp_path / "run").rename(tmp_path / prompt)


def test_the_mesh_is_closed_and_where_the_cube_is(made: Mesh) -> None:
    assert form(made.vertices[made.faces]) == mesh_file.Form(1, True, 0)  # the cube, and the ball on it
    assert not form(made.vertices[made.faces[1:]]).watertight
    a, b, c = (made.vertices[made.faces[:, k]].astype(np.float64) for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6  # positive: counter-clockwise from outside
    assert 0.85 * 0.8**3 < volume < 1.25 * 0.8**3
    np.testing.assert_allclose(made.vertices.min(0), [-0.4] * 3, atol=0.06)
    np.testing.assert_allclose(made.vertices.max(0)[1], 0.4, atol=0.06)


def sampled(mesh: Mesh, uv: np.ndarray) -> np.ndarray:
    """Return colours at places of the texture, blended as viewers do, in [0, 1]."""
    grid = torch.from_numpy(2 * uv - 1).float()[None, None]
    texture = torch.from_numpy(mesh.texture / 255).float().permute(2, 0, 1)[None]
    return torch.nn.functional.grid_sample(texture, grid, align_corners=False)[0, :, 0].T.numpy()


def test_the_texture_shows_each_side_in_its_colour(made: Mesh) -> None:
    shown = sampled(made, made.uv[made.corners].mean(1))
    where = made.vertices[made.faces].mean(1)
    inner = (np.abs(where[:, [0, 1, 2]]) < 0.3).sum(1) == 2  # away from edges
    for axis, sign, colour in ((0, -1, (0, 0, 1)), (1, 1, (0, 0.8, 0)), (1, -1, (0.9, 0.9, 0)), (2, -1, (0, 0, 0))):
        on = inner & (sign * where[:, axis] > 0.35)
        assert on.sum() > 20
        np.testing.assert_allclose(np.median(shown[on], 0), colour, atol=0.06)


def test_charts_meet_without_seams() -> None:
    """A vertex where charts meet has several places in the texture; blended there they show one colour."""
    got = meshes.meshed(sphere(1500, 0.09), rasterizer("cpu"), 32, 512)
    vertex = np.empty(len(got.uv), int)
    vertex[got.corners] = got.faces
    shown = sampled(got, got.uv)
    most, least = (np.full((len(got.vertices), 3), start) for start in (0.0, 1.0))
    np.maximum.at(most, vertex, shown)
    np.minimum.at(least, vertex, shown)
    several = np.bincount(vertex) > 1
    assert several.sum() > 50
    apart = (most - least)[several].max(1)
    assert np.quantile(apart, 0.95) < 0.05 and apart.max() < 0.2
    known = np.zeros(512 * 512, bool)
    for texels in charts.covered(charts.Charts(got.uv, got.corners, got.charts), 512):
        known[texels.index] = True
    known = known.reshape(512, 512)
    rim = ~known[1:, :] & known[:-1, :]  # a texel below a chart has the colour of one at the chart's rim
    step = np.abs(got.texture[1:].astype(int) - got.texture[:-1].astype(int)).max(2)
    assert rim.sum() > 500 and np.quantile(step[rim], 0.99) < 12


@pytest.mark.parametrize("most", [1200, pytest.param(5000, marks=pytest.mark.slow)])
def test_as_many_triangles_as_may_be_and_still_closed(most: int) -> None:
    got = meshes.meshed(cube(), rasterizer("cpu"), texture=512, triangles=most)
    assert 0.8 * most < len(got.faces) <= most
    assert form(got.vertices[got.faces]).watertight
    np.testing.assert_allclose(got.vertices.min(0), [-0.4] * 3, atol=0.08)


def test_charts_share_no_texel_and_keep_apart(made: Mesh) -> None:
    size = 512
    assert made.uv.min() >= 0.5 / size - 1e-6 and made.uv.max() <= 1 - 0.5 / size + 1e-6
    found = list(charts.covered(charts.Charts(made.uv, made.corners, made.charts), size))
    index, face = (np.concatenate([getattr(part, name) for part in found]) for name in ("index", "face"))
    weights = np.concatenate([part.weights for part in found])
    inside = (weights > 1e-4).all(1)  # not on an edge, where two faces meet
    assert np.bincount(index[inside]).max() == 1 and len(index) > 0.3 * size * size
    where = (weights[:, :, None] * made.uv[made.corners[face]]).sum(1) * size - 0.5
    np.testing.assert_allclose(where, np.stack([index % size, index // size], 1), atol=0.01)


@pytest.mark.parametrize(("kind", "material"), [("glb", "unlit"), ("glb", "lit"), ("obj", "lit"), ("obj", "unlit")])
def test_mesh_files_open_elsewhere(tmp_path: Path, made: Mesh, kind: str, material: str) -> None:
    import trimesh

    path = tmp_path / f"a mesh.{kind}"
    done = meshes.write(path, kind, made, ("prompt a\ncube",), material)
    assert done.form.watertight and done.mesh is made
    (got,) = trimesh.load_scene(path).geometry.values()
    assert len(got.vertices) <= len(made.uv) < 0.8 * len(made.faces)  # shared, not three to a triangle
    got.merge_vertices(merge_tex=True, merge_norm=True)
    assert len(got.faces) == len(made.faces) and got.is_watertight and got.volume > 0.4
    assert len(got.vertices) == len(made.vertices) and got.euler_number == 2
    assert got.bounds[1][1] > 0.6  # the ball is up, along y
    if kind == "obj":
        text = path.read_text(encoding="utf-8")
        stem = mesh_file.plain("a mesh")
        assert "# prompt a cube\n" in text and {p.name for p in tmp_path.iterdir()} >= {f"{stem}.mtl", f"{stem}-texture.png"}
        shading = {"unlit": "illum 0\n", "lit": "illum 1\n"}[material]
        assert shading in (tmp_path / f"{stem}.mtl").read_text(encoding="utf-8")


@pytest.mark.parametrize("material", ["unlit", "lit"])
def test_the_glb_says_how_it_is_lit_and_where_it_comes_from(tmp_path: Path, made: Mesh, material: str) -> None:
    from pygltflib import GLTF2

    meshes.write(tmp_path / "a.glb", "glb", made, ("prior tiny",), material)
    got = GLTF2().load(str(tmp_path / "a.glb"))
    unlit = {"KHR_materials_unlit": {}} if material == "unlit" else {}
    assert got.asset.extras == {"comments": ["prior tiny"]} and got.extensionsUsed == list(unlit)
    (look,) = got.materials
    assert look.extensions == unlit and got.samplers[0].minFilter == 9729
    assert look.pbrMetallicRoughness.metallicFactor == 0 and look.pbrMetallicRoughness.roughnessFactor == 1
    (primitive,) = got.meshes[0].primitives
    a = primitive.attributes
    assert got.accessors[primitive.indices].count == 3 * len(made.faces)
    assert got.accessors[a.POSITION].count == got.accessors[a.TEXCOORD_0].count == len(made.uv)
    assert None not in (a.POSITION, a.NORMAL, a.TEXCOORD_0) and len(got.images) == 1


def test_the_message_says_what_is_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ply(tmp_path / "a.ply", ring())
    argv = ["export", str(tmp_path / "a.ply"), "--out", str(tmp_path / "a.glb"), "--resolution", "24", "--texture", "256", "--material", "lit"]
    assert main(argv) == 0
    import trimesh

    (got,) = trimesh.load_scene(tmp_path / "a.glb").geometry.values()
    said = " ".join(capsys.readouterr().out.split())
    assert f"({len(got.vertices)} with seams), {len(got.faces)} triangles" in said and "texture of 256x256" in said
    assert "1 piece, watertight, genus 1" in said and "lit" in said and " charts in a" in said


@pytest.mark.parametrize(("options", "length"), [(["--for", "blender"], "m"), (["--for", "unreal", "--format", "obj"], "cm")])
def test_a_mesh_is_as_high_as_asked_and_stands_on_the_ground(tmp_path: Path, capsys: pytest.CaptureFixture[str], options, length) -> None:
    import trimesh

    write_ply(tmp_path / "a.ply", sphere(400))
    out = tmp_path / ("a.obj" if "obj" in options else "a.glb")
    argv = ["export", str(tmp_path / "a.ply"), "--out", str(out), "--resolution", "16", "--texture", "256", "--height", "0.3", *options]
    assert main(argv) == 0
    vertices = np.concatenate([g.vertices for g in trimesh.load_scene(out).geometry.values()])
    (x, low, z), (right, high, front) = vertices.min(0), vertices.max(0)  # y is up
    tall = 30.0 if length == "cm" else 0.3
    assert high - low == pytest.approx(tall, rel=1e-4) and low == pytest.approx(0, abs=1e-4 * tall)
    np.testing.assert_allclose((x + right, z + front), 0, atol=1e-4 * tall)
    said = capsys.readouterr().out
    assert f"{tall:.3g} tall ({length})" in said and f"{right - x:.3g} wide" in said


def test_the_same_splats_are_the_same_mesh() -> None:
    first, second = (meshes.meshed(sphere(400), rasterizer("cpu"), 16, 256) for _ in range(2))
    assert np.array_equal(first.uv, second.uv) and np.array_equal(first.texture, second.texture)
    assert np.array_equal(first.vertices, second.vertices) and np.array_equal(first.corners, second.corners)


def test_what_has_no_surface_and_what_does_not_fit_is_explained() -> None:
    fog = ball([0, 0, 0], 0.3, 0.2, [1, 0, 0]).to(dtype=torch.float32)
    with pytest.raises(UserError, match="no surface"):
        meshes.meshed(fog, rasterizer("cpu"), 16, 256)
    for wrong in ({"resolution": 4}, {"resolution": 16, "triangles": 500}):
        with pytest.raises(UserError, match="--resolution"):
            meshes.meshed(fog, rasterizer("cpu"), **wrong)
    for few in (0, 40):
        with pytest.raises(UserError, match="--triangles"):
            meshes.meshed(cube(), rasterizer("cpu"), triangles=few)
    for size in (64, 20_000):
        with pytest.raises(UserError, match="--texture"):
            bake.side(9999, size)
    for count in (10, 9999, 1_354_520):  # nothing asked for: as large as it must be
        assert bake.side(count, None) == bake.side(count, bake.side(count, None)) >= bake.USUAL


def test_a_thing_of_one_splat_is_a_mesh() -> None:
    lone = join(ball([0, 0, 0], 0.2, 0.99, [1, 0, 0])).to(dtype=torch.float32)
    got = meshes.meshed(replace(lone, sh=lone.sh), rasterizer("cpu"), 16, 256)
    assert form(got.vertices[got.faces]) == mesh_file.Form(1, True, 0)


@pytest.mark.parametrize("missing", ["trimesh", "xatlas", "skimage.measure"])
def test_meshing_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    import sys

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pip install .*scikit-image.* .*trimesh.* .*xatlas"):
        meshes.meshed(cube(), rasterizer("cpu"), 16, 256)
