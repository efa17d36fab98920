"""The grammar: one caption, one object, and back."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from splatdistill.cameras import DIRECTIONS, VIEW_WORDS, orbit, with_view
from splatdistill.errors import UserError
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, parse, render, sample_caption
from splatdistill.toybox.captions import examples, nearest, plain_captions, unknown_words
from splatdistill.toybox.parts import PATTERNS, table


def grammar() -> list[Caption]:
    """Return every caption of the toybox."""
    patterned = [Caption(k, a, p, b) for k, p, a, b in product(PRIMITIVES, PATTERNS[1:], COLOURS, COLOURS) if a != b]
    stacks = [
        Caption(k, a, below=m, below_colour=b) for k, a, m, b in product(PRIMITIVES, COLOURS, PRIMITIVES, COLOURS)
    ]
    return plain_captions() + patterned + stacks


def test_every_caption_survives_its_own_words():
    captions = grammar()
    texts = [str(c) for c in captions]
    assert len(captions) == 24 * 12 + 6 * 3 * 12 * 11 + 36 * 144
    assert len(set(texts)) == len(texts)
    assert [parse(t) for t in texts] == captions
    assert all(t.startswith("an " if t.split(" ", 1)[1][0] in "aeiou" else "a ") for t in texts)


def test_every_caption_is_another_object():
    tables = {table(c.parts()).tobytes() for c in grammar()}
    assert len(tables) == len(grammar())


def test_plain_objects_look_different():
    captions = plain_captions()
    pictures = render([c.parts() for c in captions], orbit([30.0] * len(captions), 20.0, 3.0, 43.0, 32), samples=1)
    x = pictures.rgb.flatten(1)
    apart = torch.cdist(x, x) / x.shape[1] ** 0.5 + 9 * torch.eye(len(x))  # root mean square per pair
    assert apart.min() > 0.02  # 40 dB PSNR would be 0.01


def test_every_pattern_shows():
    views = orbit([30.0], 20.0, 3.0, 43.0, 48)
    for kind in PRIMITIVES:
        looks = [Caption(kind, "red", p, "white") for p in PATTERNS[1:]] + [
            Caption(kind, "red"),
            Caption(kind, "white"),
        ]
        pictures = [render([c.parts()], views, samples=2).rgb for c in looks]
        assert all((a - b).square().mean() > 1e-3 for a, b in combinations(pictures, 2)), kind


def test_words_are_read_leniently():
    mushroom = Caption("mushroom", "red")
    for text in (
        "RED MUSHROOM",
        "the red  mushroom",
        " A Red Mushroom. ",
        *(with_view("a red mushroom", w) for w in VIEW_WORDS),
        *(with_view("a red mushroom", d) for d in DIRECTIONS),
        with_view("a red mushroom", "overhead back left"),
    ):
        assert parse(text) == mushroom
    assert parse("orange cube on a Red ball") == Caption("cube", "orange", below="ball", below_colour="red")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a red mushrom", "a red mushroom"),
        ("a gren snowmen", "a green snowman"),
        ("a purple wooden chair", "a purple chair"),
    ],
)
def test_an_unknown_prompt_gets_the_nearest_captions(text, first):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert text in str(caught.value)
    assert first in str(caught.value)
    assert nearest(text)[0] == first


@pytest.mark.parametrize(
    "text", ["a knight in armour", "", "red", "a mug", "a red and white striped ball", "a striped red and red ball"]
)
def test_what_is_refused_comes_with_captions_that_are_not(text):
    with pytest.raises(UserError, match="nearest|for example"):
        parse(text)
    suggested = nearest(text) or examples(text)
    assert len(set(suggested)) == 3
    assert all(str(parse(s)) == s for s in suggested)


def test_what_is_offered_keeps_the_colour_and_the_object_that_were_named():
    assert all(parse(s).colour == "red" for s in examples("a red dog"))
    assert all(parse(s).kind == "mug" for s in nearest("a mug"))
    assert nearest("a gren hous")[0] == "a green house"


@pytest.mark.parametrize("text", ["an astronaut riding a horse", "a corgi", "a knight in armour", "red", "a DSLR photo of an icecream"])
def test_what_resembles_nothing_is_not_said_to_resemble_something(text):
    assert nearest(text) == []
    with pytest.raises(UserError, match="nothing like it, but for example"):
        parse(text)


def test_words_that_no_caption_has_are_told():
    assert unknown_words("a red and blue striped ball on a chair, overhead left side view.") == []
    assert unknown_words("blurry, low quality red ball, blurry") == ["blurry", "low", "quality"]


def test_sampling_repeats_and_covers():
    drawn = [sample_caption(np.random.default_rng(7)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    rng = np.random.default_rng(0)
    many = [sample_caption(rng) for _ in range(4000)]
    assert {c.kind for c in many} == {*NAMED, *PRIMITIVES}
    assert {c.colour for c in many} == set(COLOURS)
    assert {c.pattern for c in many} == set(PATTERNS)
    assert abs(np.mean([c.kind in NAMED for c in many]) - 0.65) < 0.03
    assert abs(np.mean([c.below is not None for c in many]) - 0.15) < 0.03
    assert all(parse(str(c)) == c for c in many)
