"""Files beside a run's results are no results; objects that are written side by side stay apart."""

from pathlib import Path

import numpy as np
import pytest
from marked_cube import cube
from PIL import Image

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.export.saved_splats import chosen, load, results
from splatdistill.io.mesh import Mesh, plain, write_obj
from splatdistill.io.ply import write_ply


def test_what_is_exported_into_a_run_is_no_particle(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("splats.ply", "splats-2.ply", "splats-10.ply"):
        write_ply(run / name, cube()[: 20 + len(name)])
    before = [(each.name, len(each.gaussians)) for each in load(run)]
    assert main(["export", str(run), "--format", "ply", "--budget", "9", "5"]) == 0
    assert main(["export", str(run), "--format", "ply", "--particle", "2", "--degree", "0"]) == 0
    for name in ("splats-cleaned.ply", "splats-1.ply", "splats-02.ply", "splats-2-cleaned.ply", "splats_old.ply"):
        write_ply(run / name, cube()[:3])
    assert len(list(run.glob("*.ply"))) == 11
    assert [(each.name, len(each.gaussians)) for each in load(run)] == before
    assert [path.name for path in results(run)] == ["splats.ply", "splats-2.ply", "splats-10.ply"]
    assert len(chosen(run, 3).gaussians) == 20 + len("splats-10.ply")
    with pytest.raises(UserError, match="no --particle 4"):
        chosen(run, 4)


def pyramid(colour: tuple[int, int, int]) -> Mesh:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    uv, same = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32), np.tile([0, 1, 2], (4, 1))
    return Mesh(corners, faces, uv, same, np.full((16, 16, 3), colour, np.uint8), 4)


def test_meshes_side_by_side_keep_their_textures(tmp_path: Path) -> None:
    """Names without ASCII, and names that differ in what .obj files cannot hold; all of one length."""
    names = ("\u7ea2\u8611\u83c7", "\u84dd\u96ea\u4eba", "a b", "a_b", "a:b", "\u00e4_b", "ab", "  ", "__")
    for k, name in enumerate(names):
        write_obj(tmp_path / f"{name}.obj", pyramid((20 * k, 10, 200)))
    for k, name in enumerate(names):
        lines = (tmp_path / f"{name}.obj").read_text(encoding="utf-8").splitlines()
        (material,) = [line.split(maxsplit=1)[1] for line in lines if line.startswith("mtllib")]
        (picture,) = [
            line.split(maxsplit=1)[1] for line in (tmp_path / material).read_text(encoding="utf-8").splitlines() if line.startswith("map_Kd")
        ]
        assert Image.open(tmp_path / picture).getpixel((0, 0)) == (20 * k, 10, 200)
        assert material.isascii() and " " not in material
    assert plain("a-mushroom.v2") == "a-mushroom.v2" and len({plain(name) for name in names}) == len(names)
