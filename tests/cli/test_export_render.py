"""The export and render subcommands, as a person uses them."""

from pathlib import Path

import numpy as np
import pytest
from marked_cube import cube
from PIL import Image

from splatdistill.cli import main
from splatdistill.io import read_splats
from splatdistill.io.ply import load_ply, read_comments, write_ply


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a finished run."""
    write_ply(tmp_path / "run" / "splats.ply", cube(), ["prompt a cube", "prior tiny"])
    return tmp_path / "run"


@pytest.mark.parametrize("kind", ["splat", "spz", "sog", "html", "ply"])
def test_export_writes_beside_the_run_and_says_what_came_back(run: Path, capsys, kind: str) -> None:
    assert main(["export", str(run), "--format", kind]) == 0
    text = capsys.readouterr().out
    path = run / ("splats-export.ply" if kind == "ply" else f"splats.{kind}")
    assert f"wrote {path}: {len(cube())} splats" in text and "read back: positions" in text
    assert ("one colour from everywhere" in text) == (kind == "splat")
    assert ("keep with it: prior tiny" in text) == (kind in ("splat", "spz"))
    assert path.exists() and len(load_ply(run / "splats.ply").strict()) == len(cube())


def test_the_suffix_decides_and_budgets_make_levels(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "cube.spz"
    assert (
        main(["export", str(run / "splats.ply"), "--out", str(out), "--budget", "900", "300", "--pivot", "ground"]) == 0
    )
    assert [len(read_splats(out.with_stem(f"cube{s}"))) for s in ("", "-lod1")] == [900, 300]


def test_programs_get_their_worlds_and_provenance_stays(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "a.ply"
    assert main(["export", str(run), "--for", "unreal", "--out", str(out), "--height", "2"]) == 0
    said = capsys.readouterr().out
    assert "200 tall (cm); z up, the front to +x, left-handed; standing on the origin" in said
    assert main(["export", str(run), "--for", "unity", "--out", str(tmp_path / "a.spz"), "--pivot", "centre"]) == 0
    said = capsys.readouterr().out
    assert "tall (units); y up, the front to +z; the origin in its middle" in said
    raw = load_ply(out, up="raw").strict()
    assert 190 < (raw.means[:, 2].max() - raw.means[:, 2].min()).item() < 230 and abs(raw.means[:, 2].min().item()) < 10
    assert {"up unreal", "prompt a cube", "prior tiny"} <= {*read_comments(out)}
    front = raw.means[(raw.sh[:, 0] - raw.sh[:, 0].new_tensor([1.77, -1.77, -1.77])).abs().sum(1) < 0.1]
    assert len(front) > 100 and (front[:, 0] > 60).all()  # red looks along +x
    assert main(["export", str(run), "--out", str(tmp_path / "b.ply"), "--degree", "0", "--no-pad"]) == 0
    assert (tmp_path / "b.ply").stat().st_size < 0.3 * out.stat().st_size


def test_export_makes_meshes_films_and_pictures(run: Path, tmp_path: Path, capsys) -> None:
    small = ["--resolution", "16", "--texture", "256", "--size", "32"]
    for name in ("a.obj", "a.png"):
        assert main(["export", str(run), "--out", str(tmp_path / name), *small]) == 0
    text = capsys.readouterr().out
    assert "triangles" in text and "watertight" in text
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (32, 32, 4) and picture[0, 0, 3] == 0 and picture[16, 16, 3] == 255


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "what to export"),
        (["RUN"], "which format"),
        (["RUN", "--out", "a.stl"], "which format"),
        (["RUN", "--out", "a.ply", "--format", "spz"], "does not end in .spz"),
        (["RUN/splats.ply", "--out", "RUN/splats.ply"], "is what would be exported"),
        (["nothing", "--format", "ply"], "there is no nothing"),
        (["RUN", "--format", "ply", "--particle", "2"], "no --particle 2"),
        (["RUN", "--format", "ply", "--degree", "7"], "--degree"),
        (["RUN", "--format", "glb", "--texture", "16", "--resolution", "16"], "--texture"),
    ],
)
def test_export_refuses_with_a_reason(run: Path, tmp_path: Path, monkeypatch, capsys, argv, message) -> None:
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    assert main(["export", *(a.replace("RUN", str(run)) for a in argv)]) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before


def test_render_films_and_pictures(run: Path, tmp_path: Path, capsys) -> None:
    common = ["--size", "34", "20", "--frames", "3"]
    assert main(["render", str(run), *common, "--show", "rgb", "depth"]) == 0
    assert (run / "render.mp4").exists() and (run / "render-depth.mp4").exists()
    assert "world units along the camera's axis" in capsys.readouterr().out
    views = ["--azimuth", "0", "90", "--background", "transparent", "--out", str(tmp_path / "v.png")]
    assert main(["render", str(run / "splats.ply"), *common, *views]) == 0
    front, left = (np.asarray(Image.open(tmp_path / f"v-00{k}.png")) for k in (1, 2))
    assert front.shape == (20, 34, 4) and front[0, 0, 3] == 0
    assert front[14, 20, 0] > 200 and front[14, 20, 1] < 80 and left[14, 20, 1] > 150 and left[14, 20, 0] < 80
    assert Image.open(tmp_path / "v-001.png").text["Comment"] == "prompt a cube\nprior tiny"
    (tmp_path / "keys.json").write_text('[{"azimuth": 0, "distance": 3}, {"azimuth": 90}]', encoding="utf-8")
    flight = ["--path", str(tmp_path / "keys.json"), "--out", str(tmp_path / "f.png"), "--background", "#ff0000"]
    assert main(["render", str(run), *common, *flight]) == 0
    assert len(list(tmp_path.glob("f-*.png"))) == 3
    assert np.asarray(Image.open(tmp_path / "f-003.png"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "what to render"),
        (["RUN", "--background", "transparent"], "cannot be transparent"),
        (["RUN", "--background", "pink"], "--background"),
        (["RUN", "--out", "a.gif"], "expected .mp4 or .png"),
        (["RUN", "--size", "0"], "--size"),
        (["RUN", "--size", "1", "2", "3"], "--size"),
        (["RUN", "--frames", "0"], "--frames"),
        (["RUN", "--path", "figure-eight"], "--path"),
        (["RUN", "--path", "nothing.json"], "nothing.json"),
        (["RUN", "--elevation", "100"], "no camera can stand"),
        (["RUN", "--fps", "0"], "--fps"),
        (["RUN", "--depth-range", "3", "1"], "--depth-range"),
    ],
)
def test_render_refuses_with_a_reason(run: Path, tmp_path: Path, monkeypatch, capsys, argv, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render", *(a.replace("RUN", str(run)) for a in argv)]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*.*")] == ["splats.ply"]


@pytest.mark.parametrize("command", ["export", "render"])
def test_help_teaches_by_examples(capsys, command: str) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count(f"splatdistill {command} ") > 2
