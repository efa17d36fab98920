"""Regularisers: terms beside the guidance, whatever the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill import checks
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput


@dataclass(frozen=True)
class Regularisers:
    """Weights; 0 switches a term off. Image terms are means over pixels, splat terms means over splats."""

    sparsity: float = 0.0
    """Mean alpha: less matter (ProlificDreamer's and GaussianDreamer's sparsity)."""
    opaque: float = 0.0
    """Mean binary entropy of alpha: pixels covered wholly or not at all (threestudio's opaque loss)."""
    scale: float = 0.0
    """Mean scale of the splats times their opacity: no large veils (threestudio-3dgs)."""
    position: float = 0.0
    """Mean distance from the origin beyond 1: nothing flies off."""
    smooth: float = 0.0
    """Total variation of the rendered colours (arXiv:2312.05210 and others)."""
    smooth_depth: float = 0.0
    """Total variation of depth where the object is."""

    def __post_init__(self) -> None:
        """Raise UserError for weights that are negative or not finite."""
        checks.types(self)
        checks.at_least(self, 0, "sparsity", "opaque", "scale", "position", "smooth", "smooth_depth")

    def __call__(self, out: RenderOutput, g: Gaussians) -> Float[Tensor, ""]:
        """Return the weighted sum; zero without a graph when every weight is zero."""
        total = out.alpha.new_zeros(())
        if self.sparsity:
            total = total + self.sparsity * out.alpha.mean()
        if self.opaque:
            a = out.alpha.clamp(1e-3, 1 - 1e-3)
            total = total + self.opaque * -(a * a.log() + (1 - a) * (1 - a).log()).mean()
        if self.scale:
            total = total + self.scale * (g.scales.mean(1) * g.opacities).mean()
        if self.position:
            total = total + self.position * (g.means.norm(dim=1) - 1).clamp(min=0).mean()
        if self.smooth:
            total = total + self.smooth * total_variation(out.rgb)
        if self.smooth_depth:
            inside = out.alpha.detach() * out.depth
            total = total + self.smooth_depth * total_variation(inside)
        return total


def total_variation(image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return the mean squared difference of neighbouring pixels, both directions."""
    across = (image[..., :, 1:] - image[..., :, :-1]).square().mean()
    down = (image[..., 1:, :] - image[..., :-1, :]).square().mean()
    return across + down


def finite(*values: Tensor | None) -> bool:
    """Return whether every given tensor is finite throughout; one synchronisation."""
    sums = [v.detach().sum() for v in values if v is not None]
    return bool(torch.stack([s.float() for s in sums]).isfinite().all()) if sums else True
