"""Interface of densifiers, which add and remove Gaussians while training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from splatdistill.densify.ops import Surgery
from splatdistill.render import Screen
from splatdistill.scene.splats import Splats


@dataclass(frozen=True)
class CountChange:
    """Numbers of Gaussians that an update changed; the count grows by added - removed."""

    added: int = 0
    removed: int = 0
    moved: int = 0  # put somewhere else without a change of the count


@dataclass
class DensifyState:
    """Statistics of a densifier; every field is a tensor with one row per Gaussian."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name, for safetensors."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave; ValueError for the state of another densifier or count."""
        own = self.tensors()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in saved.items()}:
            raise ValueError(f"saved statistics {sorted(saved)} do not fit {sorted(own)} of {type(self).__name__}")
        for name, value in saved.items():
            setattr(self, name, value.clone())

    def move(self, device: torch.device) -> None:
        """Move the statistics to the device of the Gaussians."""
        for name, value in self.tensors().items():
            setattr(self, name, value.to(device))

    def follow(self, surgery: Surgery) -> None:
        """Keep the rows of the Gaussians that were kept; new Gaussians begin with zeros."""
        for name, value in self.tensors().items():
            new = value.new_zeros(surgery.added, *value.shape[1:])
            setattr(self, name, torch.cat([value[surgery.kept.to(value.device)], new]))


class Densifier(ABC):
    """Strategy of densification: hyperparameters as fields, behaviour as methods; all that changes is in the state.

    A step calls `observe` after each backward pass, `after_step` after the optimizer's step, then `update`.
    """

    def init(self, n: int) -> DensifyState:
        """Return the state for n Gaussians that nothing is known about yet."""
        return DensifyState()

    def observe(self, state: DensifyState, screen: Screen, width: int, height: int) -> None:
        """Record the statistics of all views of a batch, whose backward pass has run. width, height: of the images, pixels."""

    def after_step(
        self, state: DensifyState, scene: Splats, optimizer: torch.optim.Optimizer, rng: torch.Generator
    ) -> None:
        """Change values after an optimizer step, not the count."""

    @abstractmethod
    def update(
        self,
        state: DensifyState,
        scene: Splats,
        optimizer: torch.optim.Optimizer,
        step: int,
        progress: float,
        rng: torch.Generator,
        max_gaussians: int,
    ) -> CountChange:
        """Add, remove and move Gaussians in the scene, its optimizer and the state, if it is time to.

        step: optimizer steps taken so far; progress: their share of all, in [0, 1]. The count never grows beyond
        max_gaussians.
        """


def due(step: int, progress: float, every: int, since: float, until: float) -> bool:
    """Return True if a periodic action happens now: every so many steps while since <= progress <= until."""
    return every > 0 and step > 0 and step % every == 0 and since <= progress <= until
