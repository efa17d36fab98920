"""The grammar of captions: every caption names one object, and every object has one caption.

    a red mushroom | a striped red and white ball | a red ball on a blue cube        [, front view]
"""

import difflib
import re
from dataclasses import dataclass
from itertools import product

import numpy as np

from splatdistill.cameras import DIRECTIONS
from splatdistill.errors import UserError
from splatdistill.toybox.catalogue import NAMED, SYMMETRIC, build
from splatdistill.toybox.meaning import HUES, nearest_things
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.parts import PATTERNS, Part
from splatdistill.toybox.primitives import PRIMITIVES, single, stack
from splatdistill.toybox.real_split import SPLIT

Pair = tuple[str, str]  # (colour, object): the unit of the held-out split


@dataclass(frozen=True)
class Caption:
    """Object of the toybox as words: `kind` is a named object or a primitive."""

    kind: str
    colour: str
    pattern: str = "plain"
    colour2: str | None = None  # of the pattern
    below: str | None = None  # the primitive it stands on
    below_colour: str | None = None

    def __str__(self) -> str:
        if self.below is not None:
            return f"{_an(f'{self.colour} {self.kind}')} on {_an(f'{self.below_colour} {self.below}')}"
        if self.pattern != "plain":
            return _an(f"{self.pattern} {self.colour} and {self.colour2} {self.kind}")
        return _an(f"{self.colour} {self.kind}")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return the colour-object pairs of the caption."""
        own = (self.colour, self.kind)
        return (own,) if self.below is None else (own, (str(self.below_colour), self.below))

    @property
    def symmetric(self) -> bool:
        """Return whether front and back look the same."""
        return self.kind in SYMMETRIC

    def parts(self) -> list[Part]:
        """Return the parts of the object."""
        if self.below is not None:
            return stack(self.kind, self.colour, self.below, str(self.below_colour))
        if self.kind in NAMED:
            return build(self.kind, self.colour)
        return single(self.kind, self.colour, self.pattern, self.colour2 or "white")  # type: ignore[arg-type]


def _an(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


_COLOUR, _PRIMITIVE = "|".join(COLOURS), "|".join(PRIMITIVES)
_VIEW = "|".join(("side", "overhead", *DIRECTIONS, *(f"overhead {d}" for d in DIRECTIONS)))
_PLAIN = re.compile(rf"(?:an? |the )?({_COLOUR}) ({'|'.join((*NAMED, *PRIMITIVES))})")
_PATTERN = re.compile(rf"(?:an? )?({'|'.join(PATTERNS[1:])}) ({_COLOUR}) and ({_COLOUR}) ({_PRIMITIVE})")
_STACK = re.compile(rf"(?:an? )?({_COLOUR}) ({_PRIMITIVE}) on (?:an? )?({_COLOUR}) ({_PRIMITIVE})")


def parse(text: str) -> Caption:
    """Return the object that a caption names; a trailing ", front view" is ignored.

    Raises UserError when the toybox has no such object: with the captions that resemble it, or with others, and says which.
    """
    words = re.sub(rf",\s*({_VIEW}) view$", "", " ".join(text.lower().split())).rstrip(". ")
    if m := _PLAIN.fullmatch(words):
        return Caption(m[2], m[1])
    if (m := _PATTERN.fullmatch(words)) and m[2] != m[3]:
        return Caption(m[4], m[2], m[1], m[3])
    if m := _STACK.fullmatch(words):
        return Caption(m[2], m[1], below=m[4], below_colour=m[3])
    near = nearest(text)
    offer = f"the nearest it has: {listed(near)}" if near else f"it has nothing like it, but for example {listed(examples(text))}"
    raise UserError(f"the toybox has no {text!r}; {offer}")


def nearest(text: str, count: int = 3) -> list[str]:
    """Return captions of the toybox with an object that a prompt names, correctly or almost correctly spelt, or else one that means
    nearly the same (where the word vectors are installed, see meaning.py); [] where it names none.
    """
    words, colours = re.findall(r"[a-z]+", text.lower()), named_colours(text)
    known = [*NAMED, *PRIMITIVES]
    # a horse is no misspelt house (0.8), a mushrom is a mushroom (0.93)
    kinds = [m[0] for w in words if (m := difflib.get_close_matches(w, known, 1, 0.81))]
    if not kinds:
        nouns = [w for w in words if len(w) > 2 and not colour_of(w)]
        kinds = [k for noun in reversed(nouns) for k in nearest_things(noun, known, 1)]  # an English noun comes last
    captions = [str(Caption(k, c)) for k, c in product(kinds, [*colours, "red", "blue", "yellow"])]
    return list(dict.fromkeys(captions))[:count]


def examples(text: str, count: int = 3) -> list[str]:
    """Return captions of the toybox, in the colours that a prompt names where it names some."""
    colours = (named_colours(text) * count or ["red", "blue", "purple"])[:count]
    return [str(Caption(k, c)) for k, c in zip(("mushroom", "snowman", "teapot"), colours)]


def named_colours(text: str) -> list[str]:
    """Return the colours of the toybox that a prompt names, correctly or almost correctly spelt, or by a synonym."""
    return [colour for w in re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower()) if (colour := colour_of(w))]


def colour_of(word: str) -> str | None:
    """Return the colour of the toybox that a word names; None where it names none."""
    if word in HUES:
        return HUES[word]
    return next(iter(difflib.get_close_matches(word, COLOURS, 1, 0.75)), None)


def listed(captions: list[str]) -> str:
    """Return captions in quotation marks, as a list in one line."""
    return ", ".join(map(repr, captions))


def unknown_words(text: str, real: bool = False) -> list[str]:
    """Return the words that no caption has, of any object, colour, pattern or view; real: of any real object too."""
    known = {*NAMED, *PRIMITIVES, *COLOURS, *PATTERNS[1:], "a", "an", "the", "and", "on", "view"}
    known |= {w for words in (*DIRECTIONS, "side", "overhead", *(SPLIT.kinds if real else ())) for w in words.split()}
    return [w for w in dict.fromkeys(re.findall(r"[^\s,.]+", text.lower())) if w not in known]


def plain_captions() -> list[Caption]:
    """Return every unpatterned single object: (18 named + 6 primitives) x 12 colours."""
    return [Caption(kind, colour) for kind, colour in product((*NAMED, *PRIMITIVES), COLOURS)]


def sample_caption(rng: np.random.Generator) -> Caption:
    """Return a random caption: 65 % named objects, 20 % single primitives (half of them patterned), 15 % stacks."""
    colours = list(COLOURS)
    c1, c2 = colours[rng.integers(12)], colours[rng.integers(12)]
    u = rng.random()
    if u < 0.65:
        return Caption(list(NAMED)[rng.integers(len(NAMED))], c1)
    p1, p2 = PRIMITIVES[rng.integers(6)], PRIMITIVES[rng.integers(6)]
    if u < 0.75 or (u < 0.85 and c1 == c2):
        return Caption(p1, c1)
    if u < 0.85:
        return Caption(p1, c1, PATTERNS[rng.integers(1, 4)], c2)
    return Caption(p1, c1, below=p2, below_colour=c2)
