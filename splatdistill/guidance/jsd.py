"""Jensen-Shannon score distillation."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.sdi import SDI
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class JSD(SDI):
    """JSD (Do et al., "Text-to-3D Generation using Jensen-Shannon Score Distillation", arXiv:2503.10660): SDI's estimate x0_hat
    of the clean view, and a second one, of what the prior makes of the first with fresh noise at the same t,

        y = alpha_t x0_hat + sigma_t n',  x0_hat' = (y - sigma_t eps_cfg(y)) / alpha_t,
        grad = (alpha_t / sigma_t) w(t) [(x - x0_hat) + k (x - x0_hat')],  w = sigma_t,

    which is the gradient of |x - x0_hat|^2 / 2 + k |x - x0_hat'|^2 / 2 but for its weight. k 0 is SDI (where the authors' code
    fails, as it never sets a name). second="inverted" is a control: the second estimate comes from a second inversion of x, as
    a mean over two of SDI's steps has it.

    The published scales are 13.5 and -13.5, with Perp-Neg; as for SDI, they are 14.5 and -12.5 without it. variant="code" is the
    authors' code, which keeps SDI's: see there.
    """

    scale: float = 14.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    inversion_scale: float = -12.5
    """Classifier-free guidance of the inversion."""
    k: float = 1.0
    """Weight of the second estimate beside the first."""
    second: Literal["generated", "inverted"] = "generated"
    """Source of the second estimate: the first one with fresh noise, or (a control) another inversion of the view."""

    def __post_init__(self) -> None:
        """Refuse a second estimate that pushes away."""
        super().__post_init__()
        checks.at_least(self, 0, "k")

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return (alpha_t / sigma_t) (x - the mean of both estimates, weighted 1 and k)."""
        first = super().residual(view, n, answers, memory)
        if self.k == 0:
            return first
        if self.second == "inverted":
            again = self.noise(view, n.t, memory)
            second = self.asked(view, again) - again.eps
        else:
            alpha, sigma = view.prior.schedule(n.t)
            y = diffuse(view, n.t, view.randn(), view.x - sigma / alpha * first)
            second = first + self.asked(view, y) - y.eps
        return (first + self.k * second) / (1 + self.k)

    def asked(self, view: View, n: Noised) -> Float[Tensor, "b *d"]:
        """Return the guided prediction at latents of one's own."""
        return self.cfg.combine(view, view.prior.answer(self.cfg.queries(view, n.x_t, n.t)))

    def w(self, view: View, n: Noised) -> Float[Tensor, "b *one"]:
        """Return SDI's weight for each of both."""
        return (1 + self.k) * super().w(view, n)
