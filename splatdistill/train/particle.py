"""Particle of a run: one of the scenes that it makes, with its optimizer and statistics."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splatdistill.densify import DensifyState
from splatdistill.errors import UserError
from splatdistill.scene import optim
from splatdistill.scene.initial import RandomPoints
from splatdistill.scene.splats import PARAMETERS, Splats
from splatdistill.train.checkpoint import expect, splats
from splatdistill.train.config import Train

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what Adam remembers of a parameter


@dataclass
class Particle:
    """Scene with its optimizer, its densifier's statistics and its background. A run has one, or several that share the
    guidance's memory (ProlificDreamer, arXiv:2305.16213).
    """

    scene: Splats
    optimizer: torch.optim.Adam
    densify: DensifyState
    background: nn.Parameter  # (3,) logits of the learned background
    background_optimizer: torch.optim.Adam
    step: int = 0  # optimizer steps that it has had

    @classmethod
    def around(cls, scene: Splats, background: Tensor, config: Train, step: int = 0) -> "Particle":
        """Return a particle of this scene and this background, its optimizers and statistics fresh."""
        colour = nn.Parameter(background)
        return cls(
            scene=scene,
            optimizer=config.rates.optimizer(scene),
            densify=config.densify.init(len(scene)),
            background=colour,
            background_optimizer=torch.optim.Adam([colour], lr=config.background.rate, fused=optim.fuses(colour)),
            step=step,
        )

    @classmethod
    def start(cls, config: Train, rng: torch.Generator, device: torch.device) -> "Particle":
        """Return the particle before its first step."""
        if isinstance(config.init, RandomPoints) and config.init.count > config.max_gaussians:  # before there are so many
            raise UserError(f"--init.count {config.init.count} is more than --max-gaussians {config.max_gaussians}; raise that or start with fewer")
        gaussians = config.init.of(config.prompt).make(rng)
        if len(gaussians) > config.max_gaussians:
            raise UserError(f"the initial scene has {len(gaussians)} splats, more than --max-gaussians {config.max_gaussians}; raise that or start with fewer")
        return cls.around(Splats.from_gaussians(gaussians).to(device), torch.zeros(3, device=device), config)

    def zero_grad(self) -> None:
        """Clear the gradients of the scene and of the background."""
        self.optimizer.zero_grad(set_to_none=True)
        self.background_optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything but the step as named tensors."""
        named: dict[str, Tensor] = {f"scene.{n}": getattr(self.scene, n) for n in PARAMETERS}
        named |= {f"adam.{k}": v for k, v in optim.tensors(self.optimizer).items()}
        named |= {f"densify.{k}": v for k, v in self.densify.tensors().items()}
        named |= {f"background.adam.{k}": torch.as_tensor(v) for k, v in self.background_optimizer.state.get(self.background, {}).items()}
        named["background.value"] = self.background
        return named

    @classmethod
    def restore(cls, saved: Mapping[str, Tensor], config: Train, device: torch.device, step: int) -> "Particle":
        """Return the particle that `tensors` was called on; ValueError and KeyError where names, shapes or types are others."""
        expect("background.value", saved["background.value"], (3,), torch.float32)
        particle = cls.around(splats(saved).to(device), saved["background.value"].to(device), config, step)
        for name in PARAMETERS:
            expect_moments(f"adam.{name}.", saved, getattr(particle.scene, name))
        optim.load(particle.optimizer, under("adam.", saved))
        statistics = under("densify.", saved)
        for name, fresh in particle.densify.tensors().items():
            expect(f"densify.{name}", statistics[name], fresh.shape, fresh.dtype)
        particle.densify.load(statistics)
        expect_moments("background.adam.", saved, particle.background)
        if moments := under("background.adam.", saved):
            fused = bool(particle.background_optimizer.param_groups[0]["fused"])
            particle.background_optimizer.state[particle.background] = optim.remembered(moments, particle.background, fused)
        return particle


def expect_moments(prefix: str, saved: Mapping[str, Tensor], parameter: Tensor) -> None:
    """Raise ValueError or KeyError unless Adam's memory of a parameter is there as a whole, or not at all."""
    moments = under(prefix, saved)
    if moments and moments.keys() != set(MOMENTS):
        raise ValueError(f"{prefix}* are {', '.join(sorted(moments))}, not {', '.join(MOMENTS)}")
    for name, value in moments.items():
        expect(prefix + name, value, () if name == "step" else tuple(parameter.shape), torch.float32)


def under(prefix: str, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
