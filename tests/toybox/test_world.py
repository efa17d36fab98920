"""Pictures that the embedded models are shown: deterministic, inside the documented ranges, named correctly."""

import numpy as np
import torch

from splatdistill.cameras import orbit
from splatdistill.toybox import Caption, render
from splatdistill.toybox.world import SIZE, VIEWS, WORDS, backgrounds, pictures


def test_pictures_repeat_for_any_number_of_threads():
    one, two, other = pictures(24, 3, threads=1), pictures(24, 3, threads=2), pictures(24, 4)
    assert one.rgba.shape == (24, SIZE, SIZE, 4)
    assert np.array_equal(one.rgba, two.rgba)
    assert one.captions == two.captions
    assert one.words == two.words
    assert one.captions != other.captions


def test_pictures_are_premultiplied_and_show_something():
    rgba = pictures(40, 1).rgba.astype(int)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    assert (colour <= alpha + 1).all()  # rounding to bytes
    covered = (alpha > 127).mean((1, 2, 3))
    assert ((covered > 0.02) & (covered < 0.7)).all()
    border = np.concatenate([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
    assert (border == 0).mean() > 0.99  # objects fit into the picture


def test_views_stay_in_their_range_and_every_word_occurs():
    cameras = VIEWS.sample(400, 8, 8, torch.Generator().manual_seed(0))
    lo, hi = VIEWS.elevation
    assert (cameras.elevation >= lo - 1e-3).all()
    assert (cameras.elevation <= hi + 1e-3).all()
    assert set(pictures(60, 2).words) == {"front", "side", "back", "overhead"}


def test_the_word_belongs_to_the_picture():
    """A duck's beak is on its front: the picture that is called front shows the most orange."""
    azimuth, elevation = [0.0, 180.0], 10.0
    seen = render([Caption("duck", "blue").parts()], orbit(azimuth, elevation, 2.8, 42.0, SIZE))
    orange = (seen.rgb[:, 0] - seen.rgb[:, 2] > 0.3).sum((1, 2))
    assert orange[0] > 30 > orange[1]
    assert [WORDS.word(a, elevation) for a in azimuth] == ["front", "back"]


def test_backgrounds_are_half_white():
    ground = backgrounds(2000, torch.Generator().manual_seed(1))
    assert ((ground >= 0) & (ground <= 1)).all()
    assert abs((ground == 1).all(1).float().mean().item() - 0.5) < 0.04
    gray = (ground[:, 0] == ground[:, 1]) & (ground[:, 1] == ground[:, 2]) & (ground[:, 0] < 1)
    assert abs(gray.float().mean().item() - 0.2) < 0.04
