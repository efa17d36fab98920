"""Asynchronous score distillation."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Guided
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Query


@dataclass(frozen=True)
class ASD(Guided):
    """ASD (Ma et al., "ScaleDreamer: Scalable Text-to-3D Synthesis with Asynchronous Score Distillation",
    arXiv:2407.02040): what the renders' own distribution would say is had from the prior at a noisier time,

        grad = w(t) (eps_cfg(x_t, t) - eps(x_{t+}, t+; y)),  t+ = t + Delta,  Delta ~ U[0, eta (t - t_min)],

    both x_t and x_{t+} with the same noise; the second under the prompt alone, without guidance. Its call shares the
    batch of the first pair. eta 0 is CSD at scale - 1. t_min is the least noise that the times ever reach.

    variant="code" is the official code's: times are integers t/1000, Delta is cut to what is left below 999 before it
    is drawn, then rounded down, and t_min is the least noise of the moment.
    """

    eta: float = 0.1
    """Longest shift of time, as a share of the distance from t_min."""
    shift: Literal["random", "fixed"] = "random"
    """Delta drawn evenly below its longest, or always the longest."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse a shift to less noise."""
        super().__post_init__()
        checks.at_least(self, 0, "eta")

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the classifier-free guidance pair, and the prompt at the later time."""
        later = diffuse(view, self.later(view, n.t), n.eps)
        return (*super().ask(view, n, memory), Query(later.x_t, later.t, view.text.positive))

    def later(self, view: View, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return t+ of every view; one for all where they share t."""
        times = self.value("times")
        part = view.rand(times.shared)
        if self.shift == "fixed":  # drawn all the same: runs that differ in this alone see the same noise from here on
            part = torch.ones_like(part)
        if self.variant == "paper":
            least = min(times.ends(0.0)[0], times.ends(1.0)[0])
            return (t + part * self.eta * (t - least).clamp(min=0)).clamp(max=0.999)
        step, least = (1000 * t).round(), int(1000 * times.ends(view.progress)[0] + 1e-6)
        delta = part * (self.eta * (step - least)).clamp(min=0).minimum(999 - step)
        return (step + (delta + 1e-4).floor()).clamp(1, 999) / 1000  # 0.1 * 480 may be 47.99...

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the guided prediction minus the prompt's at the later time."""
        return self.predict(view, answers) - answers[-1]
