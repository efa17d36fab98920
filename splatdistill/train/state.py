"""State of a training: everything that changes while training and is kept in checkpoints.

Resuming from a checkpoint on the CPU with the same number of threads gives the same splats, bit for bit.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splatdistill.errors import UserError, out_of_memory
from splatdistill.priors import DiffusionPrior
from splatdistill.scene.splats import Splats
from splatdistill.train.checkpoint import Checkpoint, expect, prefix, read_checkpoint, write_checkpoint
from splatdistill.train.config import Train
from splatdistill.train.mixed import remembered
from splatdistill.train.notes import Note, explained
from splatdistill.train.particle import Particle, under
from splatdistill.train.plain import to_plain


@dataclass
class State:
    """State that a step changes."""

    step: int
    particles: list[Particle]  # the scenes; usually one
    memory: nn.Module  # the guidance's, shared by all particles
    rng: torch.Generator
    refused: int = 0  # steps not taken because a gradient was not finite
    phase: int = -1  # the one in force, from 0; -1 before the first, and in a run without

    @property
    def scene(self) -> Splats:
        """Return the scene of the first particle."""
        return self.particles[0].scene

    @property
    def optimizer(self) -> torch.optim.Adam:
        """Return the optimizer of the first particle."""
        return self.particles[0].optimizer

    @property
    def background(self) -> nn.Parameter:
        """Return the learned background of the first particle."""
        return self.particles[0].background

    @property
    def finite(self) -> bool:
        """Return True if every scene and background is finite throughout."""
        values = [v for p in self.particles for v in (*p.scene.parameters(), p.background)]
        return all(bool(v.detach().isfinite().all()) for v in values)

    def choose(self) -> int:
        """Return the number of the particle that steps next: one at random, as in ProlificDreamer's code. A run of one draws nothing."""
        return int(torch.randint(len(self.particles), (), generator=self.rng)) if len(self.particles) > 1 else 0

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors; those of the second particle begin with "particle-2.", and so on."""
        named = {prefix(k) + name: v for k, p in enumerate(self.particles) for name, v in p.tensors().items()}
        named |= {f"memory.{k}": v for k, v in self.memory.state_dict().items()} | {"rng": self.rng.get_state()}
        return {k: v.detach().cpu().contiguous() for k, v in named.items()}

    def save(self, folder: Path, config: Train, sign: str | None = None) -> None:
        """Write a checkpoint with the settings in force. sign: of divergence, if one is seen."""
        note = Note(self.step, self.refused, tuple(p.step for p in self.particles), to_plain(config), sign, phase=self.phase)
        write_checkpoint(folder, self.tensors(), note)


def start(config: Train, prior: DiffusionPrior) -> State:
    """Return the state before the first step; everything random comes from the seed."""
    rng = torch.Generator().manual_seed(config.seed)
    try:
        particles = [Particle.start(config, rng, prior.device) for _ in range(config.particles)]
        memory = remembered(config, prior)
    except (RuntimeError, MemoryError) as e:
        if not out_of_memory(e):
            raise
        raise UserError("out of memory before the first step; begin with fewer splats (--init.count) or --particles") from e
    return State(step=0, particles=particles, memory=memory, rng=rng)


def restore(saved: Checkpoint | Path, config: Train, prior: DiffusionPrior) -> State:
    """Return the state that a checkpoint holds; UserError where it is damaged, or of a run with other parts than the configuration's."""
    saved = saved if isinstance(saved, Checkpoint) else read_checkpoint(saved)
    steps, tensors = saved.note.particles, dict(saved.tensors)
    if len(steps) != config.particles:
        raise UserError(f"{saved.path} holds {len(steps)} particles, and the configuration says --particles {config.particles}; it can only go on with as many")
    with explained(saved.path):
        rng = torch.Generator().manual_seed(config.seed)
        rng.set_state(tensors.pop("rng"))
        learned = under("memory.", tensors)
        memory = remembered(config, prior)
        memory.load_state_dict(learned)
        for name, value in memory.state_dict().items():
            if name in learned:
                expect(f"memory.{name}", learned[name], tuple(value.shape), value.dtype)
        tensors = {k: v for k, v in tensors.items() if not k.startswith("memory.")}
        particles = []
        for k, step in enumerate(steps):
            own = {name: v for name, v in tensors.items() if not name.startswith("particle-")} if k == 0 else under(prefix(k), tensors)
            particles.append(Particle.restore(own, config, prior.device, step))
        known = {prefix(k) + name for k, p in enumerate(particles) for name in p.tensors()}
        if extra := sorted(tensors.keys() - known):
            raise ValueError(f"it holds {extra[0]}, which is no part of this run")
    return State(saved.note.step, particles, memory, rng, saved.note.refused, saved.note.phase)
