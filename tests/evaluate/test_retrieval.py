"""The fifty captions, and what counts as recognised."""

import pytest
import torch

from splatdistill.evaluate.retrieval import COUNT, HARD, candidates, changes, is_true, recognised
from splatdistill.toybox import ACCEPTANCE, COLOURS, Caption, parse
from splatdistill.toybox.real import RealCaption, names_of
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import understood

CAPTIONS = [
    *map(parse, ACCEPTANCE),
    Caption("ball", "red"),
    Caption("cone", "red", "striped", "blue"),
    Caption("ball", "red", below="ball", below_colour="red"),
]


def attributes_changed(a: Caption, b: Caption) -> int:
    return sum(
        getattr(a, f) != getattr(b, f) for f in ("kind", "colour", "pattern", "colour2", "below", "below_colour")
    )


@pytest.mark.parametrize("caption", CAPTIONS, ids=str)
def test_fifty_captions_half_of_them_hard(caption):
    options = candidates(caption)
    assert len(set(options)) == len(set(map(str, options))) == COUNT
    assert options[0] == caption
    assert all(parse(str(c)) == c for c in options)
    changed = [attributes_changed(caption, c) for c in options]
    assert changed[1 : 1 + HARD] == [1] * HARD
    assert sum(n > 1 for n in changed) >= 20
    assert candidates(caption) == options
    assert candidates(caption, seed=1) != options


REAL = [*map(understood, SPLIT.truth), RealCaption("horse"), RealCaption("couch"), RealCaption("armchair")]


@pytest.mark.parametrize("caption", REAL, ids=str)
def test_fifty_captions_of_a_real_object_none_of_them_true_of_it(caption):
    options = candidates(caption)
    assert len(set(options)) == len(set(map(str, options))) == COUNT and options[0] == caption
    assert all(understood(str(c)) == c for c in options)
    assert not any(is_true(c, caption) for c in options[1:])
    hard, rest = options[1 : 1 + HARD], options[1 + HARD :]
    assert all(isinstance(c, RealCaption) and (c.kind != caption.kind) + (c.colour != caption.colour) == 1 for c in hard)
    assert {c.colour for c in hard if c.kind == caption.kind} == (set(COLOURS) - {caption.colour} if caption.colour else set())
    assert {isinstance(c, RealCaption) for c in rest} == {True, False}
    assert candidates(caption) == options and candidates(caption, seed=1) != options


def test_the_names_of_a_kind():
    assert names_of("dining chair") == {"dining chair", "chair"} and names_of("horse") == {"horse"}
    assert "sofa" in names_of("couch") and "couch" in names_of("corner couch") and "dining chair" not in names_of("chair")
    chair = RealCaption("dining chair", "blue")
    assert is_true(parse("a blue chair"), chair) and is_true(RealCaption("dining chair"), chair)
    assert not is_true(parse("a red chair"), chair) and not is_true(RealCaption("desk", "blue"), chair)
    assert is_true(parse("an orange cat"), RealCaption("cat")), "it may be orange"


def test_hard_negatives_share_out_the_attributes():
    hard = candidates(parse("a red mushroom"))[1 : 1 + HARD]
    assert {c.colour for c in hard if c.kind == "mushroom"} == set(COLOURS) - {"red"}
    assert sum(c.colour == "red" for c in hard) == HARD - 11
    stack = parse("a yellow ball on an orange cube")
    for field in ("kind", "colour", "below", "below_colour"):
        assert sum(getattr(c, field) != getattr(stack, field) for c in candidates(stack)[1 : 1 + HARD]) >= 4


def test_the_candidates_of_a_caption_are_fixed_for_good():
    """Figures of different versions compare only while this holds."""
    assert [str(c) for c in candidates(parse("a red mushroom"))[1:4]] == ["a red car", "a black mushroom", "a red duck"]


@pytest.mark.parametrize("caption", CAPTIONS, ids=str)
def test_changes_are_all_the_neighbours(caption):
    flat = [c for group in changes(caption) for c in group]
    assert len(set(flat)) == len(flat)
    assert all(attributes_changed(caption, c) == 1 and parse(str(c)) == c for c in flat)


class Known:
    """Scorer of known answers: image i is nearest to the caption `sees[i]`."""

    name = "known"

    def __init__(self, sees: list[Caption | None]):
        self.sees = [str(c) for c in sees]

    def similarities(self, rgb: torch.Tensor, texts: list[str]) -> torch.Tensor:
        # among the others the earlier is the nearer, so the true caption comes second
        return torch.tensor([[1.0 if t == seen else 0.1 / (1 + i) for i, t in enumerate(texts)] for seen in self.sees])


def test_object_and_colour_are_judged_separately():
    true = parse("a red mushroom")
    other_colour, other_kind = parse("an orange mushroom"), parse("a red duck")
    result = recognised(Known([true, other_colour, other_kind]), torch.zeros(3, 3, 8, 8), true)
    assert result.chosen == (true, other_colour, other_kind)
    assert result.scorer == "known"
    assert result.rank.tolist() == [0, 1, 1]
    assert result.right.tolist() == [True, False, False]
    assert result.object_right.tolist() == [True, True, False]
    assert result.colour_right.tolist() == [True, False, True]


def test_a_scorer_that_cannot_tell_recognises_nothing():
    caption = parse("a red duck")
    for constant in (0.3, float("nan")):
        blind = Known([])
        blind.similarities = lambda rgb, texts, c=constant: torch.full((len(rgb), len(texts)), c)
        result = recognised(blind, torch.zeros(2, 3, 8, 8), caption)
        assert not result.right.any()
        assert caption not in result.chosen
