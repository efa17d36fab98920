"""The held-out split: colour-object pairs that no training picture shows."""

from collections import Counter

from splatdistill.toybox import ACCEPTANCE, COLOURS, HELD_OUT, NAMED, PRIMITIVES, Caption, is_held_out, parse
from splatdistill.toybox.world import pictures


def test_every_kind_keeps_most_colours_and_every_colour_most_kinds():
    kinds, colours = Counter(k for _, k in HELD_OUT), Counter(c for c, _ in HELD_OUT)
    assert set(kinds) == {*NAMED, *PRIMITIVES}
    assert all(2 <= n <= 3 for n in kinds.values())  # so at least 9 of 12 are trained
    assert set(colours) <= set(COLOURS)
    assert all(24 - n >= 18 for n in colours.values())


def test_acceptance_prompts_are_made_of_held_out_pairs_alone():
    captions = [parse(p) for p in ACCEPTANCE]
    assert len(set(captions)) == 12
    assert [str(c) for c in captions] == list(ACCEPTANCE)
    assert all(pair in HELD_OUT for c in captions for pair in c.pairs)
    assert sum(not c.symmetric for c in captions) >= 10  # a second front can only be seen where there is one


def test_a_pair_is_held_out_in_stacks_and_patterns_too():
    assert is_held_out(Caption("cone", "red", below="cube", below_colour="orange"))
    assert is_held_out(Caption("ball", "yellow", "striped", "red"))
    assert not is_held_out(Caption("ball", "red", "striped", "yellow"))
    assert not is_held_out(parse("a red ball on a blue cube"))


def test_training_pictures_show_no_held_out_pair():
    trained, other = pictures(300, 5), pictures(60, 5, held_out=True)
    assert not any(is_held_out(c) for c in trained.captions)
    assert all(is_held_out(c) for c in other.captions)
