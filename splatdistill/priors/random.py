"""Random numbers that are the same on every device, and how what the CPU made gets there."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers where rng lives, then take them to `like`'s device and precision."""
    return sent(torch.randn(tuple(shape), generator=rng, device=rng.device, dtype=like.dtype), like.device)


def sent(value: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device, without waiting for it: a plain copy to a card lets the CPU stand still until all that was asked of
    the card before is done. The CPU's memory is read before this returns; to the CPU it waits, as it must.
    """
    return value.to(device, dtype, non_blocking=device.type != "cpu")
