"""Score distillation sampling."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.guidance.base import Guided
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class SDS(Guided):
    """DreamFusion (Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", arXiv:2209.14988, eq. 3):

        grad = w(t) (eps_cfg(x_t) - eps),  x_t = alpha_t x + sigma_t eps,  t ~ U[0.02, 0.98],  w = sigma_t^2.

    The default scale is the paper's 100 in its convention (1 + w) pos - w neg, which is 101 in ours.
    """

    scale: float = 101.0
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    variant: Literal["paper", "code"] = "paper"
    """code: as threestudio, times are integers t/1000 in 20..980, both ends included."""

    def targetless(self) -> str:
        """Return nothing: the target is the prior's estimate of the clean latents."""
        return ""

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return prediction minus the noise that was added."""
        return self.predict(view, answers) - n.eps
