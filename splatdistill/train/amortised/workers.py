"""Processes that share an amortised training, each with prompts of its own: `accelerate launch -m splatdistill amortise ...`.

The network's gradients are averaged over them, so that n processes of p prompts are one of n p; what a guidance learns is averaged after
each step.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """Processes of a training; by default this one alone. As a context, they part at its end."""

    world: int = 1
    rank: int = 0
    accelerator: Any = None  # accelerate's

    @classmethod
    def here(cls) -> "Workers":
        """Return the processes that this one was started with; whoever starts several (accelerate, torchrun) says so in WORLD_SIZE."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import Accelerator

        import_module("torch.distributed.nn")  # imported later, its functions would keep the group as a default argument, past its end
        accelerator = Accelerator()
        return cls(accelerator.num_processes, accelerator.process_index, accelerator)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        """End what connects the processes: one that exits while the group's threads are there may be aborted by C++."""
        if self.accelerator is not None:
            self.accelerator.end_training()

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all processes; one message."""
        if self.world == 1 or not tensors:
            return
        flat = self.accelerator.reduce(torch.cat([t.flatten().float() for t in tensors]), "mean")
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def any(self, mine: bool) -> bool:
        """Return whether something is true in any process."""
        if self.world == 1:
            return mine
        return bool(self.accelerator.reduce(torch.tensor([float(mine)], device=self.accelerator.device), "sum").item())
