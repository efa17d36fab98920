"""Score Jacobian chaining."""

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.guidance.base import Guided
from splatdistill.guidance.shaping import Weight
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class SJC(Guided):
    """SJC (Wang et al., "Score Jacobian Chaining: Lifting Pretrained 2D Diffusion Models for 3D Generation",
    arXiv:2212.00774): the perturb-and-average score of z = x + s eps, s = sigma_t / alpha_t, with D = z - s eps_cfg,

        grad = (x - D) / s = eps_cfg - eps,   without variance reduction   (z - D) / s = eps_cfg,

    which is SDS with w = 1. The score itself, (x - D) / s^2, is multiplied by s, as in the authors' code. The network
    is asked at z / sqrt(1 + s^2), which is x_t. variant="code" is threestudio's: times are integers t/1000.

    The default scale is threestudio's, 100 in its convention pos + s (pos - neg) and 101 in ours; the authors' own code has
    neg + s (pos - neg), where their 100 is 100.
    """

    scale: float = 101.0
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times(t_min=0.01, t_max=0.97))
    """Noise levels that are visited."""
    weight: Weight = "one"
    """w(t), the weight of noise level t."""
    variance_reduction: bool = True
    """Subtract the noise that was added, which leaves the mean as it is."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def targetless(self) -> str:
        """Return nothing where the noise is subtracted: the target is then the prior's estimate of the clean latents."""
        return "" if self.variance_reduction else "without variance reduction the noise stays in its gradient, and in any target"

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the prediction, minus the noise that was added if variance is to be reduced."""
        eps_hat = self.predict(view, answers)
        return eps_hat - n.eps if self.variance_reduction else eps_hat
