"""The pictures that the page shows: the rasteriser's from the browser's camera, and what the prior wants."""

import dataclasses

import numpy as np
import torch
from ellipsoids import some
from splatdistill_viewer.pictures import MODES, picture, visible, wants
from train.small import config, red_and_blue

from splatdistill.cameras import orbit
from splatdistill.guidance import SDI
from splatdistill.render import rasterizer
from splatdistill.train.session import Session


def test_exact_pictures_are_the_rasterisers_and_know_directions():
    g = some(200).with_degree(1)
    g.sh[:, 1:] = 0.8 * torch.randn(g.sh[:, 1:].shape, generator=torch.Generator().manual_seed(2))
    camera, render = orbit([30.0], width=32), rasterizer("cpu")
    seen = {m: picture(g, camera, render, m) for m in MODES}
    for image in seen.values():
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and image.std() > 3
    out = render(g, camera, torch.ones(1, 3))
    assert np.abs(seen["rgb"] / 255 - out.rgb[0].clamp(0, 1).permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.abs(1 - seen["alpha"][..., 0] / 255 - out.alpha[0, 0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.abs(seen["rgb"].astype(int) - picture(g.with_degree(0), camera, render)).max() > 10


def test_near_is_brighter_than_far():
    g = some(2, scale=0.25)
    g = dataclasses.replace(g, means=torch.tensor([[0.8, -0.5, 0.0], [-0.8, 0.5, 0.0]]), opacities=torch.full((2,), 0.99))
    image = picture(g, orbit([0.0], 0.0, 3.0, 50.0, 48), rasterizer("cpu"), "depth").astype(int)[..., 0]
    near, far = image[24, :24], image[24, 24:]
    assert near[near < 250].max() > far[far < 250].min() + 50
    nothing = picture(g[:0], orbit([0.0], width=8), rasterizer("cpu"), "depth")
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
