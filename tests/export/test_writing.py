"""Files are kept only if they read back as what was meant; pages, meshes and films hold what they should."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_cube import cube
from PIL import Image
from splats import ball

from splatdistill.errors import UserError
from splatdistill.export import bake, film, meshes, paths, write
from splatdistill.export.paths import Place
from splatdistill.export.write import FORMATS, Asked, export
from splatdistill.gaussians import Gaussians
from splatdistill.io import mesh as mesh_file
from splatdistill.io.html import Start, load_html, write_html
from splatdistill.io.images import check_png
from splatdistill.io.video import check_mp4, write_mp4
from splatdistill.render import rasterizer


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("up", ["viewer", "unity"])
def test_every_format_reads_back(tmp_path: Path, kind: str, up: str) -> None:
    done = export(tmp_path / f"a.{kind}", kind, cube(), Asked(up, ("prompt a cube",)))
    assert done.count == len(cube()) and done.bytes == (tmp_path / f"a.{kind}").stat().st_size
    assert done.place < 1e-3 and done.shape < 0.07 and done.colour < 0.01


@pytest.mark.parametrize("fault", ["another place", "half of them", "other colours", "torn"])
def test_a_file_that_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch, fault: str) -> None:
    def broken(path: Path, g: Gaussians, asked: Asked) -> None:
        if fault == "torn":
            path.write_bytes(b"ply\n")
            return
        g = g[::2] if fault == "half of them" else g
        g = replace(g, means=g.means + 0.01) if fault == "another place" else g
        g = replace(g, sh=g.sh.roll(1, 2)) if fault == "other colours" else g
        FORMATS["ply"].write(path, g, asked)

    monkeypatch.setitem(write.FORMATS, "sog", replace(FORMATS["ply"], write=broken))
    path = tmp_path / "a.sog"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(UserError, match="a.sog"):
        export(path, "sog", cube())
    assert path.read_text(encoding="utf-8") == "before" and len(list(tmp_path.iterdir())) == 1


def test_the_page_needs_nothing_and_escapes_what_people_wrote(tmp_path: Path) -> None:
    nasty = '</script><img src=x onerror=alert(1)> {{data}} & "quotes"'
    write_html(tmp_path / "a.html", cube(), [f"prompt {nasty}"], title=nasty, start=Start(target=(1.0, 2.0, 3.0)))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|import\(|fetch\(|src=(?!x )|@import|url\(", page.replace(base64_of(page), ""))
    assert "default-src 'none'" in page and "<img" not in page and "{{" not in page.replace("{{data}}", "")
    assert page.count("<script") == 3 and "&lt;/script&gt;&lt;img src=x" in page
    assert '"target": [2.0, 3.0, 1.0]' in page  # in the world of the data
    assert len(load_html(tmp_path / "a.html").gaussians) == len(cube())
    (tmp_path / "b.html").write_text("<html></html>", encoding="utf-8")
    with pytest.raises(UserError, match="not a page"):
        load_html(tmp_path / "b.html")


def base64_of(page: str) -> str:
    """The splats in a page."""
    found = re.search(r'base64">([^<]*)<', page)
    assert found and base64.b64decode(found[1])[:2] == b"\x1f\x8b"
    return found[1]


@pytest.fixture(scope="module")
def made() -> mesh_file.Mesh:
    return meshes.meshed(cube(), rasterizer("cpu"), 24, 512)


def test_the_mesh_is_closed_and_where_the_cube_is(made: mesh_file.Mesh) -> None:
    assert mesh_file.watertight(made.vertices[made.faces])
    assert not mesh_file.watertight(made.vertices[made.faces[1:]])
    a, b, c = (made.vertices[made.faces[:, k]].astype(np.float64) for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6  # positive: counter-clockwise from outside
    assert 0.85 * 0.8**3 < volume < 1.25 * 0.8**3
    np.testing.assert_allclose(made.vertices.min(0), [-0.4] * 3, atol=0.06)
    np.testing.assert_allclose(made.vertices.max(0)[1], 0.4, atol=0.06)


def test_the_texture_shows_each_side_in_its_colour(made: mesh_file.Mesh) -> None:
    size = len(made.texture)
    middles = (made.uv.mean(1) * size).astype(int)
    shown = made.texture[middles[:, 1], middles[:, 0]] / 255
    where = made.vertices[made.faces].mean(1)
    inner = (np.abs(where[:, [0, 1, 2]]) < 0.3).sum(1) == 2  # away from edges
    for axis, sign, colour in ((0, -1, (0, 0, 1)), (1, 1, (0, 0.8, 0)), (1, -1, (0.9, 0.9, 0)), (2, -1, (0, 0, 0))):
        on = inner & (sign * where[:, axis] > 0.35)
        assert on.sum() > 20
        np.testing.assert_allclose(np.median(shown[on], 0), colour, atol=0.06)


@pytest.mark.parametrize("most", [1200, 5000])
def test_as_many_triangles_as_may_be_and_still_closed(most: int) -> None:
    got = meshes.meshed(cube(), rasterizer("cpu"), texture=512, triangles=most)
    assert 0.8 * most < len(got.faces) <= most
    assert mesh_file.watertight(got.vertices[got.faces])
    np.testing.assert_allclose(got.vertices.min(0), [-0.4] * 3, atol=0.08)


def test_triangles_share_no_texel() -> None:
    size = 256
    for count in (1, 50, 700):
        _, across, cell = bake.layout(count, size)
        uv = bake.corners(count, across, cell, size) * size
        assert uv.min() >= 0.5 and uv.max() <= size - 0.5
        rows, columns = np.mgrid[0:size, 0:size] + 0.5
        taken = np.zeros((size, size), int)
        for a, b, c in uv.astype(np.float64):
            (ux, uy), (vx, vy) = b - a, c - a
            x, y = columns - a[0], rows - a[1]
            s, t = (x * vy - y * vx) / (ux * vy - uy * vx), (y * ux - x * uy) / (ux * vy - uy * vx)
            taken += (s > -1e-6) & (t > -1e-6) & (s + t < 1 + 1e-6)
        assert taken.max() == 1


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_mesh_files_open_elsewhere(tmp_path: Path, made: mesh_file.Mesh, kind: str) -> None:
    import trimesh

    path = tmp_path / f"a mesh.{kind}"
    done = meshes.write(path, kind, made, ("prompt a\ncube",))
    assert done.watertight and done.faces == len(made.faces)
    (got,) = trimesh.load_scene(path).geometry.values()
    got.merge_vertices(merge_tex=True, merge_norm=True)
    assert len(got.faces) == len(made.faces) and got.is_watertight and got.volume > 0.4
    assert got.bounds[1][1] > 0.6  # the ball is up, along y
    if kind == "obj":
        text = path.read_text(encoding="utf-8")
        assert "# prompt a cube\n" in text and {p.name for p in tmp_path.iterdir()} >= {
            f"{mesh_file.plain('a mesh')}.mtl",
            f"{mesh_file.plain('a mesh')}-texture.png",
        }


def test_the_glb_is_unlit_and_says_where_it_comes_from(tmp_path: Path, made: mesh_file.Mesh) -> None:
    from pygltflib import GLTF2

    meshes.write(tmp_path / "a.glb", "glb", made, ("prior tiny",))
    got = GLTF2().load(str(tmp_path / "a.glb"))
    assert got.asset.extras == {"comments": ["prior tiny"]} and got.extensionsUsed == ["KHR_materials_unlit"]
    (material,) = got.materials
    assert material.extensions == {"KHR_materials_unlit": {}} and got.samplers[0].minFilter == 9729
    (primitive,) = got.meshes[0].primitives
    a = primitive.attributes
    assert got.accessors[primitive.indices].count == 3 * len(made.faces)
    assert None not in (a.POSITION, a.NORMAL, a.TEXCOORD_0) and len(got.images) == 1


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
            bake.layout(9999, size)
    for count in (10, 9999, 135_452):  # nothing asked for: as large as it must be
        size, across, cell = bake.layout(count, None)
        assert size >= bake.USUAL and bake.layout(count, size) == (size, across, cell) and cell >= bake.LEAST


def test_meshing_without_its_libraries_says_what_to_install(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(UserError, match=r"pip install .*scikit-image.* .*trimesh"):
        meshes.meshed(cube(), rasterizer("cpu"), 16, 256)


@pytest.mark.parametrize("kind", ["rgb", "depth", "normal", "alpha"])
def test_pictures_on_a_colour_are_the_transparent_ones_over_it(kind: str) -> None:
    looks = [film.Look(kind, (0.2, 0.4, 0.6), 2.0, 4.0), film.Look(kind, None, 2.0, 4.0)]
    (solid, clear), = film.shots(cube(), [Place(30.0)], 40, 30, looks, rasterizer("cpu"))  # fmt: skip
    assert solid.shape == (3, 30, 40) and clear.shape == (4, 30, 40)
    over = clear[:3] * clear[3:] + (1 - clear[3:]) * torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    if kind == "alpha":
        torch.testing.assert_close(solid[0], clear[3])
    else:
        torch.testing.assert_close(over, solid, rtol=0, atol=2e-3)
    assert clear[3, 0, 0] == 0 and clear[3, 15, 20] > 0.9


def test_depth_and_normals_mean_what_they_say() -> None:
    """From the front the cube's face is at 2.6, and faces the camera; what is up looks up from above."""
    looks = [film.Look("depth", (0.0, 0.0, 0.0), 2.0, 4.0), film.Look("normal", (0.5, 0.5, 0.5))]
    (depth, normal), = film.shots(cube(), [Place(0.0, 0.0, 3.0)], 33, 33, looks, rasterizer("cpu"))  # fmt: skip
    assert 4.0 - 2.0 * depth[0, 19, 14].item() == pytest.approx(2.6, abs=0.05)
    torch.testing.assert_close(normal[:, 19, 14], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=0.05)
    (above,), = film.shots(cube(), [Place(0.0, 60.0, 3.0)], 33, 33, looks[1:], rasterizer("cpu"))  # fmt: skip
    top = above[:, 8, 20]
    assert top[1] > 0.7 and top[2] > 0.8 and abs(top[0].item() - 0.5) < 0.1


def test_ways_of_the_camera(tmp_path: Path) -> None:
    way = paths.turntable(8, 10.0, 3.0, 40.0)
    assert [p.azimuth for p in way] == [45.0 * k for k in range(8)]
    assert len({p.elevation for p in paths.spiral(8, 10.0, 3.0, 40.0)}) > 3
    file = tmp_path / "keys.json"
    file.write_text('[{"azimuth": 0}, {"azimuth": 90, "elevation": 40}, {"azimuth": 180}]', encoding="utf-8")
    keys = paths.key_frames(file, 5, Place(0.0, 15.0, 3.0, 42.0))
    assert [keys[k].azimuth for k in (0, 2, 4)] == pytest.approx([0, 90, 180]) and keys[2].elevation == pytest.approx(
        40
    )
    assert keys[1].azimuth == pytest.approx(45) and keys[4].elevation == pytest.approx(40)  # goes on as it was
    for text in (
        "{",
        "[]",
        "[3]",
        '[{"azimut": 1}]',
        '[{"azimuth": "east"}]',
        '[{"azimuth": NaN}]',
        '[{"fov": true}]',
        "[" * 9999,
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="keys.json"):
            paths.key_frames(file, 5, Place())
    for wrong in (Place(elevation=91), Place(distance=0), Place(fov=180), Place(azimuth=float("inf"))):
        with pytest.raises(UserError, match="no camera can stand"):
            paths.check([wrong])


def test_a_film_that_is_not_whole_is_found_out(tmp_path: Path) -> None:
    frames = torch.rand(5, 3, 16, 18)
    assert write_mp4(tmp_path / "a.mp4", frames, note="prompt a cube") == 5
    check_mp4(tmp_path / "a.mp4", 5, 18, 16)
    for wrong in ((6, 18, 16), (5, 20, 16)):
        with pytest.raises(UserError, match="reads back as 5 frames"):
            check_mp4(tmp_path / "a.mp4", *wrong)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:300])
    with pytest.raises(UserError, match="b.mp4"):
        check_mp4(tmp_path / "b.mp4", 5, 18, 16)
    assert b"prompt a cube" in (tmp_path / "a.mp4").read_bytes()
    Image.new("RGB", (4, 4)).save(tmp_path / "c.png")
    check_png(tmp_path / "c.png", 4, 4, 3)
    with pytest.raises(UserError, match="c.png"):
        check_png(tmp_path / "c.png", 4, 4, 4)
