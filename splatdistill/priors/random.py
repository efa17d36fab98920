"""Random numbers that are the same on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers where rng lives, then take them to `like`'s device and precision."""
    return torch.randn(tuple(shape), generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
