"""The pictures that the page shows: the rasteriser's from the browser's camera, and what the prior wants."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from ellipsoids import some
from looker import until
from splatdistill_viewer.lighting import BACKGROUNDS, LIGHTS, backdrop, backdrop_image
from splatdistill_viewer.pictures import MODES, Kernels, Style, image, picture, visible, wants
from train.small import config, red_and_blue

from splatdistill.cameras import orbit
from splatdistill.guidance import SDI
from splatdistill.render import rasterizer
from splatdistill.scene.initial import Ball
from splatdistill.train.session import Session


def test_exact_pictures_are_the_rasterisers_and_know_directions():
    g = some(200).with_degree(1)
    g.sh[:, 1:] = 0.8 * torch.randn(g.sh[:, 1:].shape, generator=torch.Generator().manual_seed(2))
    camera, render = orbit([30.0], width=32), rasterizer("cpu")
    seen = {m: picture(g, camera, render, Style(m)) for m in MODES}
    for shot in seen.values():
        assert shot.shape == (32, 32, 3) and shot.dtype == np.uint8 and shot.std() > 3
    out = render(g, camera, torch.ones(1, 3))
    assert np.abs(seen["rgb"] / 255 - out.rgb[0].clamp(0, 1).permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.abs(seen["alpha"][..., 0] / 255 - out.alpha[0, 0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.abs(seen["rgb"].astype(int) - picture(g.with_degree(0), camera, render)).max() > 10


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_background_stands_behind_what_is_transparent_and_nothing_else(background):
    g = some(100, scale=0.1)
    camera, render = orbit([20.0], width=40), rasterizer("cpu")
    cut = image(g, camera, render, Style(background="transparent"))
    assert cut.shape == (4, 40, 40) and cut[3].min() == 0 and cut[3].max() > 0.5
    behind = backdrop(background, 40)
    expected = cut[:3] * cut[3:] + (1 - cut[3:]) * behind
    torch.testing.assert_close(image(g, camera, render, Style(background=background)), expected, atol=1e-5, rtol=0)
    on_a_page = torch.from_numpy(backdrop_image(background).copy()) / 255
    torch.testing.assert_close(on_a_page[[0, -1], 0, 0], behind[0, [0, -1], 0], atol=0.004, rtol=0)


def test_a_light_brightens_the_side_that_it_falls_on():
    sphere = Ball(count=4000, radius=0.8, opacity=0.9).make(torch.Generator().manual_seed(0))
    out = sphere.means / sphere.means.norm(dim=1, keepdim=True)
    surface = dataclasses.replace(sphere, means=0.8 * out, scales=torch.tensor([0.04, 0.04, 0.004]).expand(4000, 3), quats=turned_to(out), opacities=torch.full((4000,), 0.99))
    camera, render = orbit([0.0], 0.0, 3.0, 50.0, 48), rasterizer("cpu")
    for mode in ("clay", "rgb"):
        seen = {light: image(surface, camera, render, Style(mode, "black", light)).mean(0) for light in LIGHTS if light != "as trained"}
        top, bottom = slice(12, 20), slice(28, 36)
        assert seen["from above"][top, 20:28].mean() > 1.3 * seen["from above"][bottom, 20:28].mean(), mode
        assert seen["headlight"][22:26, 22:26].mean() > 1.5 * seen["from behind"][22:26, 22:26].mean(), mode
        assert torch.allclose(seen["headlight"][top].mean(), seen["headlight"][bottom].mean(), rtol=0.1), mode
        left = seen["studio"][20:28, 14:20].mean()  # azimuth 0 sees +y on its right, the light stands at -y
        assert left > 1.2 * seen["studio"][20:28, 28:34].mean(), mode
    plain = image(surface, camera, render, Style("rgb", "black"))
    torch.testing.assert_close(plain, render(surface, camera, torch.zeros(1, 3)).rgb[0], atol=1e-5, rtol=0)


def turned_to(normals):
    """Return quaternions, wxyz, that turn the z axis to these unit vectors."""
    w = 1 + normals[:, 2]
    axis = torch.stack([-normals[:, 1], normals[:, 0], torch.zeros_like(w)], 1)
    return torch.nn.functional.normalize(torch.cat([w[:, None], axis], 1), dim=1)


def test_kernels_are_compiled_beside_the_run_and_then_at_hand():
    called, slow = [], threading.Event()

    def render(*args, **options):
        slow.wait(30)
        return rasterizer("cpu")(*args, **options)

    kernels = Kernels(render, lambda do, *args: (called.append(args), do(*args)))
    began, g = time.monotonic(), some()
    assert not kernels.there(g, Style("normal")) and not kernels.there(g, Style("clay")) and time.monotonic() - began < 5
    slow.set()
    until(lambda: kernels.there(g, Style("clay")))
    assert len(called) == 1 and called[0][0].means.data_ptr() != g.means.data_ptr()


def test_near_is_brighter_than_far():
    g = some(2, scale=0.25)
    g = dataclasses.replace(g, means=torch.tensor([[0.8, -0.5, 0.0], [-0.8, 0.5, 0.0]]), opacities=torch.full((2,), 0.99))
    image = picture(g, orbit([0.0], 0.0, 3.0, 50.0, 48), rasterizer("cpu"), Style("depth")).astype(int)[..., 0]
    near, far = image[24, :24], image[24, 24:]
    assert near[near < 250].max() > far[far < 250].min() + 50
    nothing = picture(g[:0], orbit([0.0], width=8), rasterizer("cpu"), Style("depth"))
    assert (nothing == 255).all()


def test_the_prior_panel_shows_the_view_the_noise_the_estimate_and_the_wish():
    prior = red_and_blue()
    session = Session(config(SDI(scale=1.0), steps=8), prior)
    for _ in range(4):
        session.step()
    w = wants(session.last, prior)
    shapes = {i.shape for i in (w.render, w.noised, w.estimate, w.gradient)}
    assert shapes == {(16, 16, 3)} and 0 < w.t < 1
    view = session.last.out.rgb[0].detach().clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(w.render / 255 - view).max() < 0.003
    middle = w.estimate[6:10, 6:10].mean((0, 1))
    assert middle[0] > middle[2] + 30, "the prior knows a red disc"
    wish = w.gradient.astype(float)[6:10, 6:10].mean((0, 1)) - 127.5
    assert np.sign(wish[2]) == np.sign(middle[2] - w.render[6:10, 6:10].mean((0, 1))[2])


def test_what_is_no_number_is_seen_in_pictures():
    image = torch.full((3, 4, 4), 0.5)
    image[1, 2, 3] = float("nan")
    image[0, 0, 0] = float("inf")
    shown = visible(image)
    assert shown[2, 3].tolist() == [255, 0, 255] and shown[0, 0].tolist() == [255, 128, 128] and (shown[1] == 128).all()
