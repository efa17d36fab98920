"""All that changes while training. If it is not here, it is not remembered.

A checkpoint is a folder of state.safetensors and state.json, replaced whole; resuming from it on the CPU with
the same number of threads gives the same splats, bit for bit.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors import DiffusionPrior
from splatdistill.scene.splats import Splats
from splatdistill.train.config import Train
from splatdistill.train.particle import Particle, under


@dataclass
class State:
    """Everything that a step changes."""

    step: int
    particles: list[Particle]  # the scenes; usually one
    memory: nn.Module  # the guidance's, shared by all particles
    rng: torch.Generator
    refused: int = 0  # steps not taken because a gradient was not finite

    @property
    def scene(self) -> Splats:
        """The scene of the first particle."""
        return self.particles[0].scene

    @property
    def optimizer(self) -> torch.optim.Adam:
        """The optimizer of the first particle."""
        return self.particles[0].optimizer

    @property
    def background(self) -> nn.Parameter:
        """The learned background of the first particle."""
        return self.particles[0].background

    def choose(self) -> int:
        """Whose turn it is: one particle at random, as in ProlificDreamer's code. A run of one draws nothing."""
        return int(torch.randint(len(self.particles), (), generator=self.rng)) if len(self.particles) > 1 else 0

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors; those of the second particle begin with "particle-2.", and so on."""
        named = {prefix(k) + name: v for k, p in enumerate(self.particles) for name, v in p.tensors().items()}
        named |= {f"memory.{k}": v for k, v in self.memory.state_dict().items()} | {"rng": self.rng.get_state()}
        return {k: v.detach().cpu().contiguous() for k, v in named.items()}

    def save(self, folder: Path) -> None:
        """Write the checkpoint beside its final name, then move it there: a full disk loses nothing."""
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            save_file(self.tensors(), new / "state.safetensors")
            note = {"step": self.step, "refused": self.refused, "threads": torch.get_num_threads(), "torch": torch.__version__}
            if len(self.particles) > 1:
                note["particles"] = [p.step for p in self.particles]
            (new / "state.json").write_text(json.dumps(note) + "\n")
        except (OSError, RuntimeError) as e:  # safetensors reports a full disk as its own error
            shutil.rmtree(new, ignore_errors=True)
            raise UserError(f"could not write the checkpoint {folder}: {e}\nFree some space or choose another --out; earlier checkpoints are untouched.") from e
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def prefix(particle: int) -> str:
    """What the names of a particle's tensors begin with."""
    return f"particle-{particle + 1}." if particle else ""


def start(config: Train, prior: DiffusionPrior) -> State:
    """The state before the first step; everything random comes from the seed."""
    rng = torch.Generator().manual_seed(config.seed)
    particles = [Particle.start(config, rng, prior.device) for _ in range(config.particles)]
    return State(step=0, particles=particles, memory=config.guidance.init(prior), rng=rng)


def restore(folder: Path, config: Train, prior: DiffusionPrior) -> State:
    """The state that a checkpoint holds."""
    try:
        saved = load_file(folder / "state.safetensors")
        note = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{folder} is not a readable checkpoint: {e}\nExpected state.safetensors and state.json written by an earlier run.") from e
    steps = note.get("particles", [note["step"]])
    if len(steps) != config.particles:
        raise UserError(f"{folder} holds {len(steps)} particles, and the configuration says --particles {config.particles}; it can only go on with as many")
    rng = torch.Generator().manual_seed(config.seed)
    rng.set_state(saved["rng"])
    particles = [Particle.restore(under(prefix(k), saved), config, prior.device, step) for k, step in enumerate(steps)]
    memory = config.guidance.init(prior)
    memory.load_state_dict(under("memory.", saved))
    return State(note["step"], particles, memory, rng, note["refused"])
