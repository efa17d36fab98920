"""Both halves of the toybox under one roof: procedural objects and real ones, read from words and drawn."""

from collections.abc import Iterator
from functools import cache
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError
from splatdistill.toybox.captions import Caption, listed, named_colours, nearest, parse
from splatdistill.toybox.drawing import Truth
from splatdistill.toybox.meaning import nearest_things
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.primitives import PRIMITIVES
from splatdistill.toybox.real import RealCaption, parse_real, truth
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.tracer import render
from splatdistill.toybox.triangles import rasterise

Thing = Caption | RealCaption
ALIKE = 26.0
"""PSNR, dB, from which a real object's front and back count as the same: an umbrella has 30, a chair 15."""


def understood(text: str) -> Thing:
    """Return the object that a text names, real or procedural. Raises UserError where the toybox has no such object, with what
    is nearest to it among both.
    """
    if found := parse_real(text):
        return found
    try:
        return parse(text)
    except UserError as error:
        offer = list(dict.fromkeys([*nearest_real(text), *nearest(text)]))[:4]
        if not offer:
            raise
        raise UserError(f"the toybox has no {text!r}; the nearest it has: {listed(offer)}") from error


def nearest_real(text: str, count: int = 3) -> list[str]:
    """Return captions of real objects that a text nearly names: those whose last words it has, else those nearest in meaning where
    the word vectors are installed; in the colours that it names where they take them.
    """
    words = [w for w in text.lower().replace(",", " ").split() if w not in {"a", "an", "the"} | set(COLOURS)]
    kinds = [k for k in SPLIT.kinds if words and k.split()[-1] == words[-1]]
    kinds = kinds or nearest_things(" ".join(w for w in words if not named_colours(w)), list(SPLIT.kinds), count)
    colours = named_colours(text)
    captions = [RealCaption(k, colours[0]) if colours and SPLIT.kinds[k] else RealCaption(k) for k in kinds]
    return [str(c) for c in captions][:count]


def draw(
    thing: Thing,
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None = None,
    samples: int = 3,
    threads: int | None = None,
) -> Truth:
    """Draw an object from every camera, on white unless a background is given; samples: per pixel side.

    Raises UserError for a real object whose mesh the package does not bring, see `has_truth`.
    """
    if isinstance(thing, RealCaption):
        return rasterise([truth(thing)], cameras, background, samples, threads)
    return render([thing.parts()], cameras, background, samples, threads)


def has_truth(thing: Thing) -> bool:
    """Return True if the package can draw an object: all procedural ones, and those real ones whose mesh it brings."""
    if isinstance(thing, Caption):
        return True
    try:
        return truth(thing) is not None
    except UserError:
        return False


@cache
def symmetric(thing: Thing) -> bool:
    """Return True if an object's front and back look the same: a procedural one by its kind, a real one by its pictures."""
    if isinstance(thing, Caption):
        return thing.symmetric
    seen = draw(thing, orbit([0.0, 180.0], 15.0, 2.8, 42.0, 64), samples=2, threads=1).rgb
    return -10 * float(torch.log10((seen[0] - seen[1]).square().mean().clamp(min=1e-10))) >= ALIKE


def others(thing: RealCaption) -> Iterator[Thing]:
    """Yield what a real object could be taken for: the other real objects that the package can draw and the primitives, in its
    colour; itself in the other colours.
    """
    for prompt in SPLIT.truth:
        other = parse_real(prompt)
        if other is not None and other.kind != thing.kind:
            yield RealCaption(other.kind, thing.colour)
    if thing.colour is None:
        yield from (Caption(kind, colour) for kind, colour in product(PRIMITIVES, ("brown", "gray")))
        return
    yield from (Caption(kind, thing.colour) for kind in PRIMITIVES)
    yield from (RealCaption(thing.kind, c) for c in COLOURS if c != thing.colour)
