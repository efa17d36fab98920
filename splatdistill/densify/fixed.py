"""No densification: as many Gaussians as at the start."""

from dataclasses import dataclass

import torch

from splatdistill import checks
from splatdistill.densify.base import CountChange, Densifier, DensifyState, due
from splatdistill.densify.ops import resize
from splatdistill.scene.splats import Splats


@dataclass(frozen=True)
class Fixed(Densifier):
    """Densifier that never adds a Gaussian; it removes invisible ones if asked to."""

    prune_opacity: float = 0.0
    """Gaussians less opaque than this are removed; 0 removes none."""
    every: int = 100
    """Steps between removals."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.within(self, 0, 1, "prune_opacity")
        checks.at_least(self, 1, "every")

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
        if not due(step, progress, self.every, 0.0, 1.0):
            return CountChange()
        dead = scene.logits.detach().sigmoid() < self.prune_opacity
        if removed := int(dead.sum()):
            state.follow(resize(scene, optimizer, (~dead).nonzero()[:, 0]))
        return CountChange(removed=removed)
