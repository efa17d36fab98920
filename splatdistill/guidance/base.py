"""Score distillation, the part that all methods share.

    x ──noise──► x_t ──ask──► prior ──answers──► residual ──w(t)──► gradient w.r.t. x ──VJP──► splats

A guidance answers three questions and nothing else:

    noise      how is the rendered latent x carried to noise level t?
    ask        what must the prior be asked there? (all of it in one batched call)
    residual   what do the answers say is wrong with x?

and, where views act on each other, `mix`. Then, for all methods alike: w(t) times what was mixed, clipped, normalised.

Conventions: t in [0,1], on the CPU, so that no method waits for a card to know it; x_t = alpha_t x + sigma_t eps; answers are eps; the gradient is summed over latent
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
from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.shaping import Weight, shaped, weight_of
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Distilled, Noised, View, check_sets
from splatdistill.priors import DiffusionPrior, Query

Defaults = Mapping[str, Mapping[str, Any]]
"""Variant to field to value, for fields that may be None; of `times`, for those of its fields that may be."""


@dataclass(frozen=True)
class Guidance(ABC):
    """Score distillation method. Fields are hyperparameters; what changes while training is in `memory`, which checkpoints carry.

    A field whose default depends on `variant` is None until it is chosen, and stays None: `value` says what it then means,
    from the DEFAULTS of the class. So an object means the same however it came about, in Python, by a parser, or by
    replacing one field of another object.
    """

    DEFAULTS: ClassVar[Defaults] = {"paper": {"times": Times(integer=False)}, "code": {"times": Times(integer=True)}}

    times: Times = field(default_factory=Times)
    """Noise levels that are visited."""
    weight: Weight = "sigma2"
    """w(t), the weight of noise level t."""
    grad_clip: float | None = None
    """The gradient's elements are clipped to this absolute value."""
    grad_clip_end: float | None = None
    """Absolute value in the end; the same as at the start if not given (D-SDS's and GaussianDreamer's annealed clipping)."""
    grad_clip_until: float = 1.0
    """Progress at which `grad_clip_end` is reached, linearly."""
    normalise: bool = False
    """Divide the gradient of the whole batch by its norm, after clipping."""

    def __post_init__(self) -> None:
        """Raise UserError for values that make no sense; a method with more to refuse calls this first."""
        checks.types(self)
        with checks.part("times"):
            self.value("times")  # whose levels may be in the wrong order only with what the variant adds
        checks.positive(self, "grad_clip", "grad_clip_end", "grad_clip_until")
        checks.within(self, 0, 1, "grad_clip_until")
        checks.need(self, "grad_clip_end", self.grad_clip is not None or self.grad_clip_end is None, "needs a grad-clip at the start")

    @final
    def value(self, name: str) -> Any:
        """Return a field's value, or where it was left to the variant, that of the variant."""
        variant = getattr(self, "variant", "paper")
        tables = (vars(kind).get("DEFAULTS", {}).get(variant, {}) for kind in type(self).__mro__)
        return filled(getattr(self, name), next((table[name] for table in tables if name in table), None))

    def init(self, prior: DiffusionPrior) -> nn.Module:
        """Return what is remembered from step to step. Usually nothing."""
        return nn.Module()

    def noise(self, view: View, t: Float[Tensor, " b"], memory: nn.Module) -> Noised:
        """Return the latents at noise level t, usually by the forward process with fresh noise."""
        return diffuse(view, t)

    @abstractmethod
    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return what the prior is asked."""

    @abstractmethod
    def predict(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """Return eps_hat from the first answers."""

    @abstractmethod
    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return the gradient with respect to x, but for w(t)."""

    def mix(self, view: View, n: Noised, residual: Float[Tensor, "b *d"], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return what the views' residuals become together. Usually each stays its own."""
        return residual

    def w(self, view: View, n: Noised) -> Float[Tensor, "b *one"]:
        """Return w(t), by default that of the field `weight`."""
        return weight_of(self.weight, *view.prior.schedule(n.t))

    @final
    def clip_at(self, progress: float) -> float | None:
        """Return the bound of the gradient's elements at this progress; None without one."""
        if self.grad_clip is None or self.grad_clip_end is None:
            return self.grad_clip
        return self.grad_clip + (self.grad_clip_end - self.grad_clip) * min(progress / self.grad_clip_until, 1.0)

    def targetless(self) -> str:
        """Return why splats cannot take several steps towards one target (`--inner`), nothing where they can: where the residual
        is the prior's prediction minus the noise, so that x - (sigma_t / alpha_t) residual is its estimate of the clean x.
        """
        return "its gradient is the difference of two predictions, a direction in which there is no picture to arrive at"

    def edits(self) -> bool:
        """Return True if it changes pictures that are there, which a scene is not made of. Usually not."""
        return False

    def renders_normals(self) -> bool:
        """Return True if it reads normals that are rendered with the splats, which costs more. Usually not."""
        return False

    def learn(self, view: View, memory: nn.Module) -> None:
        """Update the memory from the views, after the splats have moved. Usually nothing."""

    @final
    def __call__(self, view: View, memory: nn.Module) -> Distilled:
        """Return one evaluation; the gradient reaches x and nothing else."""
        check_sets(len(view.x), view.prior)
        t = self.value("times").draw(len(view.x), view.progress, view.rng, view.prior.views).to(view.x.dtype)
        with torch.no_grad():
            n = self.noise(view, t, memory)
            answers = view.prior.answer(self.ask(view, n, memory))
            residual = self.residual(view, n, answers, memory)
            mixed, w = self.mix(view, n, residual, memory), self.w(view, n)
            if view.prior.metric is not None:
                w = w * view.prior.metric
            raw = w * mixed
            grad = shaped(raw, self.clip_at(view.progress), self.normalise)
            alpha, sigma = view.prior.schedule(n.t)
            kept = torch.where(raw == 0, torch.ones_like(raw), grad / raw)  # by clipping and normalising
            target, gain = view.x - sigma / alpha * mixed, kept * w * alpha / sigma
        loss = (grad * view.x).sum() / len(view.x)
        return Distilled(loss, grad, n, self.predict(view, answers), raw, residual, target, gain)


@dataclass(frozen=True)
class Directed(Guidance):
    """Guidance with a scale and a direction to the prompt, which Perp-Neg and the view's words may change."""

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    perp_weight: float = 1.0
    """Factor on the weights of Perp-Neg (arXiv:2304.04968), where it is on."""
    view_weight: float = 0.0
    """Extra pull of the view's words, beside that of the rest of the prompt: pos - neg becomes
    pos - neg + view_weight (pos - plain), plain being the prompt without them, and without the camera where that
    is amplified; one more evaluation a view.
    """

    @property
    def cfg(self) -> CFG:
        """Return classifier-free guidance with these fields."""
        return CFG(self.scale, 0.0, self.perp_weight, self.view_weight)


@dataclass(frozen=True)
class Guided(Directed):
    """Guidance by one prediction under classifier-free guidance."""

    rescale: float = 0.0
    """Share of the guided prediction's excess contrast that is taken back, phi in [0, 1] (arXiv:2305.08891, eq. 15-16)."""

    def __post_init__(self) -> None:
        """Refuse contrast below that of the prompt's own prediction."""
        super().__post_init__()
        checks.within(self, 0, 1, "rescale")

    @property
    def cfg(self) -> CFG:
        """Return classifier-free guidance with these fields."""
        return CFG(self.scale, self.rescale, self.perp_weight, self.view_weight)

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the classifier-free guidance pair, and what is added to its direction."""
        return self.cfg.queries(view, n.x_t, n.t)

    def predict(self, view: View, answers: tuple[Tensor, ...]) -> Float[Tensor, "b *d"]:
        """Return eps_cfg from the first answers."""
        return self.cfg.combine(view, answers)


def filled(chosen: Any, default: Any) -> Any:
    """Return what was chosen, or the default where that is None; of a dataclass, field by field."""
    if chosen is None:
        return default
    if not (is_dataclass(chosen) and is_dataclass(default)) or isinstance(chosen, type):
        return chosen
    open_ = [f.name for f in fields(default) if getattr(chosen, f.name) is None]
    return replace(chosen, **{name: getattr(default, name) for name in open_}) if open_ else chosen
