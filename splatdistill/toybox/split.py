"""Split that keeps some objects from the embedded models: colour-object pairs, not seeds.

Every kind of object lacks two or three of the twelve colours in all training data, in stacks and patterns
too. The twelve acceptance prompts are made of those pairs alone (a stack's both halves). Both were fixed
before the first training run.
"""

from itertools import product

from splatdistill.toybox.captions import Caption, Pair, plain_captions
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.primitives import PRIMITIVES

_COLOURS_NOT_SEEN: dict[str, tuple[str, ...]] = {
    "snowman": ("blue", "brown"),
    "mug": ("green", "pink"),
    "chair": ("purple", "cyan"),
    "house": ("yellow", "black"),
    "duck": ("red", "gray"),
    "car": ("orange", "white"),
    "rocket": ("green", "brown"),
    "robot": ("blue", "pink"),
    "teapot": ("purple", "gray"),
    "fish": ("red", "cyan"),
    "cat": ("orange", "green"),
    "television": ("yellow", "brown"),
    "sofa": ("red", "black"),
    "airplane": ("blue", "white"),
    "owl": ("purple", "gray"),
    "train": ("green", "pink"),
    "mushroom": ("red", "cyan"),
    "tree": ("orange", "white"),
    "ball": ("yellow", "black"),
    "cube": ("orange", "white"),
    "cylinder": ("red", "cyan"),
    "cone": ("purple", "gray"),
    "donut": ("pink", "brown"),
    "capsule": ("blue", "green"),
}
HELD_OUT: frozenset[Pair] = frozenset((c, kind) for kind, colours in _COLOURS_NOT_SEEN.items() for c in colours)
"""(colour, object) pairs that no training image shows."""

ACCEPTANCE: tuple[str, ...] = (
    "a red mushroom",
    "a blue snowman",
    "a green mug",
    "a purple chair",
    "a yellow house",
    "a red duck",
    "an orange car",
    "a blue robot",
    "a purple teapot",
    "a red sofa",
    "an orange cat",
    "a yellow ball on an orange cube",
)
"""The prompts that a method must turn into recognisable objects."""


def _new() -> frozenset[Pair]:
    """Return two more colours of every kind, the fourth and the ninth of those that the prior was shown, counted from the kind's index."""
    pairs = set()
    for place, (kind, not_seen) in enumerate(_COLOURS_NOT_SEEN.items()):
        shown = [c for c in COLOURS if c not in not_seen]
        pairs |= {(shown[(place + step) % len(shown)], kind) for step in (3, 8)}
    return frozenset(pairs)


NEW: frozenset[Pair] = _new()
"""(colour, object) pairs that the embedded prior knows and that generators are not trained on: what they make of them is new."""


def corpus() -> list[Caption]:
    """Return the 192 plain captions that generators are trained on, eight colours of each kind: neither held out nor new."""
    return [c for c in plain_captions() if not {*c.pairs} & (HELD_OUT | NEW)]


def long_corpus() -> list[Caption]:
    """Return the 192 plain captions, then those of patterns, then those of stacks, less all with a pair that is held out or new: 4,080."""
    colours, kinds = COLOURS, PRIMITIVES
    patterned = [Caption(k, a, p, b) for k, a, p, b in product(kinds, colours, PATTERNS[1:], colours) if a != b]
    stacks = [Caption(k, a, below=under, below_colour=b) for k, under, a, b in product(kinds, kinds, colours, colours)]
    return corpus() + [c for c in (*patterned, *stacks) if not {*c.pairs} & (HELD_OUT | NEW)]


def is_held_out(caption: Caption) -> bool:
    """Return True if any colour-object pair of the caption is held out."""
    return any(pair in HELD_OUT for pair in caption.pairs)
