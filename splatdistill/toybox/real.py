"""Captions of the real objects: "a red armchair", and "a horse" in its own colours."""

from dataclasses import dataclass

import numpy as np

from splatdistill.toybox.captions import Pair
from splatdistill.toybox.pack import PackedWorld, RealObject
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.triangles import Mesh

PLURAL = frozenset(
    ["french fries", "headphones", "sneakers", "high heels", "boots", "slippers", "sunglasses", "glasses", "scissors", "tulips"]
)


@dataclass(frozen=True)
class RealCaption:
    """One real object as words; `colour` None leaves it as its maker painted it."""

    kind: str
    colour: str | None = None

    def __str__(self) -> str:
        words = self.kind if self.colour is None else f"{self.colour} {self.kind}"
        if self.kind in PLURAL:
            return words
        return f"an {words}" if words[0] in "aeiou" else f"a {words}"

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The colour-object pair in it, if it names a colour."""
        return () if self.colour is None else ((self.colour, self.kind),)

    @property
    def held_out(self) -> bool:
        """Whether no training picture shows it."""
        return self.colour in SPLIT.colours_not_seen.get(self.kind, ())


def shown(world: PackedWorld) -> list[RealObject]:
    """The objects that training may show."""
    return [o for o in world.objects if o.name not in SPLIT.instances_not_seen]


def sample_object(
    kinds: dict[str, list[RealObject]], rng: np.random.Generator, natural: float = 0.3
) -> tuple[RealCaption, Mesh]:
    """A random kind, one of its objects, and a colour that training may show; `natural`: share that keep their own."""
    kind = list(kinds)[rng.integers(len(kinds))]
    thing = kinds[kind][rng.integers(len(kinds[kind]))]
    if not thing.tinted or rng.random() < natural:
        return RealCaption(kind), thing.mesh()
    allowed = [c for c in COLOURS if c not in SPLIT.colours_not_seen.get(kind, ())]
    caption = RealCaption(kind, allowed[rng.integers(len(allowed))])
    return caption, thing.mesh(caption.colour)


def truth(caption: RealCaption, world: PackedWorld) -> Mesh:
    """The mesh that stands for a caption: of the acceptance prompts the one named in the split, else the first that is shown."""
    named = SPLIT.truth.get(str(caption))
    things = [o for o in world.kinds[caption.kind] if o.name == named or (named is None and o.name not in SPLIT.instances_not_seen)]
    if caption.colour is not None:
        things = [o for o in things if o.tinted]
    return things[0].mesh(caption.colour)
