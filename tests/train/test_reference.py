"""The picture's camera: its loss, its weights, runs that begin with a picture and go on without the file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splatdistill.cameras import Orbit, orbit
from splatdistill.errors import UserError
from splatdistill.io.images import write_png
from splatdistill.render import rasterizer
from splatdistill.scene.initial import Ball
from splatdistill.train.commands import SetField
from splatdistill.train.config import Train
from splatdistill.train.reference import Reference
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import steer
from train.small import config, red_and_blue

RENDER = rasterizer("cpu")


@pytest.fixture
def green(tmp_path: Path) -> Path:
    """Write a picture of a green square, with opacity; return its path."""
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 16:48, 16:48] = 1
    write_png(tmp_path / "green.png", torch.cat([torch.tensor([0.1, 0.8, 0.1]).view(3, 1, 1).expand(3, 64, 64), alpha]))
    return tmp_path / "green.png"


def test_the_loss_of_what_the_camera_sees_itself_is_nothing_and_of_else_it_is_the_mean_squared_error():
    g = Ball(count=80, radius=0.5, opacity=0.9, scale=0.1).make(torch.Generator().manual_seed(0))
    reference, cameras = Reference(azimuth=40.0, elevation=20.0, rgb=3.0, mask=5.0), Orbit()
    distance, fov = cameras.middle
    out = RENDER(g, orbit([40.0], 20.0, distance, fov, 32), torch.zeros(1, 3))
    own = torch.cat([out.rgb[0], out.alpha[0]])  # over black: premultiplied
    for behind in (torch.zeros(1, 3), torch.tensor([[0.9, 0.2, 0.4]])):
        assert float(reference.loss(own, g, RENDER, cameras, behind, 32, 0.5)) < 1e-10
    other = own.clone()
    other[:3] *= 0.5
    got = reference.loss(other, g, RENDER, cameras, torch.zeros(1, 3), 32, 0.5)
    assert float(got) == pytest.approx(3.0 * float((0.5 * out.rgb).square().mean()), rel=1e-4)
    other = own.clone()
    other[3] *= 0.5
    got = reference.loss(other, g, RENDER, cameras, torch.zeros(1, 3), 32, 0.5)
    assert float(got) == pytest.approx(5.0 * float((0.5 * out.alpha).square().mean()), rel=1e-4)
    elsewhere = reference.loss(own.flip(2), g, RENDER, cameras, torch.zeros(1, 3), 32, 0.5)
    assert float(elsewhere) > 1e-4


def test_its_gradient_is_that_of_finite_differences():
    g = Ball(count=30, radius=0.5, opacity=0.5, scale=0.15).make(torch.Generator().manual_seed(1))
    reference = Reference(rgb=2.0, mask=1.0)
    picture = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(2))
    picture[:3] *= picture[3:]
    behind = torch.tensor([[0.2, 0.5, 0.9]])
    opacities = g.opacities.clone().requires_grad_()

    def loss(changed: torch.Tensor) -> torch.Tensor:
        return reference.loss(picture, replace(g, opacities=changed), RENDER, Orbit(), behind, 32, 0.0)

    (grad,) = torch.autograd.grad(loss(opacities), opacities)
    along, e = grad / grad.norm(), 2e-2
    with torch.no_grad():
        slope = (loss(opacities + e * along) - loss(opacities - e * along)) / (2 * e)
    assert float((grad * along).sum()) == pytest.approx(float(slope), rel=0.08)  # the rasteriser skips what is all but transparent


def test_weights_rise_and_fall_between_two_places_of_the_run():
    reference = Reference(rgb=500.0, rgb_end=1000.0, mask=50.0, mask_end=10.0, since=0.2, until=0.6)
    assert reference.weights(0.0) == reference.weights(0.2) == (500.0, 50.0)
    assert reference.weights(0.4) == pytest.approx((750.0, 30.0))
    assert reference.weights(0.6) == reference.weights(1.0) == (1000.0, 10.0)
    assert Reference(rgb=3.0).weights(0.7) == (3.0, 0.0)
    with pytest.raises(UserError, match="since"):
        Reference(since=0.5, until=0.2)


def test_a_weight_pulls_the_splats_to_the_picture(green):
    """The prior wants red discs; a picture that weighs enough wins from its own camera."""

    def greenness(rgb: float, inner: int = 1) -> float:
        c = config(steps=60, inner=inner, image=Reference(path=green, rgb=rgb, mask=rgb, elevation=15.0))
        session = Session(c, red_and_blue())
        for _ in range(60):
            assert session.step().refused == 0
        seen = session.render(c.image.camera(c.cameras, 16))[0, :, 6:10, 6:10].mean((1, 2))
        return float(seen[1] - seen[0])

    assert greenness(0.0) < 0 < 0.3 < greenness(3000.0) and greenness(3000.0, inner=2) > 0.3


def test_without_words_the_prior_must_be_shown_the_picture(green):
    for c in (config(prompt="", image=Reference(path=green)), config(prompt=" ", image=Reference(path=green, shown=False))):
        with pytest.raises(UserError, match="give --prompt too"):
            Session(c, red_and_blue())
    with pytest.raises(UserError, match="The prompt is empty"):
        Session(config(prompt=""), red_and_blue())


def test_the_picture_cannot_be_steered(green):
    session = Session(config(image=Reference(path=green, rgb=1.0)), red_and_blue())
    for path in ("image.path", "image.rgb"):
        with pytest.raises(UserError, match="image"):
            steer(session, SetField(path, 1.0))
        with pytest.raises(UserError, match="image"):
            session.apply(SetField(path, 1.0))


def test_a_run_keeps_the_picture_and_finds_it_where_the_folder_is_now(green, tmp_path):
    folder = RunDir.create("x", tmp_path / "a")
    kept = folder.keep_picture(config(image=Reference(path=green, rgb=1.0)))
    assert kept.image.path == tmp_path / "a" / "picture.png" == folder.picture and folder.picture.read_bytes() == green.read_bytes()
    moved = RunDir((tmp_path / "a").rename(tmp_path / "b"))
    assert moved.with_picture(kept).image.path == tmp_path / "b" / "picture.png"
    plain = Train(prompt="a red disc")
    assert folder.keep_picture(plain) is plain and moved.with_picture(plain) is plain


def test_depth_pulls_by_the_correlation_with_the_estimate_and_is_blind_to_scale_and_shift():
    g = Ball(count=80, radius=0.5, opacity=0.9, scale=0.1).make(torch.Generator().manual_seed(0))
    reference, cameras = Reference(depth=2.0), Orbit()
    distance, fov = cameras.middle
    out = RENDER(g, orbit([0.0], 15.0, distance, fov, 32), torch.zeros(1, 3))
    inverse = 1 / out.depth[0].clamp(min=0.05)
    own = torch.cat([out.rgb[0], out.alpha[0], 3 * inverse + 5])
    assert float(reference.loss(own, g, RENDER, cameras, torch.zeros(1, 3), 32, 0.0)) == pytest.approx(0.0, abs=1e-3)
    turned_inside_out = torch.cat([out.rgb[0], out.alpha[0], -inverse])
    assert float(reference.loss(turned_inside_out, g, RENDER, cameras, torch.zeros(1, 3), 32, 0.0)) == pytest.approx(4.0, abs=1e-2)
    means = g.means.clone().requires_grad_()
    loss = reference.loss(turned_inside_out, replace(g, means=means), RENDER, cameras, torch.zeros(1, 3), 32, 0.0)
    (grad,) = torch.autograd.grad(loss, means)
    assert grad.isfinite().all() and grad.abs().max() > 0


def test_the_estimate_is_made_once_of_the_picture_and_runs_with_it(green):
    reference = Reference(path=green, depth=1.0, geometry="tiny-geometry")
    rgba = reference.read()
    assert rgba is not None and reference.with_depth(rgba, "any").shape == (5, *rgba.shape[1:])
    assert Reference(path=green).with_depth(rgba, "any") is rgba
    of_the_prior = Reference(path=green, depth=1.0).with_depth(rgba, "tiny")
    assert torch.equal(of_the_prior, reference.with_depth(rgba, "any"))
    with pytest.raises(UserError, match="dpt-hybrid-midas"):
        Reference(path=green, depth=1.0).with_depth(rgba, "some/weights")
    session = Session(config(steps=2, image=reference), red_and_blue())
    assert [session.step().refused for _ in range(2)] == [0, 0]
    with pytest.raises(UserError, match="nowhere"):
        Session(config(image=Reference(path=green, depth=1.0, geometry="nowhere")), red_and_blue())
