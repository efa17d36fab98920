"""Interval score matching."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Defaults, Guided
from splatdistill.guidance.noising import at_level, beginning, ddim, diffuse, invert_in_strides, unprompted
from splatdistill.guidance.shaping import Weight
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View
from splatdistill.priors.random import normal


@dataclass(frozen=True)
class IntervalNoise(Noised):
    """Latents at t that DDIM inversion reached from s, and the prediction at s without a prompt."""

    eps_s: Float[Tensor, "b *d"]


@dataclass(frozen=True)
class ISM(Guided):
    """ISM (Liang et al., "LucidDreamer: Towards High-Fidelity Text-to-3D Generation via Interval Score Matching",
    arXiv:2311.11284):

        grad = lambda w(t) (eps_cfg(x_t, t) - eps(x_s, s)),  s = t - interval,

    where x_s is DDIM inversion of x in moves of `stride` under the null prompt, and x_t one move further. w is
    sigma_t / alpha_t, which is unbounded towards t = 1. lambda only scales; like `--guidance-weight` it weighs the
    guidance against the regularisers. No noise is added anywhere, unless `begin` says so.

    variant="code" is the official code's: times are integers; the inversion begins at step 1, from x with noise that has
    an offset per channel in common to the batch, 0.1 N(0,1); the gradient is summed over the batch, not averaged. (Its
    flips of the images, and its disparity maps in their place, belong to no guidance.)
    """

    DEFAULTS: ClassVar[Defaults] = {
        "paper": {"begin": 0.0},
        "code": {"begin": 0.001, "times": Times(integer=False)},  # its indices are rounded in `noise`
    }

    times: Times = field(default_factory=lambda: Times(t_max_end=0.5, until=0.3, shared=True))
    """Noise levels that are visited."""
    weight: Weight = "sigma_alpha"
    """w(t), the weight of noise level t."""
    lambda_guidance: float = 1.0
    """lambda; 0.1 in the authors' configurations."""
    interval: float = 0.08
    """t - s, the paper's delta_T, in the end."""
    interval_first: float = 0.1
    """t - s at the start; it falls until progress `times.until`."""
    stride: float = 0.2
    """Moves of the inversion up to s, the paper's delta_S."""
    begin: float | None = None
    """Noise level at which the inversion begins, from x with fresh noise; by default 0, from x itself (code: 0.001)."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse moves that lead nowhere or down."""
        super().__post_init__()
        checks.positive(self, "stride")
        checks.within(self, 0, 1, "interval", "interval_first")
        checks.need(self, "begin", self.begin is None or 0 <= self.begin < 1, "must be a noise level, from 0 to below 1")

    def span(self, progress: float) -> float:
        """Return t - s at this progress."""
        warm = max(0.0, 1 - max(progress, 0.0) / self.times.until) if self.times.until > 0 else 0.0
        if self.variant == "code":
            return math.floor(1000 * (self.interval + (self.interval_first - self.interval) * warm) + 1e-6) / 1000
        return self.interval + (self.interval_first - self.interval) * warm

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> IntervalNoise:
        """Return x carried to t by inversion to s and one move more."""
        t, offset, floor = t.clamp(max=0.999), 0.0, 0.0
        if self.variant == "code":  # index i of its timesteps is step i + 1, and all starts at index 0
            t, floor = ((1000 * t + 1e-4).floor() + 1).clamp(max=999) / 1000, 0.001
            offset = 0.1 * normal((1, *view.x.shape[1:2], *[1] * (view.x.ndim - 2)), view.rng, view.x)
        s = (t - self.span(view.progress)).clamp(min=floor)
        begin = self.value("begin")
        n = diffuse(view, s.clamp(max=max(begin, view.prior.begins)), view.randn() + offset) if begin else beginning(view, s)
        n = invert_in_strides(view, n, s, self.stride)
        eps_s = unprompted(view, n)
        n = at_level(view, ddim(view, n, t, eps_s).x_t, t)
        return IntervalNoise(n.x_t, n.t, n.eps, eps_s)

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the guided prediction at t minus the unprompted one at s."""
        assert isinstance(n, IntervalNoise)
        gain = self.lambda_guidance * (len(view.x) if self.variant == "code" else 1)
        return gain * (self.predict(view, answers) - n.eps_s)
