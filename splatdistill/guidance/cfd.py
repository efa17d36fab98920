"""Consistent flow distillation."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Guided
from splatdistill.guidance.kept import NamedTensors
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.shaping import Weight
from splatdistill.guidance.surface import footprints
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.random import normal


@dataclass(frozen=True)
class CFD(Guided):
    """CFD (Yan et al., "Consistent Flow Distillation for Text-to-3D Generation", arXiv:2501.05445): SDS with a noise that lies on the
    surface of the object, while t falls,

        grad = w(t) (eps_cfg(alpha_t x + sigma_t n, t) - n),  w = sigma_t / alpha_t.

    n(camera) is white in each view and the same where views see the same: a latent pixel's noise is the sum of a fixed noise
    map's values within its footprint on the surface, which rendered depth tells, over the root of their number. (Noise that the
    splats carried and blending mixed would be neither white nor of variance 1.) Behind the object lies a noise of its own.
    Each step renews a share gamma of all noise. In 2D each picture has one noise; its moves of x by the step of sigma / alpha,
    times the residual, are then those of DDIM (arXiv:2010.02502).

    The authors' code maps each of three half-spheres to a square of 2048 x 2048 values and lets a value count in all pixels that
    it reaches. Here the map is a cube's six faces, and a value counts in one pixel of a view, so that views are exactly white.
    Their scale is 75 in pos + s (pos - neg), and their times fall in three lines that 1 - sqrt(progress) is near to.
    """

    scale: float = 76.0
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times("sqrt", t_min=0.212, t_max=0.98))
    """Noise levels that are visited."""
    weight: Weight = "sigma_alpha"
    """w(t), the weight of noise level t."""
    map_size: int | None = None
    """Values a side of each of the map's six faces; by default twice the latents' side."""
    gamma: float = 2e-4
    """Share of the noise's variance that is new at each step."""
    behind: Literal["fixed", "fresh"] = "fixed"
    """Noise where a view does not see the object: one for all views, or drawn at each step."""
    opaque: float = 0.1
    """Alpha above which a pixel sees the object."""

    def __post_init__(self) -> None:
        """Refuse maps of no values, and more renewal than there is noise."""
        super().__post_init__()
        if self.map_size is not None:
            checks.count(self, 1, 4096, "map_size")
        checks.within(self, 0, 1, "gamma", "opaque")

    def init(self, prior: DiffusionPrior) -> NamedTensors:
        """Return nothing yet: the noise is drawn in the shape of the first latents."""
        return NamedTensors()

    def targetless(self) -> str:
        """Return nothing: the target is the prior's estimate of the clean latents."""
        return ""

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Noised:
        """Return x with the noise of its surface, or of its picture."""
        assert isinstance(memory, NamedTensors)
        t, shape, out = t.clamp(max=0.999), tuple(view.x.shape), view.render
        if out is None or len(shape) != 4:
            return diffuse(view, t, self.drifting("pictures", shape, view, memory))
        size = self.map_size or 2 * max(shape[2:])
        texture = self.drifting("surface", (6 * size**2, shape[1]), view, memory)
        behind = self.drifting("behind", shape[1:], view, memory).expand(shape) if self.behind == "fixed" else view.randn()
        seen = [footprints(out, k, *shape[2:], size, self.opaque) for k in range(shape[0])]
        return diffuse(view, t, torch.stack([f.gather(texture, behind[k]) for k, f in enumerate(seen)]))

    def drifting(self, name: str, shape: tuple[int, ...], view: View, memory: NamedTensors) -> Tensor:
        """Return a kept noise, its share gamma renewed: sqrt(1 - gamma) n + sqrt(gamma) new."""

        def fresh() -> Tensor:
            return normal(shape, view.rng, view.x)

        n = memory.get(name, shape, view.x, fresh)
        return memory.keep(name, (1 - self.gamma) ** 0.5 * n + self.gamma**0.5 * fresh()) if self.gamma else n

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return prediction minus the noise that was added."""
        return self.predict(view, answers) - n.eps
