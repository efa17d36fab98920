"""Texts that a prior keeps: each read once while there is room, the longest unused forgotten, and never more than the room."""

import torch

from splatdistill.priors import Condition
from splatdistill.priors.kept_texts import KeptTexts


class Reader:
    """Text encoder that counts the prompts it reads."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: list[str]) -> Condition:
        self.asked.append(prompts)
        return Condition(tokens=torch.tensor([[[float(len(p))]] for p in prompts]), pooled=torch.tensor([[float(ord(p[0]))] for p in prompts]))


ONE = 8  # bytes of a text of that reader


def test_each_text_is_read_once_and_answered_in_the_order_asked():
    kept = KeptTexts(reader := Reader())
    first = kept(["b", "ccc", "b"])
    assert first.tokens.flatten().tolist() == [1, 3, 1] and first.pooled.flatten().tolist() == [98, 99, 98]
    again = kept(["ccc", "a"])
    assert again.pooled.flatten().tolist() == [99, 97]
    assert reader.asked == [["b", "ccc"], ["a"]], "the new ones together, and once"


def test_the_longest_unused_is_forgotten():
    kept = KeptTexts(reader := Reader(), room=3 * ONE)
    for prompts in (["a"], ["b"], ["c"], ["a"], ["d"]):
        kept(prompts)
    assert len(kept) == 3
    kept(["a"])
    assert reader.asked == [["a"], ["b"], ["c"], ["d"]], "a was asked for again and kept"
    kept(["b"])
    assert reader.asked[-1] == ["b"], "b was the longest unused"


def test_what_is_asked_for_at_once_is_answered_even_without_room():
    kept = KeptTexts(Reader(), room=ONE)
    assert kept(["a", "bb", "ccc"]).tokens.flatten().tolist() == [1, 2, 3]
    kept(["d"])
    assert len(kept) == 1


def test_what_is_forgotten_is_free():
    """Texts read together are copies of their own: none keeps the memory of the others."""
    kept = KeptTexts(Reader(), room=2 * ONE)
    kept(["a", "bb", "ccc"])
    kept(["ccc"])
    assert all(c.tokens.untyped_storage().nbytes() == c.tokens.nbytes for c in kept._kept.values())
