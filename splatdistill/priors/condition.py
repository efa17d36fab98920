"""The things that a diffusion prior may be asked under, as batches: prompts, pooled vectors, pictures, cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splatdistill.cameras import Cameras

Part = Literal["tokens", "pooled", "mask", "image", "image_camera", "camera"]


@dataclass(frozen=True)
class Condition:
    """Condition of each picture of a batch. A prior says in `wants` which parts it reads; the others may be None.

        Condition(tokens=torch.zeros(4, 77, 768))   # SD 1.5
        Condition.cat([a, b])[2:5]                  # batches join and split along their first dimension
    """

    tokens: Float[Tensor, "b l c"] | None = None
    """Text embeddings, one vector a token (all text-to-image priors)."""
    pooled: Float[Tensor, "b p"] | None = None
    """One vector for the whole text (SDXL, SD 3, Flux)."""
    mask: Bool[Tensor, "b l"] | None = None
    """True where a token counts (T5 of PixArt and IF)."""
    image: Float[Tensor, "b 3 h w"] | None = None
    """A picture of the object, in [0,1] (Zero-1-to-3, ImageDream)."""
    image_camera: Float[Tensor, "b 4 4"] | None = None
    """Camera to world of that picture (Zero-1-to-3)."""
    camera: Float[Tensor, "b 4 4"] | None = None
    """Camera to world (MVDream; adapters). All zeros where it is unknown."""

    def __post_init__(self) -> None:
        """Raise ValueError for a condition without parts, or with parts of different lengths."""
        if len(lengths := {len(v) for v in self._parts().values()}) != 1:
            raise ValueError(f"A condition needs parts of one length, got lengths {sorted(lengths)}.")

    def _parts(self) -> dict[str, Tensor]:
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @property
    def parts(self) -> frozenset[str]:
        """Return the names of the parts that are there."""
        return frozenset(self._parts())

    @property
    def nbytes(self) -> int:
        """Return the memory that the parts take."""
        return sum(v.nbytes for v in self._parts().values())

    def __len__(self) -> int:
        return len(next(iter(self._parts().values())))

    def __getitem__(self, index: slice | Tensor) -> "Condition":
        return Condition(**{k: v[index] for k, v in self._parts().items()})

    def expand(self, count: int) -> "Condition":
        """Repeat a batch of one, without copying."""
        return Condition(**{k: v.expand(count, *v.shape[1:]) for k, v in self._parts().items()})

    def split(self, size: int) -> list["Condition"]:
        """Return pieces of at most `size`, along the batch."""
        return [self[i : i + size] for i in range(0, len(self), size)]

    @classmethod
    def cat(cls, batches: "Sequence[Condition]") -> "Condition":
        """Join along the batch. A camera that only some have is zeros, unknown, for the others; ValueError where another
        part is there for some only.
        """
        names = [f.name for f in fields(cls) if any(getattr(c, f.name) is not None for c in batches)]
        joined = {}
        for name in names:
            values = [getattr(c, name) for c in batches]
            if name == "camera":
                like = next(v for v in values if v is not None)
                values = [like.new_zeros(len(c), 4, 4) if v is None else v.to(like) for c, v in zip(batches, values)]
            if any(v is None for v in values):
                raise ValueError(f"Cannot join conditions of which only some have {name}.")
            joined[name] = torch.cat(values)
        return cls(**joined)

    @classmethod
    def blend(cls, share: Float[Tensor, " b"], near: "Condition", far: "Condition") -> "Condition":
        """Return share near + (1 - share) far of texts, one share a picture; the mask holds the tokens of either."""

        def mixed(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            if a is None or b is None:
                return None
            s = share.to(a).view(-1, *[1] * (a.ndim - 1))
            return s * a + (1 - s) * b

        mask = None if near.mask is None or far.mask is None else near.mask | far.mask
        return replace(near, tokens=mixed(near.tokens, far.tokens), pooled=mixed(near.pooled, far.pooled), mask=mask)


@dataclass(frozen=True)
class PerpNeg:
    """Conditions that Perp-Neg (Armandpour et al., arXiv:2304.04968) moves each view away from: the prompt with the words
    of two other views, of which only the part perpendicular to the prompt's direction counts.
    """

    first: Condition
    second: Condition
    weights: Float[Tensor, "b 2"]  # 0 or less

    def __getitem__(self, index: slice) -> "PerpNeg":
        """Return the conditions of some of the views."""
        return PerpNeg(self.first[index], self.second[index], self.weights[index])

    @property
    def others(self) -> tuple[Condition, Condition]:
        """Return both conditions."""
        return self.first, self.second


@dataclass(frozen=True)
class Conditions:
    """Prompts of one batch of views, by name, as the prior's own conditions; and the views.

    positive: the prompt, with view words; negative: what classifier-free guidance moves away from (the
    negative prompt, or the null prompt when there is none); null: the empty prompt; plain: the prompt
    without view words. Where cameras are amplified, these three have unknown ones. texts: the words of the
    positive prompts, for networks beside the prior.
    perp: what Perp-Neg moves away from, None where it is off.
    """

    positive: Condition
    negative: Condition
    null: Condition
    plain: Condition
    cameras: Cameras | None = None
    texts: tuple[str, ...] = ()
    perp: PerpNeg | None = None

    def __len__(self) -> int:
        return len(self.positive)

    def __getitem__(self, index: slice) -> "Conditions":
        """Return the conditions of some of the views."""
        positive, negative, null, plain = (text[index] for text in (self.positive, self.negative, self.null, self.plain))
        cameras = None if self.cameras is None else self.cameras[index]
        return Conditions(positive, negative, null, plain, cameras, self.texts[index], self.perp and self.perp[index])
