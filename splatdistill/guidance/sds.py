"""Score distillation sampling."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Guided
from splatdistill.guidance.noising import rescaled_clean
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class SDS(Guided):
    """SDS (Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", arXiv:2209.14988, eq. 3):

        grad = w(t) (eps_cfg(x_t) - eps),  x_t = alpha_t x + sigma_t eps,  t ~ U[0.02, 0.98],  w = sigma_t^2.

    The default scale is the paper's 100 in its convention (1 + w) pos - w neg, which is 101 in ours.

    With weight="sigma_alpha" the gradient is x - x0_hat, that of |x - x0_hat|^2 / 2, x0_hat = (x_t - sigma_t eps_cfg) / alpha_t: the
    reconstruction loss of MVDream (Shi et al., arXiv:2308.16512, eq. 4), which takes back a share `recon_rescale` of the estimate's
    excess contrast over that under the prompt alone, each over a whole set of views (0.5 in its configuration, 0.7 in the paper).
    """

    scale: float = 101.0
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    recon_rescale: float = 0.0
    """Share of the excess contrast of the estimate of the clean latents that is taken back, over the views of a set together."""
    variant: Literal["paper", "code"] = "paper"
    """code: as threestudio, times are integers t/1000 in 20..980, both ends included."""

    def __post_init__(self) -> None:
        """Refuse contrast below that of the prompt's own estimate."""
        super().__post_init__()
        checks.within(self, 0, 1, "recon_rescale")

    def targetless(self) -> str:
        """Return nothing: the target is the prior's estimate of the clean latents."""
        return ""

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return prediction minus the noise that was added."""
        eps_hat = self.predict(view, answers)
        if self.recon_rescale:
            eps_hat = rescaled_clean(n, *view.prior.schedule(n.t), eps_hat, answers[0], self.recon_rescale, view.prior.views)
        return eps_hat - n.eps
