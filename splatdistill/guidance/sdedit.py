"""Refinement by weak noise that is taken away again."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Guided
from splatdistill.guidance.noising import ddim
from splatdistill.guidance.shaping import Weight
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View


@dataclass(frozen=True)
class SDEdit(Guided):
    """Refinement of DreamGaussian (Tang et al., "DreamGaussian: Generative Gaussian Splatting for Efficient 3D Content Creation",
    arXiv:2309.16653, section 3.3), with the editing of SDEdit (Meng et al., arXiv:2108.01073), here on splats:

        grad = x - x_clean,  x_clean = DDIM(x_t -> 0 under classifier-free guidance),  x_t = alpha_t x + sigma_t eps,

    where t is low, so that x_clean is x with what the prior would draw sharper, and the gradient is that of |x - x_clean|^2 / 2. It
    improves what is there and makes nothing from nothing: a second phase. int(moves t) moves lead down, at least one; with one move
    it is SDS at low noise. The paper refines a mesh's texture by 50 steps, with t from 0.2 down to 0.05 and 50 moves per unit of
    time; `--inner K` keeps each picture for K steps of the splats.
    """

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times("linear", t_min=0.05, t_max=0.2))
    """Noise levels that are visited; by default from 0.2 down to 0.05."""
    weight: Weight = "sigma_alpha"
    """w(t), the weight of noise level t; with sigma_alpha the gradient is x - x_clean itself."""
    moves: int = 50
    """Moves of the denoising per unit of time: int(moves * t), at least one."""

    def __post_init__(self) -> None:
        """Refuse a denoising that goes nowhere."""
        super().__post_init__()
        checks.at_least(self, 1, "moves")

    def targetless(self) -> str:
        """Return nothing: the target is the denoised picture."""
        return ""

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return (alpha_t / sigma_t) (x - x_clean)."""
        count, at = max(1, int(self.moves * float(n.t.max()) + 1e-9)), n
        eps_hat = self.predict(view, answers)
        for k in range(1, count):
            at = ddim(view, at, n.t * (1 - k / count), eps_hat)
            eps_hat = self.cfg.combine(view, view.prior.answer(self.cfg.queries(view, at.x_t, at.t)))
        (a, s), (alpha, sigma) = view.prior.schedule(at.t), view.prior.schedule(n.t)
        return alpha / sigma * (view.x - (at.x_t - s * eps_hat) / a)
