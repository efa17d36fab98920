"""Prompts that the toybox does not know, and the nearest that it does."""

import pytest

from splatdistill.errors import UserError
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, meaning, parse
from splatdistill.toybox.captions import named_colours, nearest

needs_vectors = pytest.mark.skipif(not meaning.there(), reason='no word vectors here: pip install "wordllama>=0.3,<0.5"')
ODD = {
    "a crimson couch": "a red sofa",
    "a navy automobile": "a blue car",
    "a turquoise kitten": "a cyan cat",
    "two lavender teacups": "a purple teapot",
    "an amber goldfish": "an orange fish",
}


@needs_vectors
@pytest.mark.parametrize("prompt, wanted", ODD.items())
def test_odd_prompts_are_answered_by_meaning_and_not_by_spelling(prompt: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearest(prompt)[0] == wanted
    with pytest.raises(UserError, match=f"the nearest it has: '{wanted}'"):
        parse(prompt)
    monkeypatch.setattr(meaning, "_folder", lambda: None)
    assert nearest(prompt) == [], "spelling alone finds nothing"
    with pytest.raises(UserError, match="it has nothing like it, but for example"):
        parse(prompt)


@needs_vectors
@pytest.mark.parametrize("prompt", ["a dragon", "an astronaut", "a", "", "zzzz qqqq", "\U0001f600"])
def test_nothing_is_called_near_that_is_not(prompt: str) -> None:
    assert nearest(prompt) == []


@needs_vectors
def test_known_words_are_nearest_to_themselves() -> None:
    known = [*NAMED, *PRIMITIVES]
    assert [meaning.nearest_things(k, known, 1) for k in known] == [[k] for k in known]
    assert meaning.nearest_things("couch", known, 5, least=-1)[0] == "sofa" and len(meaning.nearest_things("couch", known, 5, least=-1)) == 5


def test_spelling_comes_first() -> None:
    assert nearest("a red mushrom")[0] == "a red mushroom"
    assert nearest("a maroon mushroom")[0] == "a red mushroom"


def test_every_hue_is_a_colour_and_no_object() -> None:
    assert set(meaning.HUES.values()) == set(COLOURS)
    assert not set(meaning.HUES) & {*COLOURS, *NAMED, *PRIMITIVES}
    assert named_colours("a snow-white cat in charcoal grey") == ["white", "black", "gray"]
