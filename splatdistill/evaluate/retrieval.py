"""Recognition of pictures: retrieval of its caption among 50, half of them hard negatives.

A hard negative is the caption with one attribute changed (its object, its colour, ...). Retrieval as in
CLIP R-precision (Park et al., "Benchmark for compositional text-to-image synthesis", 2021), with the
candidates fixed per caption, so that measurements of different runs compare.
"""

from dataclasses import dataclass, replace
from itertools import zip_longest
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splatdistill.estimators import ImageTextScorer
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, sample_caption
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.real import RealCaption, names_of, sample_words
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import Thing

COUNT = 50  # captions to choose among
HARD = 25  # of them, the wrong ones that differ in one attribute


def real_changes(caption: RealCaption) -> list[list[RealCaption]]:
    """Return all captions of real objects that differ from this one in one attribute: other objects, which take the same colour if it
    has one, and other colours; none that is true of it.
    """
    kinds = [k for k, tinted in SPLIT.kinds.items() if (tinted or caption.colour is None) and k not in names_of(caption.kind)]
    colours = [] if caption.colour is None else [c for c in COLOURS if c != caption.colour]
    return [[replace(caption, kind=k) for k in kinds], [replace(caption, colour=c) for c in colours]]


def changes(caption: Caption) -> list[list[Caption]]:
    """Return all captions of toys that differ from this one in one attribute, grouped by attribute; objects first."""
    plain = caption.below is None and caption.pattern == "plain"
    groups = [
        [replace(caption, kind=k) for k in (*(NAMED if plain else ()), *PRIMITIVES) if k != caption.kind],
        [replace(caption, colour=c) for c in COLOURS if c not in (caption.colour, caption.colour2)],
    ]
    if caption.below is not None:
        groups.append([replace(caption, below=k) for k in PRIMITIVES if k != caption.below])
        groups.append([replace(caption, below_colour=c) for c in COLOURS if c != caption.below_colour])
    if caption.pattern != "plain":
        groups.append([replace(caption, colour2=c) for c in COLOURS if c not in (caption.colour, caption.colour2)])
        groups.append([replace(caption, pattern=p) for p in PATTERNS[1:] if p != caption.pattern])
    return groups


def candidates(caption: Thing, seed: int = 0) -> list[Thing]:
    """Return 50 different captions: the true one first, 25 hard negatives drawn from its attributes in turn (other
    objects of its own family, named things or primitives, before those of the other), 24 random ones: of toys for a toy, of toys and
    real objects for a real one. The same for the same caption and seed on every machine.
    """
    rng = np.random.default_rng([seed, crc32(str(caption).encode())])
    real = isinstance(caption, RealCaption)
    groups: list[list[Thing]] = [[g[i] for i in rng.permutation(len(g))] for g in (real_changes(caption) if real else changes(caption))]
    groups[0].sort(key=lambda c: (c.kind in NAMED) != (caption.kind in NAMED))  # stable: within a family still shuffled
    in_turn = [c for row in zip_longest(*groups) for c in row if c is not None]
    chosen = dict.fromkeys([caption, *in_turn[:HARD]])
    while len(chosen) < COUNT:
        other: Thing = sample_words(rng) if real and rng.random() < 0.5 else sample_caption(rng)
        if not (real and is_true(other, caption)):
            chosen[other] = None
    return list(chosen)


def is_true(told: Thing, thing: RealCaption) -> bool:
    """Return whether a caption may be true of a real object: a name of it, in its colour, or where one of both has none."""
    return told.kind in names_of(thing.kind) and (None in (told.colour, thing.colour) or told.colour == thing.colour)


@dataclass(frozen=True)
class Recognition:
    """Captions that a CLIP takes a batch of pictures for."""

    caption: Thing  # what they should show
    scorer: str  # name of the CLIP
    chosen: tuple[Thing, ...]  # the nearest of the candidates, per picture
    rank: Int[Tensor, " b"]  # how many wrong candidates are at least as near as the true one

    @property
    def right(self) -> Bool[Tensor, " b"]:
        """Return True where the true caption is nearer than every other."""
        return self.rank == 0

    @property
    def object_right(self) -> Bool[Tensor, " b"]:
        """Return True where the chosen caption names the right object, or both objects of a stack."""
        return torch.tensor([objects(c) == objects(self.caption) for c in self.chosen])

    @property
    def colour_right(self) -> Bool[Tensor, " b"]:
        """Return True where the chosen caption names the right colour, or all of several."""
        return torch.tensor([colours(c) == colours(self.caption) for c in self.chosen])


def objects(thing: Thing) -> tuple[str | None, ...]:
    """Return the objects that a caption names: one, or both of a stack."""
    return (thing.kind, None) if isinstance(thing, RealCaption) else (thing.kind, thing.below)


def colours(thing: Thing) -> tuple[str | None, ...]:
    """Return the colours that a caption names: of the object, of its pattern, of what it stands on."""
    return (thing.colour, None, None) if isinstance(thing, RealCaption) else (thing.colour, thing.colour2, thing.below_colour)


def recognised(
    scorer: ImageTextScorer, images: Float[Tensor, "b 3 h w"], caption: Thing, seed: int = 0
) -> Recognition:
    """Retrieve the captions of pictures (in [0,1]) among `candidates`. Ties count against the true caption."""
    options = candidates(caption, seed)
    with torch.no_grad():
        near = scorer.similarities(images, [str(c) for c in options]).cpu()
    wrong = near[:, 1:]
    rank = (~(wrong < near[:, :1])).sum(1)  # so that a NaN is never a success
    first = torch.where(rank == 0, torch.zeros_like(rank), 1 + wrong.argmax(1))
    return Recognition(caption, scorer.name, tuple(options[i] for i in first.tolist()), rank)


def recall_at_one(images: Float[Tensor, "p v d"], texts: Float[Tensor, "p d"]) -> Float[Tensor, " p"]:
    """Return for each prompt of a corpus the share of its views whose nearest text is its own: CLIP's Recall@1 over the corpus, per view
    and then the mean over views, as ScaleDreamer measures it (arXiv:2407.02040). Ties count against the prompt.

    images, texts: unit features of every prompt's views, and of every prompt.
    """
    near = torch.einsum("pvd,qd->pvq", images, texts)
    own = near.diagonal(dim1=0, dim2=2).T
    others = near.masked_fill(torch.eye(len(near), dtype=torch.bool)[:, None], -torch.inf).amax(2)
    return (others < own).float().mean(1)
