"""Files are kept only if they read back as what was meant; pages and films hold what they should."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from marked_cube import cube
from PIL import Image

from splatdistill.errors import UserError
from splatdistill.export import film, paths, write
from splatdistill.export.paths import Place
from splatdistill.export.write import FORMATS, Asked, export
from splatdistill.gaussians import Gaussians
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
    """Return the splats in a page."""
    found = re.search(r'base64">([^<]*)<', page)
    assert found and base64.b64decode(found[1])[:2] == b"\x1f\x8b"
    return found[1]


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
