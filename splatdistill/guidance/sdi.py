"""Score distillation via inversion."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Defaults, Guidance, Noised, View, Weight, cfg_combine, cfg_queries, weight_of
from splatdistill.guidance.noising import ddim, diffuse, invert
from splatdistill.guidance.times import Times
from splatdistill.priors import Query


@dataclass(frozen=True)
class SDI(Guidance):
    """SDI (Lukoianov et al., "Score Distillation via Reparametrized DDIM", arXiv:2405.15891):

        grad = sigma_t (eps_cfg(x_t) - kappa),  x_t = alpha_t x + sigma_t kappa,

    where kappa is the noise that DDIM inversion of x finds at t + tau, tau ~ U[0, jitter), in int(10 t) moves
    under a negative guidance scale, and t falls linearly. Scales are the paper's 7.5 and -7.5 in the convention
    pos + s (pos - neg), which are 8.5 and -6.5 in ours.

    variant="code" is threestudio's (by the authors): t from 0.98 to 0.25; stochastic inversion on the fixed grid
    -99, 1, 101, ... with eta 0.3; the x at t' >= t is given to the network as if at t; the gradient is that of
    mean((x - x0_hat)^2) / 2, that is (x - x0_hat) / numel, whatever `weight` says.
    """

    DEFAULTS: ClassVar[Defaults] = {
        "paper": {"eta": 0.0, "times": Times("linear", t_min=0.2, t_max=1.0, integer=False)},
        "code": {"eta": 0.3, "times": Times("linear", t_min=0.25, t_max=0.98, integer=True)},
    }

    scale: float = 8.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times("linear", t_min=None, t_max=None))
    """Which noise levels are visited; by default from 1 down to 0.2 (code: from 0.98 to 0.25)."""
    weight: Weight = "sigma"
    """w(t), the weight of noise level t."""
    inversion_scale: float = -6.5
    """Classifier-free guidance of the inversion."""
    inversion_steps: int = 10
    """Moves of the inversion per unit of time: int(inversion_steps * t), at least one."""
    jitter: float = 0.1
    """The inversion goes on by up to this much beyond t."""
    eta: float | None = None
    """Share of fresh noise in each inversion move; by default 0, a deterministic inversion (code: 0.3). 1 is DDPM's."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse an inversion that goes nowhere."""
        super().__post_init__()
        checks.at_least(self, 1, "inversion_steps")
        checks.within(self, 0, 1, "jitter", "eta")

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Noised:
        """The forward process with the inverted noise."""
        if self.variant == "code":
            return self._code_noise(view, t)
        beyond = (t + self.jitter * view.rand()).clamp(max=0.999)
        steps = max(1, int(self.inversion_steps * float(t.max()) + 1e-9))
        return diffuse(view, t.clamp(max=0.999), invert(view, beyond, steps, self.inversion_scale, self.value("eta")).eps)

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Prediction minus the inverted noise; in the code's form, x minus the prior's estimate of it."""
        eps_hat = self.predict(view, answers)
        if self.variant == "paper":
            return eps_hat - n.eps
        alpha, sigma = view.prior.schedule(n.t)
        x0_hat = (n.x_t - sigma * eps_hat) / alpha
        # the weight is divided out again, because the code has none
        return (view.x - x0_hat) / view.x[0].numel() / weight_of(self.weight, alpha, sigma)

    def _code_noise(self, view: View, t: Float[Tensor, " b"]) -> Noised:
        """Stochastic inversion per image on the code's grid of integer times."""
        last = (1000 * t).round().clamp(max=999)
        end = (last + (100 * view.rand()).floor()).clamp(max=999)
        x = view.x.detach()
        for a in (-99.0, *(float(k) for k in range(1, 1000, 100))):
            here = torch.full_like(t, a)
            going = (here < last).view(-1, *[1] * (x.ndim - 1))
            if not going.any():
                break
            there = torch.where(here + 100 < last, (here + 100).clamp(min=1), end)
            x = torch.where(going, self._code_move(view, x, here / 1000, there / 1000), x)
        alpha, sigma = view.prior.schedule(end / 1000)
        return Noised(x, last / 1000, (x - alpha * view.x) / sigma)

    def _code_move(self, view: View, x: Tensor, a: Float[Tensor, " b"], b: Float[Tensor, " b"]) -> Tensor:
        """DDIM from a to b plus eta sqrt(variance) of fresh noise; the direction term is not reduced."""
        queries: tuple[Query, ...] = cfg_queries(view, x, a, self.inversion_scale)
        eps_hat = cfg_combine(view, view.prior.answer(queries), self.inversion_scale, 0.0, self.perp_weight)
        return ddim(view, Noised(x, a, torch.zeros_like(x)), b, eps_hat, self.value("eta"), reduce=False).x_t
