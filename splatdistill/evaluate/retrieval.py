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

COUNT = 50  # captions to choose among
HARD = 25  # of them, the wrong ones that differ in one attribute


def changes(caption: Caption) -> list[list[Caption]]:
    """Return all captions that differ from this one in one attribute, grouped by attribute; objects first."""
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


def candidates(caption: Caption, seed: int = 0) -> list[Caption]:
    """Return 50 different captions: the true one first, 25 hard negatives drawn from its attributes in turn (other
    objects of its own family, named things or primitives, before those of the other), 24 random ones. The
    same for the same caption and seed on every machine.
    """
    rng = np.random.default_rng([seed, crc32(str(caption).encode())])
    groups = [[g[i] for i in rng.permutation(len(g))] for g in changes(caption)]
    groups[0].sort(key=lambda c: (c.kind in NAMED) != (caption.kind in NAMED))  # stable: within a family still shuffled
    in_turn = [c for row in zip_longest(*groups) for c in row if c is not None]
    chosen = dict.fromkeys([caption, *in_turn[:HARD]])
    while len(chosen) < COUNT:
        chosen[sample_caption(rng)] = None
    return list(chosen)


@dataclass(frozen=True)
class Recognition:
    """Captions that a CLIP takes a batch of pictures for."""

    caption: Caption  # what they should show
    scorer: str  # name of the CLIP
    chosen: tuple[Caption, ...]  # the nearest of the candidates, per picture
    rank: Int[Tensor, " b"]  # how many wrong candidates are at least as near as the true one

    @property
    def right(self) -> Bool[Tensor, " b"]:
        """Return True where the true caption is nearer than every other."""
        return self.rank == 0

    @property
    def object_right(self) -> Bool[Tensor, " b"]:
        """Return True where the chosen caption names the right object, or both objects of a stack."""
        true = (self.caption.kind, self.caption.below)
        return torch.tensor([(c.kind, c.below) == true for c in self.chosen])

    @property
    def colour_right(self) -> Bool[Tensor, " b"]:
        """Return True where the chosen caption names the right colour, or all of several."""
        true = (self.caption.colour, self.caption.colour2, self.caption.below_colour)
        return torch.tensor([(c.colour, c.colour2, c.below_colour) == true for c in self.chosen])


def recognised(
    scorer: ImageTextScorer, images: Float[Tensor, "b 3 h w"], caption: Caption, seed: int = 0
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
