"""Score distillation via inversion."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Defaults, Guided
from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.noising import at_level, diffuse, invert, invert_on_grid
from splatdistill.guidance.shaping import Weight
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class SDI(Guided):
    """SDI (Lukoianov et al., "Score Distillation via Reparametrized DDIM", arXiv:2405.15891):

        grad = sigma_t (eps_cfg(x_t) - kappa),  x_t = alpha_t x + sigma_t kappa,

    where kappa is the noise that DDIM inversion of x finds at t + tau, tau ~ U[0, jitter), in int(10 t) moves
    under a negative guidance scale, and t falls linearly.

    The published scales are 7.5 and -7.5. threestudio's branch without Perp-Neg has pos + s (pos - neg), where they are 8.5 and
    -6.5 in our convention neg + s (pos - neg), the defaults here. Its branch with Perp-Neg has neg + s (...), where they stay
    7.5 and -7.5; its sdi.yaml has Perp-Neg on, and so has configs/sd/sdi.yaml, with these. The paper does not say in which
    convention its numbers are.

    variant="code" is threestudio's (by the authors): t from 0.98 to 0.25; stochastic inversion on the fixed grid
    -99, 1, 101, ... with eta 0.3; the x at t' >= t is given to the network as if at t; the gradient is that of
    mean((x - x0_hat)^2) / 2, that is (x - x0_hat) / numel = (sigma_t / alpha_t) (eps_cfg - eps) / numel, whatever `weight` says.
    """

    DEFAULTS: ClassVar[Defaults] = {
        "paper": {"eta": 0.0, "times": Times("linear", t_min=0.2, t_max=1.0, integer=False)},
        "code": {"eta": 0.3, "times": Times("linear", t_min=0.25, t_max=0.98, integer=True)},
    }

    scale: float = 8.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times("linear", t_min=None, t_max=None))
    """Noise levels that are visited; by default from 1 down to 0.2 (code: from 0.98 to 0.25)."""
    weight: Weight = "sigma"
    """w(t), the weight of noise level t."""
    inversion_scale: float = -6.5
    """Classifier-free guidance of the inversion."""
    inversion_perp_weight: float | None = None
    """Factor on the weights of Perp-Neg in the inversion, where it is on: two of four evaluations a move. By default 0, none
    (code: as `perp_weight`).
    """
    inversion_view_weight: float = 0.0
    """As `view_weight`, in the inversion; one more evaluation a view and move."""
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
        """Return x with the noise of its inversion."""
        if self.variant == "code":  # inverted to t' and taken as if at t
            end = (t + (100 * view.rand()).floor() / 1000).clamp(max=0.999)
            return at_level(view, invert_on_grid(view, t, end, self.inversion, self.value("eta")), t)
        beyond = (t + self.jitter * view.rand()).clamp(max=0.999)
        steps = max(1, int(self.inversion_steps * float(t.max()) + 1e-9))
        return diffuse(view, t.clamp(max=0.999), invert(view, beyond, steps, self.inversion, self.value("eta")).eps)

    def targetless(self) -> str:
        """Return nothing: the target is the prior's estimate of the clean latents."""
        return ""

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return prediction minus the inverted noise."""
        return self.predict(view, answers) - n.eps

    def w(self, view: View, n: Noised) -> Float[Tensor, "b *one"]:
        """Return w(t); the code's makes it the gradient of the mean over an image's elements."""
        if self.variant == "paper":
            return super().w(view, n)
        alpha, sigma = view.prior.schedule(n.t)
        return sigma / alpha / view.x[0].numel()

    @property
    def inversion(self) -> CFG:
        """Return classifier-free guidance within the inversion."""
        asked, own = self.inversion_perp_weight, self.perp_weight if self.variant == "code" else 0.0
        perp = own if asked is None else asked
        return CFG(self.inversion_scale, perp_weight=perp, view_weight=self.inversion_view_weight)
