"""Frozen networks that look at pictures: shared by guidance and by evaluation."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.clip import ClipScorer

__all__ = ["ClipScorer", "ImageTextScorer"]


@runtime_checkable
class ImageTextScorer(Protocol):
    """Says how near pictures and texts are; higher is nearer."""

    name: str  # goes beside every figure

    def similarities(self, rgb: Float[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b n"]:
        """Every image in [0,1] with every text."""
        ...
