"""Measures of sharpness against pictures whose sharpness is known."""

import pytest
import torch
from kornia.filters import gaussian_blur2d

from splatdistill.cameras import orbit
from splatdistill.evaluate.metrics.sharpness import edge_width, tenengrad
from splatdistill.toybox import parse, render


@pytest.mark.parametrize("width", [4, 8, 16])
def test_an_outline_is_as_wide_as_its_ramp(width):
    """Straight ramps across a picture of 64 pixels, also upright ones; nothing at all has no outline."""
    ramp = ((torch.arange(64) - 20 + 0.5) / width).clamp(0, 1).expand(1, 1, 64, 64)
    for alpha in (ramp, ramp.mT):
        assert edge_width(alpha).value == pytest.approx(100 * width / 64, rel=0.05)
    assert edge_width(torch.zeros(1, 1, 8, 8)).value is None


def test_blur_takes_sharpness_and_colour_does_not():
    truth = render([parse("a red duck").parts()], orbit([20.0, 200.0], width=96)).rgb
    blurred = [tenengrad(gaussian_blur2d(truth, (15, 15), (s, s))) / tenengrad(truth) for s in (0.5, 1.0, 2.0, 4.0)]
    assert 1 > blurred[0] > blurred[1] > blurred[2] > blurred[3] > 0
    assert tenengrad(truth.flip(1)) == pytest.approx(tenengrad(truth))
