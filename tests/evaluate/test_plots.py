"""Charts: what is told to be drawn is in the picture, in its place and its colour, and text stays text."""

import pytest
import torch

from splatdistill.evaluate.plots import COLOURS, chart, line, over_density, picture
from splatdistill.priors import plane


def share(image: torch.Tensor, colour: str) -> float:
    """Return share of a picture that has nearly this colour."""
    wanted = torch.tensor([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])[:, None, None]
    return float(((image - wanted).abs().amax(0) < 0.02).float().mean())


@pytest.mark.parametrize("log_y", [False, True])
def test_lines_have_their_places_colours_and_names(log_y):
    axes = chart("a title", "x", log_y, size=(320, 200))
    line(axes, [0.0, 1.0, 2.0], [1.0, 10.0, 100.0], COLOURS[0], "rising", [(0.5, 2.0), (None, None), (90.0, 110.0)])
    line(axes, [0.0, 1.0, 2.0], [5.0, None, 7.0], COLOURS[1], "broken")
    shown = picture(axes)
    assert shown.shape == (3, 200, 320) and shown.min() >= 0 and shown.max() <= 1
    assert all(share(shown, c) > 1e-3 for c in COLOURS[:2]) and share(shown, COLOURS[2]) == 0
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["rising", "broken"]
    (bars,) = axes.collections
    assert sorted(float(s[0, 0]) for s in bars.get_segments()) == [0.0, 2.0], "an interval with an open end is not drawn"
    assert axes.get_yscale() == ("log" if log_y else "linear")


def test_names_are_text_and_no_formulas():
    """matplotlib reads $...$ as mathematics, and would refuse the second of these."""
    axes = chart("$title$", names={0.0: "$x", 1.0: "a long name that does not fit below the axis upright"})
    for name in ("$x^2$[eta=0]", "$\\frac{$", "_hidden", r"back\slash"):
        line(axes, [0.0, 1.0], [1.0, 2.0], COLOURS[0], name)
    picture(axes)
    assert [t.get_text().replace(r"\$", "$").strip("\u200b") for t in axes.get_legend().get_texts()] == ["$x^2$[eta=0]", "$\\frac{$", "_hidden", r"back\slash"]
    assert {t.get_rotation() for t in axes.get_xticklabels()} == {20.0}


def test_particles_lie_on_their_density():
    """Up is up: dots drawn at a mode of the density cover its darkest place, and those outside stand on the border."""
    prior = plane.plane()
    blank = over_density(torch.zeros(0, 2), prior, "pair", size=96)
    assert blank.shape == (3, 96, 96)
    dark = divmod(int(blank.sum(0).argmin()), 96)
    x = torch.tensor([[(dark[1] + 0.5) / 96 * 5.2 - 2.6, 2.6 - (dark[0] + 0.5) / 96 * 5.2]])
    seen = over_density(x, prior, "pair", size=96)
    changed = (seen - blank).abs().sum(0) > 0.1
    assert changed[dark] and 1 <= int(changed.sum()) < 25
    assert bool(((over_density(torch.tensor([[0.0, 99.0]]), prior, "pair", size=96) - blank).abs().sum(0) > 0.1)[:3].any())
