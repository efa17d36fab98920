"""Noise-free score distillation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Directed
from splatdistill.guidance.shaping import per_view
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Query
from splatdistill.priors.random import sent


@dataclass(frozen=True)
class NFSD(Directed):
    """NFSD (Katzir et al., "Noise-Free Score Distillation", arXiv:2310.17590):

        grad = w(t) (delta_D + s delta_C),  delta_C = eps(x_t; y) - eps(x_t),
        delta_D = eps(x_t) where t < 0.2, else eps(x_t) - eps(x_t; negative),

    the direction to the prompt, and that to the domain of real pictures; the noise is in neither. The negative prompt
    (`--negative`) is to say what is wrong with pictures out of the domain; the paper's is "unrealistic, blurry, low
    quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy". Without one, delta_D vanishes above
    the threshold. No code was published.
    """

    threshold: float = 0.2
    """Below this noise level, the unprompted prediction is taken as the direction to the domain."""

    def __post_init__(self) -> None:
        """Refuse a threshold that is no noise level."""
        super().__post_init__()
        checks.within(self, 0, 1, "threshold")

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the questions under prompt, null prompt and negative prompt, and what is added to the direction."""
        texts = (view.text.positive, view.text.null, view.text.negative)
        return (*(Query(n.x_t, n.t, text) for text in texts), *self.cfg.extra_queries(view, n.x_t, n.t))

    def predict(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """Return null + scale delta_C."""
        pos, null, _, *others = answers
        more = self.cfg.extra_directions(view, pos, null, tuple(others))
        return null + self.scale * (pos - null + more)

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return delta_D + s delta_C."""
        _, null, neg, *_ = answers
        domain = torch.where(sent(per_view(n.t, null) < self.threshold, null.device), null, null - neg)
        return domain + self.predict(view, answers) - null
