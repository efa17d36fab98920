"""Classifier-free guidance, and what turns its direction: Perp-Neg, and words of the view that pull harder."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from splatdistill.guidance.shaping import perpendicular, rescaled
from splatdistill.guidance.types import View
from splatdistill.priors import PerpNeg, Query


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance (arXiv:2207.12598) of the prompt against the negative one,

        eps_cfg = neg + scale (pos - neg + extra_directions),

    then its contrast drawn towards that of pos (arXiv:2305.08891, `rescale`).

    threestudio's own code asks the negatives of Perp-Neg in turns (n0, n1 of the first view, then of the second) at latents
    that are tiled (all views, then all again), so that with two or more views each is asked at another view's latents (its
    issue 456). Here a negative is asked at the latents of the view that it belongs to.
    """

    scale: float
    rescale: float = 0.0
    perp_weight: float = 1.0
    view_weight: float = 0.0

    def queries(self, view: View, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"]) -> tuple[Query, ...]:
        """Return the questions: positive, negative, and those of `extra_queries`; one alone where it is all that counts."""
        pos, neg = Query(x_t, t, view.text.positive), Query(x_t, t, view.text.negative)
        if self.scale == 0:
            return (neg,)
        extra = self.extra_queries(view, x_t, t)
        return (pos, neg, *extra) if self.scale != 1 or extra else (pos,)

    def combine(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """Return what the first answers, to `queries`, say together."""
        if self.scale == 0 or (self.scale == 1 and not self.extras(view)):
            return answers[0]
        pos, neg = answers[:2]
        eps_hat = neg + self.scale * (pos - neg + self.extra_directions(view, pos, neg, answers[2:]))
        return rescaled(eps_hat, pos, self.rescale) if self.rescale else eps_hat

    def perp(self, view: View) -> PerpNeg | None:
        """Return what Perp-Neg moves the views away from, where it is on and has a weight."""
        return view.text.perp if self.perp_weight else None

    def extras(self, view: View) -> bool:
        """Return whether anything is added to pos - neg."""
        return self.perp(view) is not None or self.view_weight != 0

    def extra_queries(self, view: View, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"]) -> tuple[Query, ...]:
        """Return the two questions of Perp-Neg where it is on, then the prompt without the view's words where they pull
        harder.
        """
        perp = self.perp(view)
        others = () if perp is None else tuple(Query(x_t, t, other) for other in perp.others)
        return (*others, Query(x_t, t, view.text.plain)) if self.view_weight else others

    def extra_directions(self, view: View, pos: Tensor, neg: Tensor, others: tuple[Tensor, ...]) -> Tensor | float:
        """Return what is added to pos - neg; others begins with the answers to `extra_queries`.

            perp_weight sum_i w_i perp(other_i - neg, pos - neg) + view_weight (pos - plain),

        Perp-Neg (arXiv:2304.04968), and two-condition guidance (InstructPix2Pix, arXiv:2211.09800, eq. 3: each condition has
        a scale of its own) with the object as one condition and the view as the other.
        """
        perp, total = self.perp(view), 0.0
        if perp is not None:
            total = self.perp_weight * perpendicular(perp.weights, others[:2], pos, neg)
        return total + self.view_weight * (pos - others[0 if perp is None else 2]) if self.view_weight else total
