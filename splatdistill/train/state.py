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

from splatdistill.densify import Densifier, DensifyState
from splatdistill.errors import UserError
from splatdistill.guidance import Guidance
from splatdistill.priors import DiffusionPrior
from splatdistill.scene import optim
from splatdistill.scene.splats import PARAMETERS, Splats
from splatdistill.train.config import Train


@dataclass
class State:
    """Everything that a step changes."""

    step: int
    scene: Splats
    optimizer: torch.optim.Adam
    memory: nn.Module  # the guidance's
    densify: DensifyState
    background: nn.Parameter  # (3,) logits of the learned background
    background_optimizer: torch.optim.Adam
    rng: torch.Generator
    refused: int = 0  # steps not taken because a gradient was not finite

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors."""
        named = {f"scene.{n}": getattr(self.scene, n) for n in PARAMETERS}
        named |= {f"adam.{k}": v for k, v in optim.tensors(self.optimizer).items()}
        named |= {f"memory.{k}": v for k, v in self.memory.state_dict().items()}
        named |= {f"densify.{k}": v for k, v in self.densify.tensors().items()}
        named |= {f"background.adam.{k}": torch.as_tensor(v) for k, v in self.background_optimizer.state.get(self.background, {}).items()}
        named |= {"background.value": self.background, "rng": self.rng.get_state()}
        return {k: v.detach().cpu().contiguous() for k, v in named.items()}

    def save(self, folder: Path) -> None:
        """Write the checkpoint beside its final name, then move it there: a full disk loses nothing."""
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            save_file(self.tensors(), new / "state.safetensors")
            note = {"step": self.step, "refused": self.refused, "threads": torch.get_num_threads(), "torch": torch.__version__}
            (new / "state.json").write_text(json.dumps(note) + "\n")
        except (OSError, RuntimeError) as e:  # safetensors reports a full disk as its own error
            shutil.rmtree(new, ignore_errors=True)
            raise UserError(f"could not write the checkpoint {folder}: {e}\nFree some space or choose another --out; earlier checkpoints are untouched.") from e
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def start(config: Train, prior: DiffusionPrior, guidance: Guidance, densifier: Densifier) -> State:
    """The state before the first step; everything random comes from the seed."""
    rng = torch.Generator().manual_seed(config.seed)
    gaussians = config.init.make(rng)
    if len(gaussians) > config.max_gaussians:
        raise UserError(f"the initial scene has {len(gaussians)} splats, more than --max-gaussians {config.max_gaussians}; raise that or start with fewer")
    scene = Splats.from_gaussians(gaussians).to(prior.device)
    background = nn.Parameter(torch.zeros(3, device=prior.device))
    return State(
        step=0,
        scene=scene,
        optimizer=config.rates.optimizer(scene),
        memory=guidance.init(prior),
        densify=densifier.init(len(scene)),
        background=background,
        background_optimizer=torch.optim.Adam([background], lr=config.background.rate),
        rng=rng,
    )


def restore(folder: Path, config: Train, prior: DiffusionPrior, guidance: Guidance, densifier: Densifier) -> State:
    """The state that a checkpoint holds."""
    try:
        saved = load_file(folder / "state.safetensors")
        note = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{folder} is not a readable checkpoint: {e}\nExpected state.safetensors and state.json written by an earlier run.") from e

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}

    rng = torch.Generator().manual_seed(config.seed)
    rng.set_state(saved["rng"])
    values = under("scene.")
    scene = Splats({n: values[n] for n in PARAMETERS}).to(prior.device)
    optimizer = config.rates.optimizer(scene)
    optim.load(optimizer, under("adam."))
    memory = guidance.init(prior)
    memory.load_state_dict(under("memory."))
    densify = densifier.init(len(scene))
    densify.load(under("densify."))
    background = nn.Parameter(saved["background.value"].to(prior.device))
    background_optimizer = torch.optim.Adam([background], lr=config.background.rate)
    if moments := under("background.adam."):
        background_optimizer.state[background] = moments
    return State(note["step"], scene, optimizer, memory, densify, background, background_optimizer, rng, note["refused"])
