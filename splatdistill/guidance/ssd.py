"""Stein score distillation."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance import baselines as known
from splatdistill.guidance.base import Defaults, Guided
from splatdistill.guidance.baselines import BaselineName, Seen
from splatdistill.guidance.discriminator import RATE
from splatdistill.guidance.stein import Share, latent_moments, parameters_behind, splat_moments, stein_terms
from splatdistill.guidance.stein_memory import ControlMap, SteinMemory
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import DiffusionPrior


@dataclass(frozen=True)
class SSD(Guided):
    """SSD (Wang et al., "SteinDreamer: Variance Reduction for Text-to-3D Score Distillation via Stein Identity",
    arXiv:2401.00604, eq. 10 to 12):

        grad = w(t) (eps_cfg(x_t) - sum_k mu_k h_k),  h_k = eps phi_k - sigma_t grad phi_k(x_t),  phi_0 = 1,

    where E[h_k] = 0 for any phi_k, so that mu_k changes the variance of the update and not its mean: SDS is mu_0 = 1
    and nothing else. phi_k = -strength loss_k(decode(x_t)), with losses of a frozen network's depth, normals or
    foreground against the render's, of CLIP against the prompt, of Zero-1-to-3's estimate of the view against the render, or of a
    discriminator that learns to tell noisy renders from the prior's noisy estimates. mu minimises the mean square of the update by
    moving averages over the steps before; phi_0 is ours. No code was published.

    variant="paper" is the published form: no phi_0, and mu a map over latent pixels that takes a step of Adam (arXiv:1412.6980) on
    the same mean square after each step of the splats (eq. 12, at a rate that the paper does not tell). Its norm is that of the
    update of the latents, not of the parameters behind them, whose derivative by a map needs that of the renderer's gradient.
    """

    DEFAULTS: ClassVar[Defaults] = {"ours": Guided.DEFAULTS["paper"]}

    scale: float = 101.0
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    baselines: tuple[BaselineName, ...] = ()
    """phi_k beside phi_0 = 1, in three dimensions: depth and normal (the paper's), segment, zero123; clip and discriminator anywhere."""
    geometry: str = "auto"
    """The network behind depth, normal and segment: tiny-geometry, world-geometry, a folder or a hub id. auto: the embedded
    one with an embedded prior, Intel/dpt-hybrid-midas with others."""
    clip: str = "auto"
    """The network behind clip. auto: tiny-clip with the prior tiny, world-clip with world, openai/clip-vit-large-patch14 with others."""
    zero123: str = ""
    """The network behind zero123: a folder or hub id of Zero-1-to-3 or Stable Zero123."""
    strength: float = 0.01
    """Factor on the losses; a learned mu undoes it."""
    mu: Literal["latent", "splats", "one"] = "latent"
    """Quantity that mu makes small: the update of the latents (a map per term), that of the splats' parameters (a number per
    term, and a backward pass each), or nothing (mu = 1)."""
    share: Share = "channels"
    """Latents that share one mu: none of a pixel's, its channels, or all."""
    decay: float = 0.99
    """Decay of the moving averages, per step."""
    mu_rate: float = 0.01
    """Learning rate of mu in the variant paper."""
    normals: Literal["depth", "rendered"] = "depth"
    """Normals of the render that the baseline normal is shown: of its depth's derivatives, or the splats' shortest axes."""
    variant: Literal["ours", "paper"] = "ours"
    """With phi_0 = 1 and mu by least squares, or the published form."""

    def __post_init__(self) -> None:
        """Resolve the weights' folder to its whole path; refuse averages that forget nothing or everything."""
        super().__post_init__()
        checks.need(self, "decay", 0 <= self.decay < 1, "must be 0 or more and less than 1")
        checks.positive(self, "mu_rate")
        checks.need(self, "mu", self.variant == "ours" or self.mu != "splats", "of the splats goes with variant ours")
        checks.need(self, "zero123", bool(self.zero123) == ("zero123" in self.baselines), "goes with the baseline of the same name; give both, or neither")
        for name in ("geometry", "clip", "zero123"):
            folder = Path(getattr(self, name)).expanduser()
            if getattr(self, name) and folder.is_dir():
                object.__setattr__(self, name, str(folder.absolute()))

    def init(self, prior: DiffusionPrior) -> SteinMemory:
        """Return mu at ones, nothing averaged, and the baselines' networks. Raises WeightsError where one is not to be had."""
        losses = known.load(self.baselines, self.geometry, self.clip, self.zero123, prior, self.renders_normals())
        published = self.baselines and self.variant == "paper" and self.mu != "one"
        map = ControlMap(len(self.baselines), prior.latent_shape(), self.share) if published else None
        return SteinMemory(1 + len(self.baselines), self.decay, losses, map, self.mu_rate).to(prior.device)

    def renders_normals(self) -> bool:
        """Return True if the baseline normal is shown the splats' own."""
        return self.normals == "rendered" and "normal" in self.baselines

    def targetless(self) -> str:
        """Return nothing where phi_0 takes the noise away, so that the target is the prior's estimate of the clean latents."""
        return "" if self.variant == "ours" else "without phi_0 the noise stays in its gradient, and in any target"

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return prediction minus the weighted control variates; mu is used first and learned from them after."""
        assert isinstance(memory, SteinMemory)
        eps_hat, w = self.predict(view, answers), self.w(view, n)
        alpha, sigma = view.prior.schedule(n.t)
        terms = stein_terms(n, sigma, lambda x_t: self.phis(Seen(view, x_t, n.t), memory))
        memory.estimate = (n.x_t - sigma * eps_hat) / alpha if memory.learning else None
        if self.variant == "paper":
            return eps_hat - memory.published(eps_hat, terms[1:], w, self.mu_rate)
        control = (memory.weights(n.eps)[:, None] * terms).sum(0)
        if self.mu == "latent":
            memory.observe(*latent_moments(eps_hat, terms, w, self.share))
        elif self.mu == "splats":
            leaves = parameters_behind(view.x, view.render.screen.means if view.render else None)
            memory.observe(*splat_moments(eps_hat, terms, w, view.x, leaves))
        return eps_hat - control

    def learn(self, view: View, memory: nn.Module) -> None:
        """Train the discriminator, where there is one, on renders and on the prior's estimates of them: after it was used, so that phi
        never depends on the noise that it is applied to.
        """
        assert isinstance(memory, SteinMemory)
        if memory.learning is not None and memory.estimate is not None:
            loss = memory.learning.network.loss(view, memory.estimate, view.rand())
            memory.learning.update(loss, RATE)

    def phis(self, seen: Seen, memory: SteinMemory) -> tuple[Float[Tensor, " b"], ...]:
        """Return the baselines' values, differentiable in x_t through the decoder and the networks."""
        return () if memory.terms == 1 else tuple(-self.strength * loss for loss in memory.losses(seen))
