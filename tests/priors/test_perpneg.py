"""The words and weights of Perp-Neg, against threestudio's formulas; where it is on and where not."""

import math

import pytest
import torch
from helpers import write_sd_folder
from train.small import config, red_and_blue

from splatdistill.cameras import ViewWords, orbit
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.perpneg import turn
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.train.session import Session

VIEWS = ("mug", *(f"mug, {w} view" for w in ("front", "side", "back", "overhead")))


def prior() -> GaussianMixturePrior:
    """Return a prior with a component of its own for every text; embeddings differ in their weights."""
    table = {text: [9.0 if i == j else 1.0 for j in range(5)] for i, text in enumerate(VIEWS)}
    return GaussianMixturePrior(torch.zeros(5, 2, dtype=torch.float64), torch.ones(5, dtype=torch.float64), table)


@pytest.mark.parametrize("azimuth", [-180.0, -135.0, -91.0, -60.0, 0.0, 20.0, 45.0, 89.0, 90.5, 150.0])
def test_formulas(azimuth):
    p, cameras = prior(), orbit([azimuth], 10.0)
    c = Prompts("mug", perp_neg=True).conditions(p, cameras)
    front, side, back = (p.embed([f"mug, {w} view"]).tokens for w in ("front", "side", "back"))
    a = abs(azimuth)
    if a < 90:
        r = 1 - a / 90
        positive, others = r * front + (1 - r) * side, (front, side)
        weights = [-(4 * math.exp(-0.5 * r) - 2.426), -(4 * math.exp(-0.5 * (1 - r)) - 2.426)]
    else:
        r = 2 - a / 90
        positive, others = r * side + (1 - r) * back, (side, front)
        weights = [-(math.exp(-0.5 * r) - 0.606), -(math.exp(-0.5 * r) + 0.967)]
    torch.testing.assert_close(c.positive.tokens, positive, rtol=1e-4, atol=1e-5)  # cameras are float32
    assert [torch.equal(o.tokens, e) for o, e in zip(c.perp.others, others)] == [True, True]
    torch.testing.assert_close(c.perp.weights, torch.tensor([weights], dtype=torch.float64), rtol=1e-4, atol=1e-5)
    assert (c.perp.weights <= 0).all()


def test_overhead_views_move_away_from_nothing():
    c = Prompts("mug", perp_neg=True).conditions(prior(), orbit([0.0, 10.0], [70.0, 10.0]))
    assert (c.perp.weights[0] == 0).all() and (c.perp.weights[1] < 0).all()
    assert torch.equal(c.positive.tokens[0], prior().embed(["mug, overhead view"]).tokens[0])


def test_the_positive_prompt_turns_without_a_jump():
    p = prior()
    around = Prompts("mug", perp_neg=True).conditions(p, orbit(torch.arange(-180.0, 180.0, 1.0), 10.0)).positive.tokens
    steps = (around - around.roll(1, 0)).flatten(1).norm(dim=1)
    assert steps.max() < 0.1 and steps.min() > 0


def test_words_that_tell_left_from_right_do_so_here_too():
    words = ViewWords(left_right=True)
    assert turn(60.0, 10.0, words).words == ("front", "left side")
    assert turn(-60.0, 10.0, words).words == ("front", "right side")
    assert turn(100.0, 70.0, words).words == ("overhead left side",) * 2


def test_off_unless_asked_for_and_without_words():
    cameras = orbit([0.0], 10.0)
    assert Prompts("mug").conditions(prior(), cameras).perp is None
    assert Prompts("mug", words=None, perp_neg=True).conditions(prior(), cameras).perp is None


@pytest.mark.parametrize(
    "wants, asked, words, on",
    [(True, "auto", True, True), (False, "auto", True, False), (True, "off", True, False), (False, "on", True, True), (True, "on", False, False)],
)
def test_the_prior_says_unless_the_person_does(wants, asked, words, on):
    p = red_and_blue()
    p.perp_neg = wants
    session = Session(config(perp_neg=asked, view_dependent=words, steps=2), p)
    assert (session.prompts.conditions(p, orbit([0.0], 10.0)).perp is not None) == on
    session.step()
    assert p.calls == 2 * (1 if not on else 4)  # the guidance has scale 1


def test_real_networks_want_it_and_the_embedded_one_does_not(tmp_path):
    for patches in (False, True):
        folder = write_sd_folder(tmp_path / str(patches), patches=patches)
        assert StableDiffusionPrior.from_folder(folder, precision="float32").perp_neg == (not patches)


def test_words_may_be_blended_without_moving_away_from_any():
    """LucidDreamer's default: the positive condition of Perp-Neg, no negatives."""
    cameras = orbit([0.0, 30.0, 135.0, -60.0, 10.0], [10.0, 10.0, 10.0, 10.0, 70.0])
    blended = Prompts("mug", words=ViewWords(blend=True)).conditions(prior(), cameras)
    perp = Prompts("mug", perp_neg=True).conditions(prior(), cameras)
    plain = Prompts("mug").conditions(prior(), cameras)
    assert blended.perp is None and perp.perp is not None
    assert torch.equal(blended.positive.tokens, perp.positive.tokens) and not torch.equal(blended.positive.tokens, plain.positive.tokens)
    third = blended.positive.tokens[1], (2 * prior().embed(["mug, front view"]).tokens + prior().embed(["mug, side view"]).tokens)[0] / 3
    torch.testing.assert_close(*third, rtol=1e-5, atol=1e-6)
