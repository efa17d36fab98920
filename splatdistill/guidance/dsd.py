"""Diverse score distillation."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.asd import ASD
from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.kept import NamedTensors
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.paths import same_for_all, sampled
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import DiffusionPrior, Query

LAST = 0.999  # where paths begin, as noise alone
MOST = 512  # points that are kept: of more texts than words have, such as blends of words, no more come again


@dataclass(frozen=True)
class Followed(Noised):
    """Latents at t with the noise of a path at `later`."""

    later: Float[Tensor, " b"]


@dataclass(frozen=True)
class DSD(ASD):
    """DSD (Xu et al., "Diverse Score Distillation", arXiv:2412.06780): all views follow the path on which the prior makes a picture
    of one noise, drawn once for the run, whose seed is the sample,

        grad = w(t) (eps_cfg(alpha_t x + sigma_t e, t) - eps(alpha_{t+} x + sigma_{t+} e, t+; y)),  e = eps_cfg(x_{t+}, t+),

    x_{t+} being where DDIM (arXiv:2010.02502) under guidance has come from that noise at t = 0.999, in moves of 0.999 / path_steps
    and a shorter one; t+ as in ASD. The path depends on the words of a view and not on what is seen: the points where its moves
    end, and the predictions there, are kept for each text, so that a step costs five images a view once they are. They are
    not kept with Perp-Neg, whose texts differ from view to view, nor for a prior that is told the cameras.

    variant="code" is the official code's: times and moves are integers t/1000 as in ASD's, and Perp-Neg, where it is on, turns the
    prediction at t+ too, which is of scale 1. (Without Perp-Neg that code has pos + s (pos - neg), whose s = 1 is not the
    prompt's prediction but 2 pos - neg: a slip that is not repeated here.)
    """

    times: Times = field(default_factory=lambda: Times("sqrt", t_min=0.32, t_max=0.98))
    """Noise levels that are visited."""
    path_steps: int = 10
    """Moves in which a path leads from noise alone to a picture."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse paths of no moves, or of more than a network has steps."""
        super().__post_init__()
        checks.within(self, 1, 999, "path_steps")

    def init(self, prior: DiffusionPrior) -> NamedTensors:
        """Return nothing yet: the noise and the paths are kept as they are made."""
        return NamedTensors()

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Followed:
        """Return x with the noise that the path of its words has at t+."""
        assert isinstance(memory, NamedTensors)
        t, size = t.clamp(max=LAST), view.prior.views
        later, shape = self.later(view, t), (size, *view.x.shape[1:])
        start = memory.get("start", shape, view.x, lambda: torch.randn(shape, generator=view.rng, dtype=view.x.dtype))
        fixed = same_for_all(view.text) and len(list(memory.buffers())) < MOST
        sets = [(replace(view, x=start, text=view.text[k : k + size], render=None), later[k : k + size]) for k in range(0, len(t), size)]
        x_t = torch.cat([sampled(one, self.moves, end, self.cfg, memory if fixed else NamedTensors()) for one, end in sets])
        n = diffuse(view, t, self.cfg.combine(view, view.prior.answer(self.cfg.queries(view, x_t, later))))
        return Followed(n.x_t, t, n.eps, later)

    @property
    def moves(self) -> Float[Tensor, " k"]:
        """Return the noise levels at which the moves of a path begin and end, falling."""
        levels = torch.linspace(LAST, 0, self.path_steps + 1, dtype=torch.float64)
        return (1000 * levels + 1e-6).floor() / 1000 if self.variant == "code" else levels

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the classifier-free guidance pair at t, and the prompt at t+, both with the noise of the path."""
        assert isinstance(n, Followed)
        at_later = diffuse(view, n.later, n.eps)
        return (*self.cfg.queries(view, n.x_t, n.t), *self.prompt.queries(view, at_later.x_t, at_later.t))

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the guided prediction at t minus the prompt's at t+."""
        first = len(answers) - len(self.prompt.queries(view, n.x_t, n.t))
        return self.predict(view, answers) - self.prompt.combine(view, answers[first:])

    @property
    def prompt(self) -> CFG:
        """Return the CFG of the prediction at t+, under the prompt alone."""
        return CFG(1.0, perp_weight=self.perp_weight if self.variant == "code" else 0.0)
