"""Collaborative score distillation."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.guidance.base import Guided
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, Original, View
from splatdistill.priors import Query


@dataclass(frozen=True)
class Collaborative(Guided):
    """Collaborative score distillation (Kim et al., "Collaborative Score Distillation for Consistent Visual Editing",
    arXiv:2307.04787): Stein variational gradient descent (Liu & Wang, arXiv:1608.04471) over the views of a batch,

        grad_i = w(t) / n sum_j [K_ij r_j - repulsion 2 gamma K_ij (X_i - X_j)],  K_ij = exp(-gamma |X_i - X_j|^2),

    on noisy latents X = x_t, with one t for all; r is the residual of SDS or another. gamma = ln(n + 1) / m, m the
    median of the squared distances between two different views: finite wherever views differ, and where none do, or
    there is one only, K is one and nothing repels. Stein's own repulsion is sigma_t times this in units of eps.

    The paper edits pictures: base_residual="edit" is r = eps_cfg(x_t; prompt) - eps_cfg(x'_t; its own prompt), x' the original
    picture with the same noise, which is zero where nothing is to change (the options `pictures` and `original` of `image`). The authors ask
    InstructPix2Pix (arXiv:2211.09800), which is shown x' and told the change; here any text-to-image prior is asked, as in Delta
    Denoising Score (Hertz et al., arXiv:2304.07090, eq. 3). variant="code": times are integers t/1000, and m is the lower median with each view's distance to itself among
    them, as in the official code, where two views give m = 0 and NaN; ours then takes the median above.
    """

    times: Times = field(default_factory=lambda: Times(shared=True))
    """Noise levels that are visited."""
    base_residual: Literal["sds", "csd", "score", "edit"] = "sds"
    """r: eps_cfg minus the noise; minus what the prompt says, (scale - 1) (pos - neg); minus nothing; or minus what is said of the original picture."""
    repulsion: float = 1.0
    """Factor on what drives views apart."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def targetless(self) -> str:
        """Return nothing around SDS: the target is a mean of the prior's estimates of the clean latents."""
        return "" if self.base_residual == "sds" else super().targetless()

    def edits(self) -> bool:
        """Return True for the residual of the paper's editing."""
        return self.base_residual == "edit"

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the classifier-free guidance pair, and of what is edited the original's, with the same noise."""
        own = super().ask(view, n, memory)
        if not self.edits():
            return own
        then = self.before(view)
        return (*own, *super().ask(then, diffuse(then, n.t, n.eps), memory))

    @staticmethod
    def before(view: View) -> View:
        """Return the originals as a view; UserError where there are none."""
        if not isinstance(view.original, Original):
            raise UserError("--guidance.base-residual edit changes pictures: give --pictures and --original to splatdistill image, or take another residual")
        return replace(view, x=view.original.x, text=view.original.text)

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return r of each view by itself."""
        eps_hat = self.predict(view, answers)
        match self.base_residual:
            case "sds":
                return eps_hat - n.eps
            case "csd":
                return eps_hat - answers[0]
            case "edit":
                return eps_hat - self.predict(self.before(view), answers[len(answers) // 2 :])
            case _:
                return eps_hat

    def mix(self, view: View, n: Noised, residual: Float[Tensor, "b *d"], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the mean of the residuals, weighted by likeness, minus what drives views apart."""
        x, r, count = n.x_t.flatten(1), residual.flatten(1), len(residual)
        apart = x[:, None] - x
        square = apart.square().sum(-1)
        gamma = math.log(count + 1) / self.median(square)
        kernel = torch.exp(-gamma * square)
        repulsion = 2 * gamma * (kernel[..., None] * apart).sum(1)
        return ((kernel @ r - self.repulsion * repulsion) / count).view_as(residual)

    def median(self, square: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
        """Return m; infinite where no two views differ. Stays on the device, in float64."""
        count = len(square)
        if count == 1:
            return square.new_tensor(math.inf, dtype=torch.float64)
        others = square.flatten()[1:].view(count - 1, count + 1)[:, :-1]  # all but the diagonal
        m, most = others.quantile(0.5).double(), others.max().double()
        m = torch.where(m > 0, m, torch.where(most > 0, most, math.inf))  # most views alike, some not
        lower = square.median().double()
        return torch.where(lower > 0, lower, m) if self.variant == "code" else m
