"""Densification by view-space gradients: "3D Gaussian Splatting" (arXiv:2308.04079), section 5.2.

A Gaussian whose projected mean is pulled about strongly is too coarse for what it should show: small ones are cloned,
large ones split. Transparent and oversized ones are removed.

The statistic of a Gaussian is the mean, over the views in which it was visible since the last update, of
|(g_x W/2, g_y H/2)|: the gradient g of the loss with respect to its projected mean in 1/pixel, made independent of the
resolution by going to normalised device coordinates (an image is 2 wide). It counts every view, not the last one only. The
loss is the step's own, a mean over its views: a view's gradient is a quarter as large where there are four of them, in one batch
or in several that are accumulated. That is threestudio-3dgs's unit, and LucidDreamer's and DreamGaussian's, so that their
thresholds are said as there.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splatdistill import checks
from splatdistill.densify.base import CountChange, Densifier, DensifyState, due
from splatdistill.densify.ops import Rows, forget, resize, rows
from splatdistill.gaussians import rotation_matrices
from splatdistill.render import Screen
from splatdistill.scene.splats import Splats

SHRINK = 1.6  # the paper's phi: how much smaller the two halves of a split are


@dataclass
class GradientState(DensifyState):
    """Sums since the last update."""

    gradient: Float[Tensor, " n"]  # of the lengths above
    views: Float[Tensor, " n"]  # in which it was visible

    @property
    def mean(self) -> Float[Tensor, " n"]:
        """Return the statistic; 0 where nothing was seen."""
        return self.gradient / self.views.clamp_min(1)


@dataclass(frozen=True)
class Gradient(Densifier):
    """Clone, split and prune by gradients (3D Gaussian Splatting)."""

    every: int = 100
    """Steps between updates."""
    since: float = 0.1
    """Progress in [0, 1] at which updates begin."""
    until: float = 0.8
    """Progress in [0, 1] at which they end."""
    threshold: float = 0.01
    """Mean gradient above which a Gaussian is cloned or split, of the loss over all views of a step (threestudio-3dgs: 0.01 with 4
    views; photographs: 0.0002 with one).
    """
    fraction: float | None = None
    """Fraction of the Gaussians, those with the highest gradients, that grows instead, whatever the loss's scale; by default the threshold decides."""
    split_scale: float = 0.02
    """Gaussians with a standard deviation above this are split, others cloned; world units. threestudio-3dgs compares the
    norm of the three, which is sqrt(3) times as large where they are equal.
    """
    revised_opacity: bool = False
    """Give clones and their originals the opacity 1 - sqrt(1 - o), which together look like o (arXiv:2404.06109)."""
    prune_opacity: float = 0.005
    """Gaussians less opaque than this are removed."""
    prune_scale: float | None = 0.5
    """Gaussians with a standard deviation above this are removed, world units; None: none is."""
    reset_every: int | None = None
    """Steps between resets of the opacities; None: never."""
    reset_opacity: float = 0.01
    """A reset lowers opacities above this to it; those that matter come back, the others are removed."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.at_least(self, 1, "every", "reset_every")
        checks.within(self, 0, 1, "since", "until", "fraction", "prune_opacity")
        checks.at_least(self, 0, "threshold", "split_scale")
        checks.positive(self, "prune_scale")
        checks.between(self, 0, 1, "reset_opacity")

    def init(self, n: int) -> GradientState:
        return GradientState(torch.zeros(n), torch.zeros(n))

    def observe(self, state: GradientState, screen: Screen, width: int, height: int) -> None:
        if screen.means.grad is None:
            raise ValueError("statistics are taken after the backward pass, from projected means that want a gradient")
        state.move(screen.means.device)
        to_device = torch.tensor([width / 2, height / 2]).to(screen.means.grad)
        visible = screen.radii > 0
        length = (screen.means.grad * to_device).norm(dim=-1)
        state.gradient += torch.where(visible, length, 0).sum(0).to(state.gradient)
        state.views += visible.sum(0)

    def update(
        self,
        state: GradientState,
        scene: Splats,
        optimizer: torch.optim.Optimizer,
        step: int,
        progress: float,
        rng: torch.Generator,
        max_gaussians: int,
    ) -> CountChange:
        change = CountChange()
        if due(step, progress, self.every, self.since, self.until):
            change = self._densify(state, scene, optimizer, rng, max_gaussians)
        if self.reset_every is not None and due(step, progress, self.reset_every, self.since, self.until):
            self._reset(scene, optimizer)
        return change

    @torch.no_grad()
    def _densify(
        self,
        state: GradientState,
        scene: Splats,
        optimizer: torch.optim.Optimizer,
        rng: torch.Generator,
        max_gaussians: int,
    ) -> CountChange:
        n = len(scene)
        state.move(scene.means.device)
        size = scene.log_scales.exp().amax(1)
        dead = scene.logits.sigmoid() < self.prune_opacity
        if self.prune_scale is not None:
            dead |= size > self.prune_scale
        grow = self._chosen(state.mean, dead, max_gaussians - n + int(dead.sum()))
        large = size > self.split_scale
        cloned, split = (grow & ~large).nonzero()[:, 0], (grow & large).nonzero()[:, 0]
        if self.revised_opacity:
            scene.logits[cloned] = _halved(scene.logits[cloned])
        children = [rows(scene, cloned), halves(scene, split, rng), halves(scene, split, rng)]
        new = {name: torch.cat([c[name] for c in children]) for name in children[0]}
        gone = dead.clone()
        gone[split] = True
        state.follow(resize(scene, optimizer, (~gone).nonzero()[:, 0], new))
        state.gradient.zero_()
        state.views.zero_()
        return CountChange(added=len(new["means"]), removed=int(gone.sum()))

    def _chosen(self, gradient: Float[Tensor, " n"], dead: Bool[Tensor, " n"], room: int) -> Bool[Tensor, " n"]:
        """Return the Gaussians that grow by one: at most `room`, the highest gradients first."""
        wanted = (gradient >= self.threshold if self.fraction is None else gradient > 0) & ~dead
        most = int(wanted.sum()) if self.fraction is None else math.ceil(self.fraction * len(gradient))
        count = max(0, min(int(wanted.sum()), most, room))
        order = torch.where(wanted, gradient, -1.0).sort(descending=True, stable=True).indices
        chosen = torch.zeros_like(dead)
        chosen[order[:count]] = True
        return chosen

    @torch.no_grad()
    def _reset(self, scene: Splats, optimizer: torch.optim.Optimizer) -> None:
        """Lower all opacities, and let the optimizer forget where they were going."""
        scene.logits.clamp_(max=math.log(self.reset_opacity / (1 - self.reset_opacity)))
        forget(scene, optimizer, torch.arange(len(scene), device=scene.logits.device), ("logits",))


@torch.no_grad()
def halves(scene: Splats, index: Int[Tensor, " m"], rng: torch.Generator) -> Rows:
    """Return one of the two parts of each of these Gaussians: its mean drawn from the Gaussian, its sizes those over 1.6."""
    values = rows(scene, index)
    local = torch.randn(len(index), 3, generator=rng).to(values["means"]) * values["log_scales"].exp()
    values["means"] += (rotation_matrices(values["quats"]) @ local[..., None])[..., 0]
    values["log_scales"] -= math.log(SHRINK)
    return values


def _halved(logits: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return the logit of 1 - sqrt(1 - o), without cancellation: with q = sqrt(1 - o) it is ln((1 - q) / q)."""
    log_q = 0.5 * torch.nn.functional.logsigmoid(-logits)
    return torch.log(-torch.expm1(log_q)) - log_q
