"""Scenes: whatever turns prompts into Gaussians and can be optimised.

The trainer sees only `Scene`. `scene.splats.Splats` holds the parameters of one scene directly; a network that
makes Gaussians from prompts is another `Scene`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from splatdistill.gaussians import Gaussians


class Scene(nn.Module, ABC):
    """Differentiable function from prompts to Gaussians; its parameters are optimised."""

    @abstractmethod
    def forward(self, prompts: Sequence[str] = ()) -> Gaussians:
        """Return the Gaussians of these prompts, with history; a scene of one object ignores them."""

    def gaussians(self) -> Gaussians:
        """Return the Gaussians of a scene that needs no prompt."""
        return self()
