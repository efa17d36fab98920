"""Sheets and films show the whole object, whatever its size and wherever it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill.cameras import Orbit, orbit
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import centred, fitting
from splatdistill.render import rasterizer
from splatdistill.train.finish import finish
from splatdistill.train.run import RunDir


def ball(radius: float, middle: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    where = torch.nn.functional.normalize(torch.randn(2000, 3, generator=rng), dim=1) * radius
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(2000, 4).contiguous()
    sizes = torch.full((2000, 3), 0.03 * radius)
    return Gaussians(where + torch.tensor(middle), quats, sizes, torch.full((2000,), 0.99), torch.full((2000, 1, 3), -1.5))


@pytest.mark.parametrize(("radius", "middle"), [(0.8, (0, 0, 0)), (0.05, (0.3, 0, 0)), (40.0, (0, 0, 100.0))], ids=str)
def test_the_object_fills_every_picture_of_the_sheet_and_is_not_cut(tmp_path, radius, middle):
    finish(RunDir(tmp_path), ball(radius, tuple(map(float, middle))), rasterizer("cpu"), [], size=64, frames=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    side, step = 32, (sheet.shape[1] - 32) // 7  # pictures stand apart
    for k in range(16):
        cell = sheet[k // 8 * step :, k % 8 * step :][:side, :side]
        dark = cell < 128
        assert 0.5 < dark.mean() < 0.85  # a disc that fills the square has pi / 4
        assert not dark[1].all() and not dark[:, 1].all() and dark[len(cell) // 2, len(cell) // 2]


def test_a_camera_at_the_fitting_distance_sees_a_sphere_from_edge_to_edge():
    g, radius = centred(ball(2.0))
    tight = rasterizer("cpu")(g, orbit([0.0], 15.0, fitting(radius, 42.0, room=1.0), 42.0, 96)).alpha[0, 0] > 0.5
    near = rasterizer("cpu")(g, orbit([0.0], 15.0, fitting(radius, 42.0, room=0.8), 42.0, 96)).alpha[0, 0] > 0.5
    assert tight[0].float().mean() < 0.35 < 0.6 < near[0].float().mean() and tight[6].any()


def test_previews_look_from_the_middle_of_where_training_looks():
    cameras = replace(Orbit(), distance=(2.0, 4.0), fov=(60.0, 70.0)).around([0.0, 90.0], 15.0, 32)
    torch.testing.assert_close(cameras.distance, torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(cameras.vertical_fov, torch.tensor([65.0, 65.0]))


@pytest.mark.parametrize("field", ["means", "scales", "opacities", "sh", "quats"])
def test_splats_that_are_no_numbers_are_in_no_picture_and_no_file(tmp_path, field):
    whole, worse = ball(0.5), ball(0.5)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        values = getattr(worse, name).clone()
        if name == field:
            values[7] = float("nan")
        worse = replace(worse, **{name: values})
    less = whole[torch.arange(2000) != 7]
    made = [finish(RunDir(tmp_path / name), g, rasterizer("cpu"), [], size=32, frames=2) for name, g in (("less", less), ("worse", worse))]
    assert (made[0].dropped, made[1].dropped) == (0, 1)
    for name in ("splats", "sheet", "turntable"):
        assert getattr(made[0], name).read_bytes() == getattr(made[1], name).read_bytes()
    with pytest.raises(UserError, match="none has only finite values"):
        finish(RunDir(tmp_path / "none"), replace(whole, means=torch.full((2000, 3), float("nan"))), rasterizer("cpu"), [], size=32, frames=2)
