"""Score distillation, the part that all methods share.

    x ──noise──► x_t ──ask──► prior ──answers──► residual ──w(t)──► gradient w.r.t. x ──VJP──► splats

A guidance answers three questions and nothing else:

    noise      how is the rendered latent x carried to noise level t?
    ask        what must the prior be asked there? (all of it in one batched call)
    residual   what do the answers say is wrong with x?

and, where views act on each other, `mix`. Then, for all methods alike: w(t) times what was mixed, clipped, normalised.

Conventions: t in [0,1]; x_t = alpha_t x + sigma_t eps; answers are eps; the gradient is summed over latent
dimensions and divided by the batch, as in threestudio.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.shaping import Weight, perpendicular, rescaled, shaped, weight_of
from splatdistill.guidance.times import Times
from splatdistill.priors import Conditions, DiffusionPrior, Query
from splatdistill.render import RenderOutput

Defaults = Mapping[str, Mapping[str, Any]]
"""Variant to field to value, for fields that may be None; of `times`, for those of its fields that may be."""


@dataclass(frozen=True)
class View:
    """One batch of rendered views, as the prior sees it."""

    x: Float[Tensor, "b *d"]  # clean latents; the gradient flows through here to the splats
    text: Conditions
    prior: DiffusionPrior
    rng: torch.Generator
    progress: float = 0.0  # of the run, in [0, 1]
    render: RenderOutput | None = None  # None in the 2D case

    def randn(self) -> Float[Tensor, "b *d"]:
        """Standard normal noise in the latents' shape; the same numbers on every device."""
        return torch.randn(self.x.shape, generator=self.rng, dtype=self.x.dtype).to(self.x.device)

    def rand(self) -> Float[Tensor, " b"]:
        """One uniform number per view."""
        return torch.rand(len(self.x), generator=self.rng, dtype=self.x.dtype).to(self.x.device)


@dataclass(frozen=True)
class Noised:
    """Latents at noise level t. Always: x_t == alpha_t x + sigma_t eps."""

    x_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]
    eps: Float[Tensor, "b *d"]


@dataclass(frozen=True)
class Distilled:
    """What one call of a guidance says."""

    loss: Float[Tensor, ""]  # its gradient is right; its value means nothing
    grad: Float[Tensor, "b *d"]  # d loss / d x, times the batch
    noised: Noised
    eps_hat: Float[Tensor, "b *d"]  # the prior's guided prediction, for x_0 previews
    raw: Float[Tensor, "b *d"]  # grad before it was clipped and normalised: unbiased where the method is
    residual: Float[Tensor, "b *d"]  # of each view by itself, before mixing and w(t)


@dataclass(frozen=True)
class Guidance(ABC):
    """Fields are hyperparameters. What changes while training is in `memory`, which checkpoints carry.

    A field whose default depends on `variant` is None until it is chosen, and stays None: `value` says what it then means,
    from the DEFAULTS of the class. So an object means the same however it came about, in Python, by a parser, or by
    replacing one field of another object.
    """

    DEFAULTS: ClassVar[Defaults] = {"paper": {"times": Times(integer=False)}, "code": {"times": Times(integer=True)}}

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=Times)
    """Which noise levels are visited."""
    weight: Weight = "sigma2"
    """w(t), the weight of noise level t."""
    rescale: float = 0.0
    """How much of the guided prediction's excess contrast is taken back, phi in [0, 1] (arXiv:2305.08891, eq. 15-16)."""
    perp_weight: float = 1.0
    """Factor on the weights of Perp-Neg (arXiv:2304.04968), where it is on."""
    view_weight: float = 0.0
    """How much harder the words of the view pull than the rest of the prompt: pos - neg becomes
    pos - neg + view_weight (pos - plain), plain being the prompt without them; one more evaluation a view.
    """
    grad_clip: float | None = None
    """The gradient's elements are clipped to this absolute value."""
    normalise: bool = False
    """The gradient of the whole batch is divided by its norm, after clipping."""

    def __post_init__(self) -> None:
        """Raise UserError for values that make no sense; a method with more to refuse calls this first."""
        checks.types(self)
        with checks.part("times"):
            self.value("times")  # whose levels may be in the wrong order only with what the variant adds
        checks.within(self, 0, 1, "rescale")
        checks.positive(self, "grad_clip")

    @final
    def value(self, name: str) -> Any:
        """Return a field's value, or where it was left to the variant, that of the variant."""
        variant = getattr(self, "variant", "paper")
        tables = (vars(kind).get("DEFAULTS", {}).get(variant, {}) for kind in type(self).__mro__)
        return filled(getattr(self, name), next((table[name] for table in tables if name in table), None))

    def init(self, prior: DiffusionPrior) -> nn.Module:
        """What is remembered from step to step. Usually nothing."""
        return nn.Module()

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Noised:
        """How x is carried to noise level t. Usually the forward process with fresh noise."""
        from splatdistill.guidance.noising import diffuse

        return diffuse(view, t)

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """What the prior is asked. Usually the classifier-free guidance pair, and what Perp-Neg adds to it."""
        return cfg_queries(view, n.x_t, n.t, self.scale, self.view_weight)

    def predict(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """eps_hat from the first answers."""
        return cfg_combine(view, answers, self.scale, self.rescale, self.perp_weight, self.view_weight)

    @abstractmethod
    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """The gradient with respect to x, but for w(t)."""

    def mix(self, view: View, n: Noised, residual: Float[Tensor, "b *d"], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """What the views' residuals become together. Usually each stays its own."""
        return residual

    def learn(self, view: View, memory: nn.Module) -> None:
        """Called after the splats have moved. Usually nothing to learn."""

    @final
    def __call__(self, view: View, memory: nn.Module) -> Distilled:
        """One evaluation; the gradient reaches x and nothing else."""
        t = self.value("times").draw(len(view.x), view.progress, view.rng).to(view.x)
        with torch.no_grad():
            n = self.noise(view, t, memory)
            answers = view.prior.answer(self.ask(view, n, memory))
            alpha, sigma = view.prior.schedule(n.t)
            residual = self.residual(view, n, answers, memory)
            raw = weight_of(self.weight, alpha, sigma) * self.mix(view, n, residual, memory)
            grad = shaped(raw, self.grad_clip, self.normalise)
        loss = (grad * view.x).sum() / len(view.x)
        return Distilled(loss, grad, n, self.predict(view, answers), raw, residual)


def filled(chosen: Any, default: Any) -> Any:
    """Return what was chosen, or the default where that is None; of a dataclass, field by field."""
    if chosen is None:
        return default
    if not (is_dataclass(chosen) and is_dataclass(default)) or isinstance(chosen, type):
        return chosen
    open_ = [f.name for f in fields(default) if getattr(chosen, f.name) is None]
    return replace(chosen, **{name: getattr(default, name) for name in open_}) if open_ else chosen


def cfg_queries(view: View, x_t: Tensor, t: Tensor, scale: float, view_weight: float = 0.0) -> tuple[Query, ...]:
    """The questions of classifier-free guidance: positive, negative, and what `aside` needs. At scale 1 with nothing
    aside, and at scale 0, one is enough.
    """
    pos, neg = Query(x_t, t, view.text.positive), Query(x_t, t, view.text.negative)
    if scale == 0:
        return (neg,)
    if scale == 1 and view.text.perp is None and not view_weight:
        return (pos,)
    return (pos, neg, *aside_queries(view, x_t, t, view_weight))


def aside_queries(view: View, x_t: Tensor, t: Tensor, view_weight: float = 0.0) -> tuple[Query, ...]:
    """The two questions of Perp-Neg where it is on, then the prompt without the view's words where they pull harder."""
    perp = view.text.perp
    others = () if perp is None else tuple(Query(x_t, t, other) for other in perp.others)
    return (*others, Query(x_t, t, view.text.plain)) if view_weight else others


def cfg_combine(
    view: View,
    answers: tuple[Tensor, ...],
    scale: float,
    rescale: float = 0.0,
    perp_weight: float = 1.0,
    view_weight: float = 0.0,
) -> Tensor:
    """What the first answers, to `cfg_queries`, say together: classifier-free guidance (arXiv:2207.12598),

        neg + scale (pos - neg + aside),

    then its contrast drawn towards that of pos (arXiv:2305.08891).
    """
    if scale == 0 or (scale == 1 and view.text.perp is None and not view_weight):
        return answers[0]
    pos, neg = answers[:2]
    eps_hat = neg + scale * (pos - neg + aside(view, pos, neg, answers[2:], perp_weight, view_weight))
    return rescaled(eps_hat, pos, rescale) if rescale else eps_hat


def aside(
    view: View, pos: Tensor, neg: Tensor, others: tuple[Tensor, ...], perp_weight: float = 1.0, view_weight: float = 0.0
) -> Tensor | float:
    """What is added to pos - neg; others begins with the answers to `aside_queries`.

        perp_weight sum_i w_i perp(other_i - neg, pos - neg) + view_weight (pos - plain),

    Perp-Neg (arXiv:2304.04968), and two-condition guidance (InstructPix2Pix, arXiv:2211.09800, eq. 3: each condition has a
    scale of its own) with the object as one condition and the view as the other.
    """
    perp, total = view.text.perp, 0.0
    if perp is not None:
        total = perp_weight * perpendicular(perp.weights, others[:2], pos, neg)
    return total + view_weight * (pos - others[0 if perp is None else 2]) if view_weight else total
