"""Both halves of the toybox: words to objects, objects to pictures."""

import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.toybox import ACCEPTANCE, Caption
from splatdistill.toybox.real import RealCaption, parse_real, truth
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import draw, has_truth, nearest_real, others, symmetric, understood
from splatdistill.toybox.tracer import render
from splatdistill.toybox.triangles import rasterise

CAMERAS = orbit([0.0, 120.0], 15.0, 2.8, 42.0, 32)


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("a red mushroom", Caption("mushroom", "red")),
        ("A hamburger, front view", RealCaption("hamburger")),
        ("a red coffee cup", RealCaption("coffee cup", "red")),
        ("red boots", RealCaption("boots", "red")),
        ("a red ball on a blue cube", Caption("ball", "red", below="cube", below_colour="blue")),
    ],
)
def test_words_name_toys_and_real_objects(text: str, thing: object) -> None:
    assert understood(text) == thing


@pytest.mark.parametrize(("text", "offered"), [("a blue plastic chiar", "chair"), ("a pink garden bench", "a pink bench"), ("a red huge piano", "piano")])
def test_what_is_refused_offers_what_is_near(text: str, offered: str) -> None:
    with pytest.raises(UserError, match=offered):
        understood(text)


def test_what_is_offered_is_known() -> None:
    for text in ("a pink garden bench", "my old red wooden chair", "a blue hamburger", "the cat"):
        assert all(parse_real(c) for c in nearest_real(text)), text


def test_each_half_is_drawn_by_its_own_renderer() -> None:
    toy, cup = understood("a blue robot"), parse_real("a red coffee cup")
    assert isinstance(toy, Caption) and cup is not None
    assert torch.equal(draw(toy, CAMERAS).rgb, render([toy.parts()], CAMERAS).rgb)
    assert torch.equal(draw(cup, CAMERAS).rgb, rasterise([truth(cup)], CAMERAS, samples=3).rgb)


def test_the_package_draws_what_acceptance_asks_for_and_says_what_it_cannot() -> None:
    assert all(has_truth(understood(p)) for p in (*ACCEPTANCE, *SPLIT.truth))
    assert not has_truth(RealCaption("hamburger"))
    with pytest.raises(UserError, match="no mesh of 'a hamburger'"):
        draw(RealCaption("hamburger"), CAMERAS)


def test_fronts_are_told_by_the_pictures() -> None:
    """A lamp and a box look the same from behind, a chair and a toilet do not."""
    same = {p: symmetric(understood(p)) for p in ("a green table lamp", "a red box", "a green plastic chair", "a pink toilet")}
    assert list(same.values()) == [True, True, False, False]
    assert symmetric(Caption("ball", "red")) and not symmetric(Caption("robot", "red"))


def test_wrong_objects_differ_in_one_attribute_and_can_be_drawn() -> None:
    cup = RealCaption("coffee cup", "red")
    wrong = list(others(cup))
    assert len(wrong) == len(set(wrong)) > 35 and cup not in wrong
    assert all((w.kind == cup.kind) != (w.colour == cup.colour) and has_truth(w) for w in wrong)
