"""Classifier score distillation."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Directed
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Condition, Query

Ramp = tuple[float, float]


@dataclass(frozen=True)
class CSD(Directed):
    """CSD (Yu et al., "Text-to-3D with Classifier Score Distillation", arXiv:2310.19415): the score of the implicit
    classifier p(y | x_t) alone, with three prompts, the text, the negative and the null prompt,

        grad = w(t) scale (k_c eps(x_t; y) + k_u eps(x_t; negative) + k_null eps(x_t) + k_noise eps),

    where each k moves linearly over the run. (1, 0, -1, 0) is the paper's pure form, eps(x_t; y) - eps(x_t) =
    -sigma_t grad log p(y | x_t); k_null falling to 0 while k_u falls from 0 to -1 replaces the null prompt by the
    negative one; (s, 1 - s, 0, -1) is SDS. Only prompts with a weight are asked.

    variant="code" is the official code's: times are integers t/1000. Its DeepFloyd guidance also divides the gradient by its
    norm, its Stable Diffusion one does not: `normalise` says, in both variants.
    """

    scale: float = 1.0
    """Factor on the whole difference; ASD without a shift is this at its scale - 1."""
    k_c: Ramp = (1.0, 1.0)
    """Weight of the prompt, at first and in the end."""
    k_u: Ramp = (0.0, 0.0)
    """Weight of the negative prompt."""
    k_null: Ramp = (-1.0, -1.0)
    """Weight of the null prompt."""
    k_noise: Ramp = (0.0, 0.0)
    """Weight of the noise that was added; -1 in SDS."""
    until: float = 1.0
    """Progress at which the weights have arrived."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse weights that never arrive."""
        super().__post_init__()
        checks.positive(self, "until")

    def at(self, ramp: Ramp, progress: float) -> float:
        """Return a weight at this progress."""
        return ramp[0] + (ramp[1] - ramp[0]) * min(max(progress / self.until, 0.0), 1.0)

    def terms(self, view: View) -> tuple[tuple[Condition, float], ...]:
        """Return the prompts that are asked and their weights; the text first, then the negative prompt."""
        k_c, k_u, k_null = (self.at(k, view.progress) for k in (self.k_c, self.k_u, self.k_null))
        terms = [(view.text.positive, k_c)]
        if k_u or view.text.perp is not None:
            terms.append((view.text.negative, k_u))
        if k_null:
            terms.append((view.text.null, k_null))
        return tuple(terms)

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the prompts that have a weight, and what is added to the direction."""
        terms = (Query(n.x_t, n.t, text) for text, _ in self.terms(view))
        return (*terms, *self.cfg.extra_queries(view, n.x_t, n.t))

    def predict(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """Return the prompt's prediction; the difference is no prediction."""
        return answers[0]

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the weighted sum of what the prompts say."""
        total = self.at(self.k_noise, view.progress) * n.eps
        terms = self.terms(view)
        for (_, k), answer in zip(terms, answers):
            total = total + k * answer
        pos, neg = answers[0], answers[min(1, len(terms) - 1)]  # the negative prompt where Perp-Neg wants it
        return self.scale * (total + self.cfg.extra_directions(view, pos, neg, answers[len(terms) :]))
