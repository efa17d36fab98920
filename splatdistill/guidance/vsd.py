"""Variational score distillation."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.guidance.base import Guided
from splatdistill.guidance.learning import Learning, another
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Adapter, DiffusionPrior, Query
from splatdistill.priors.small_unet import GROUPS, SmallUNet


@dataclass(frozen=True)
class VSD(Guided):
    """VSD (Wang et al., "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with Variational Score
    Distillation", arXiv:2305.16213, eq. 9 and 10, algorithm 1):

        grad = sigma_t^2 (eps_cfg(x_t) - eps_adapter(x_t, camera)),

    where the adapter is a low-rank copy of the prior, or a small U-Net from nothing, that learns the distribution of the renders: after the splats
    have moved, adapter_steps of AdamW on mean |network - eps|^2 over these latents, t uniform over all noise levels,
    with the prompt without view words and a camera that is hidden from the whole batch at times. With `--particles`
    several scenes share the adapter. Three evaluations per view, and one with its gradient per adapter step.

    variant="code" is threestudio's: times are integers t/1000, the adapter's answer to the camera begins at random and not at
    zero, AdamW has eps 1e-15. (Its second, unseen half of the adapter's guidance at scale 1 is not calculated.) Beside a prior
    of Stable Diffusion 2.1-base it adapts another network, 2.1, which predicts v: `adapter_prior`.
    """

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    times: Times = field(default_factory=lambda: Times(t_max_end=0.5, switch=0.2))
    """Noise levels that are visited; by default up to 0.98, after a fifth of the run up to 0.5."""
    adapter: Literal["lora", "unet"] = "lora"
    """Network that learns what renders look like: a low-rank copy of the prior, which begins as the prior, or a small U-Net from nothing."""
    adapter_width: int = 64
    """Channels of the small U-Net at its finer level, a multiple of 8; it has twice as many at its coarser one."""
    rank: int = 4
    """Rank of the adapter's matrices (LoRA, arXiv:2106.09685)."""
    adapter_rate: float = 1e-4
    """Learning rate of the adapter."""
    adapter_steps: int = 1
    """Steps that the adapter learns per step of the splats, on each of its batches."""
    adapter_prior: str = ""
    """Folder or hub id of another network to adapt, which reads the same text and latents, such as one that predicts v; by
    default the prior itself.
    """
    camera_dropout: float = 0.1
    """Share of the adapter's steps in which it is not told the cameras."""
    variant: Literal["paper", "code"] = "paper"
    """The paper's update, or the official code's."""

    def __post_init__(self) -> None:
        """Refuse an adapter that could not learn."""
        super().__post_init__()
        checks.at_least(self, 1, "rank")
        checks.count(self, GROUPS, 1024, "adapter_width")
        checks.need(self, "adapter_width", self.adapter_width % GROUPS == 0, f"must be a multiple of {GROUPS}")
        checks.need(self, "adapter_prior", self.adapter == "lora" or not self.adapter_prior, "goes with --guidance.adapter lora; a U-Net from nothing adapts no other network")
        checks.positive(self, "adapter_rate")
        checks.at_least(self, 0, "adapter_steps")
        checks.within(self, 0, 1, "camera_dropout")

    def init(self, prior: DiffusionPrior) -> Learning:
        """Return the adapter and the moments of its optimizer."""
        owner, rng = another(prior, self.adapter_prior) if self.adapter_prior else prior, torch.Generator().manual_seed(0)
        if self.adapter == "unet":
            adapter: Adapter = SmallUNet(owner, self.adapter_width, rng)
        else:
            adapter = owner.adapter(self.rank, rng, exact_start=self.variant == "paper")
        return Learning(adapter, self.adapter_rate, (0.9, 0.99), 1e-15 if self.variant == "code" else 1e-8, 0.01)

    def ask(self, view: View, n: Noised, memory: nn.Module) -> tuple[Query, ...]:
        """Return the classifier-free guidance pair, and the question to the adapter."""
        assert isinstance(memory, Learning)
        return (*super().ask(view, n, memory), Query(n.x_t, n.t, replace(view.text.plain, camera=poses(view)), memory.network))

    def residual(self, view: View, n: Noised, answers: tuple[Tensor, ...], memory: nn.Module) -> Float[Tensor, "b *d"]:
        """Return what the prior says minus what the adapter says."""
        return self.predict(view, answers) - answers[-1]

    def learn(self, view: View, memory: nn.Module) -> None:
        """Train the adapter on the renders."""
        assert isinstance(memory, Learning)
        x, camera = view.x.detach(), poses(view)
        for _ in range(self.adapter_steps):
            t = view.rand() if self.variant == "paper" else (1000 * view.rand()).floor() / 1000
            hidden = torch.rand((), generator=view.rng) < self.camera_dropout
            condition = replace(view.text.plain, camera=None if hidden else camera)
            loss = memory.network.loss(x, t, view.randn(), condition)
            memory.update(loss, self.adapter_rate, factor=x.numel())
            if getattr(memory.network, "prior", view.prior) is not view.prior:
                view.prior.calls += len(x)  # where costs are counted


def poses(view: View) -> Float[Tensor, "b 4 4"] | None:
    """Return camera to world, unnormalised; None in the 2D case."""
    return None if view.text.cameras is None else view.text.cameras.camera_to_world
