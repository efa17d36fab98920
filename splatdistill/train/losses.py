"""Regularisers: terms beside the guidance, whatever the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splatdistill import checks
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput


@dataclass(frozen=True)
class Regularisers:
    """Weights of the regularisers; 0 switches a term off. Image terms are means over pixels, splat terms means over splats,
    but for the sums.
    """

    sparsity: float = 0.0
    """Mean alpha: less matter (ProlificDreamer's and GaussianDreamer's sparsity)."""
    sparsity_end: float | None = None
    """Weight of `sparsity` in the end; the same as at the start if not given."""
    sparsity_until: float = 1.0
    """Progress at which `sparsity_end` is reached, linearly."""
    opaque: float = 0.0
    """Mean binary entropy of alpha: pixels covered wholly or not at all (threestudio's opaque loss)."""
    opaque_since: float = 0.0
    """Progress from which on there is `opaque` (ProlificDreamer: step 10,000 of 25,000)."""
    scale: float = 0.0
    """Mean scale of the splats times their opacity: no large veils (LucidDreamer's, there whatever the opacity)."""
    scale_sum: float = 0.0
    """Sum of the scales over splats and axes, which pulls at each splat alike however many there are (threestudio-3dgs, 1e-4)."""
    opacity_sum: float = 0.0
    """Sum over splats of opacity times size, the norm of the scales, which it leaves alone: no large veils (threestudio-3dgs, 1e-4)."""
    position: float = 0.0
    """Mean distance from the origin beyond 1: nothing flies off."""
    smooth: float = 0.0
    """Total variation of the rendered colours (arXiv:2312.05210 and others)."""
    smooth_depth: float = 0.0
    """Total variation of depth where the object is."""
    normal_consistency: float = 0.0
    """Mean over pixels of sum_i w_i (1 - n_i . N): splats' normals n_i, of weight w_i in the pixel, against those of the rendered depth, N
    (2D Gaussian Splatting, arXiv:2403.17888, eq. 14): splats lie flat in the surface."""

    def __post_init__(self) -> None:
        """Raise UserError for weights that are negative or not finite, and progress beyond the run."""
        checks.types(self)
        checks.at_least(self, 0, "sparsity", "sparsity_end", "opaque", "scale", "scale_sum", "opacity_sum", "position", "smooth", "smooth_depth", "normal_consistency")
        checks.within(self, 0, 1, "sparsity_until", "opaque_since")
        checks.positive(self, "sparsity_until")

    def __call__(self, out: RenderOutput, g: Gaussians, progress: float = 0.0) -> Float[Tensor, ""]:
        """Return the weighted sum at this progress; zero without a graph when every weight is zero."""
        total = out.alpha.new_zeros(())
        for term in self.terms(out, g, progress).values():
            total = total + term
        return total

    def terms(self, out: RenderOutput, g: Gaussians, progress: float = 0.0) -> dict[str, Float[Tensor, ""]]:
        """Return each term that has a weight at this progress, times it, by the weight's name."""
        terms: dict[str, Tensor] = {}
        if sparsity := self.sparsity_at(progress):
            terms["sparsity"] = sparsity * out.alpha.mean()
        if self.opaque and progress >= self.opaque_since:
            a = out.alpha.clamp(1e-3, 1 - 1e-3)
            terms["opaque"] = self.opaque * -(a * a.log() + (1 - a) * (1 - a).log()).mean()
        if self.scale:
            terms["scale"] = self.scale * (g.scales.mean(1) * g.opacities).mean()
        if self.scale_sum:
            terms["scale_sum"] = self.scale_sum * g.scales.sum()
        if self.opacity_sum:
            terms["opacity_sum"] = self.opacity_sum * (g.scales.detach().norm(dim=1) * g.opacities).sum()
        if self.position:
            terms["position"] = self.position * (g.means.norm(dim=1) - 1).clamp(min=0).mean()
        if self.smooth:
            terms["smooth"] = self.smooth * total_variation(out.rgb)
        if self.smooth_depth:
            inside = out.alpha.detach() * out.depth
            terms["smooth_depth"] = self.smooth_depth * total_variation(inside)
        if self.normal_consistency and out.normal is not None:
            agree = (out.normal * out.normal_from_depth()).sum(1, keepdim=True)
            terms["normal_consistency"] = self.normal_consistency * (out.alpha - agree).mean()
        return terms

    def renders_normals(self) -> bool:
        """Return True if a term reads normals that are rendered with the splats."""
        return self.normal_consistency > 0

    def sparsity_at(self, progress: float) -> float:
        """Return the weight of `sparsity` at this progress."""
        if self.sparsity_end is None:
            return self.sparsity
        return self.sparsity + (self.sparsity_end - self.sparsity) * min(progress / self.sparsity_until, 1.0)


def total_variation(image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return the mean squared difference of neighbouring pixels, both directions."""
    across = (image[..., :, 1:] - image[..., :, :-1]).square().mean()
    down = (image[..., 1:, :] - image[..., :-1, :]).square().mean()
    return across + down


def finite(*values: Tensor | None) -> Bool[Tensor, ""]:
    """Return whether every given tensor is finite throughout, as a tensor: a card is not waited for."""
    sums = [v.detach().sum() for v in values if v is not None]
    return torch.stack([s.float() for s in sums]).isfinite().all() if sums else torch.tensor(True)
