"""Captions of the real objects: "a red armchair", and "a horse" in its own colours."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from splatdistill.errors import UserError
from splatdistill.toybox.captions import Pair
from splatdistill.toybox.pack import PackedWorld, RealObject
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.triangles import CornerMesh

PLURAL = frozenset(
    ["french fries", "headphones", "sneakers", "high heels", "boots", "slippers", "sunglasses", "glasses", "scissors", "tulips"]
)

ALSO = {  # by eye: what else a kind may be called, besides the names that it ends with (a dining chair is a chair)
    "bookcase": ("wardrobe",),
    "bowl of apples": ("bowl", "bowl of fruit"),
    "bowl of fruit": ("bowl", "bowl of apples"),
    "bowl of salad": ("bowl",),
    "coffee cup": ("mug", "coffee mug", "teacup"),
    "coffee mug": ("coffee cup",),
    "coffee pot": ("teapot",),
    "corner couch": ("sofa",),
    "couch": ("sofa",),
    "crate": ("box",),
    "dresser": ("wardrobe",),
    "flat tv": ("television",),
    "gift": ("box",),
    "kettle": ("teapot",),
    "kick scooter": ("scooter",),
    "mug": ("coffee mug", "coffee cup"),
    "paper cup": ("plastic cup",),
    "recycling bin": ("trash can",),
    "sedan": ("car",),
    "sofa": ("couch",),
    "teacup": ("coffee cup",),
    "trash can": ("recycling bin",),
}


@cache
def names_of(kind: str) -> frozenset[str]:
    """Return all names that are true of a kind of object: its own, those that it ends with, and those of ALSO."""
    words = kind.split()
    return frozenset((*(" ".join(words[i:]) for i in range(len(words))), *ALSO.get(kind, ())))


@dataclass(frozen=True)
class RealCaption:
    """Real object as words; `colour` None keeps its own colours."""

    kind: str
    colour: str | None = None

    def __str__(self) -> str:
        words = self.kind if self.colour is None else f"{self.colour} {self.kind}"
        if self.kind in PLURAL:
            return words
        return f"an {words}" if words[0] in "aeiou" else f"a {words}"

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return the colour-object pair of the caption, if it names a colour."""
        return () if self.colour is None else ((self.colour, self.kind),)

    @property
    def held_out(self) -> bool:
        """Return whether the caption is held out from all training pictures."""
        return self.colour in SPLIT.colours_not_seen.get(self.kind, ())


def real_captions() -> list[RealCaption]:
    """Return every kind of real object in its own colours, and in all twelve where it takes them."""
    return [RealCaption(kind, colour) for kind, tinted in SPLIT.kinds.items() for colour in (None, *(COLOURS if tinted else ()))]


def shown(world: PackedWorld) -> list[RealObject]:
    """Return the objects that training may show."""
    return [o for o in world.objects if o.name not in SPLIT.instances_not_seen]


def shown_kinds(world: PackedWorld) -> tuple[dict[str, list[RealObject]], dict[str, list[RealObject]]]:
    """Return the objects that training may show, by kind; and of the acceptance prompts' kinds the one that each is compared with."""
    kinds: dict[str, list[RealObject]] = {}
    for thing in shown(world):
        kinds.setdefault(thing.kind, []).append(thing)
    return kinds, {o.kind: [o] for things in kinds.values() for o in things if o.name in SPLIT.truth.values()}


def sample_words(rng: np.random.Generator, natural: float = 0.3) -> RealCaption:
    """Return a random caption of a real object; `natural`: share of those that take colours that name none."""
    kind = list(SPLIT.kinds)[rng.integers(len(SPLIT.kinds))]
    bare = not SPLIT.kinds[kind] or rng.random() < natural
    return RealCaption(kind, None if bare else list(COLOURS)[rng.integers(len(COLOURS))])


def sample_object(
    kinds: dict[str, list[RealObject]], rng: np.random.Generator, natural: float = 0.3
) -> tuple[RealCaption, CornerMesh]:
    """Return a random kind, one of its objects, and a colour that training may show; `natural`: share that keep their own."""
    kind = list(kinds)[rng.integers(len(kinds))]
    thing = kinds[kind][rng.integers(len(kinds[kind]))]
    if not thing.tinted or rng.random() < natural:
        return RealCaption(kind), thing.mesh()
    allowed = [c for c in COLOURS if c not in SPLIT.colours_not_seen.get(kind, ())]
    caption = RealCaption(kind, allowed[rng.integers(len(allowed))])
    return caption, thing.mesh(caption.colour)


@cache
def truth_pack() -> PackedWorld:
    """Return the CC0 objects that the acceptance prompts name, which the package contains."""
    return PackedWorld.load(Path(__file__).with_name("real_truth.npz"))


def parse_real(text: str) -> RealCaption | None:
    """Return the real object that a text names; None where it names none, or asks for a colour of one that takes none."""
    words = re.sub(r",\s*[a-z ]+ view$", "", " ".join(text.lower().split())).rstrip(". ")
    words = re.sub(r"^(an?|the) ", "", words)
    colour, _, kind = words.partition(" ")
    if words in SPLIT.kinds:
        return RealCaption(words)
    return RealCaption(kind, colour) if colour in COLOURS and SPLIT.kinds.get(kind) else None


def truth(caption: RealCaption, world: PackedWorld | None = None) -> CornerMesh:
    """Return the mesh that stands for a caption: of an acceptance prompt's kind the object named in the split, else the first that is
    shown. Raises UserError where the world, by default the package's, has none.
    """
    named = next((thing for prompt, thing in SPLIT.truth.items() if prompt.endswith(f" {caption.kind}")), None)
    things = (truth_pack() if world is None else world).kinds.get(caption.kind, [])
    things = [o for o in things if o.name not in SPLIT.instances_not_seen and (o.tinted or caption.colour is None)]
    if not things:
        raise UserError(f"the package has no mesh of {str(caption)!r}; it has those of the acceptance prompts: {', '.join(SPLIT.truth)}")
    return next((o for o in things if o.name == named), things[0]).mesh(caption.colour)
