"""Training of `tiny`, `tiny-clip` and `tiny-geometry`: AdamW whose rate falls with a cosine, an
average of the weights, and checkpoints from which a stopped run goes on.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # of Adam


@dataclass(frozen=True)
class Pace:
    """Length and logging of a training run, in steps and seconds."""

    steps: int
    lr: float
    ema: float  # of the averaged weights
    warm: int  # steps until the rate is reached
    told: int  # steps between losses that are logged
    saved: float  # seconds between checkpoints


@dataclass
class Training:
    """State of a training run, and its folder."""

    folder: Path
    model: nn.Module
    pace: Pace
    rng: torch.Generator  # of the data
    settings: dict[str, Any]  # recorded beside the weights
    log: list[dict[str, float]] = field(default_factory=list)
    step: int = 0

    def __post_init__(self) -> None:
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=self.pace.lr, weight_decay=0.01, betas=(0.9, 0.99)
        )
        self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "state.json").exists():
            self.resume()
            print(f"resumed at step {self.step}", flush=True)

    def run(self, loss_of: Callable[[nn.Module], Tensor], minutes: float) -> None:
        """Run steps until all are done or the time is over, then save a checkpoint."""
        began = saved = time.time()
        losses: list[float] = []
        while self.step < self.pace.steps and time.time() - began < 60 * minutes:
            losses.append(self.take(loss_of))
            if self.step % self.pace.told == 0:
                mean = float(np.mean(losses[-self.pace.told :]))
                self.log.append({"step": self.step, "loss": round(mean, 5)})
                spent = (time.time() - began) / 60
                where = f"{self.folder.name} step {self.step}/{self.pace.steps}"
                print(f"{where} loss {mean:.4f} {spent:.1f} min", flush=True)
            if time.time() - saved > self.pace.saved:
                self.save()
                saved = time.time()
        self.save()
        print("done" if self.step >= self.pace.steps else "out of time; run again to go on", flush=True)

    def take(self, loss_of: Callable[[nn.Module], Tensor]) -> float:
        """Run one step; return its loss."""
        warm = min(1.0, (self.step + 1) / self.pace.warm)
        decay = 0.5 * (1 + math.cos(math.pi * self.step / self.pace.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.lr * warm * (0.01 + 0.99 * decay)
        loss = loss_of(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.pace.ema, self.step / (self.step + 20))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - keep)
        return loss.item()

    def save(self) -> None:
        """Save all that resuming needs, as safetensors and JSON; each file replaced whole."""
        names = list(self.parameters)
        tensors = {f"model.{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v.contiguous() for k, v in self.ema.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{names[i]}.{k}": moments[k].contiguous() for k in MOMENTS}
        tensors["rng"] = self.rng.get_state()
        told = json.dumps({"step": self.step, "log": self.log, "settings": self.settings})
        for file, write in (
            ("state.safetensors", lambda p: save_file(tensors, p)),
            ("state.json", lambda p: p.write_text(told, encoding="utf-8")),
        ):
            write(self.folder / "state.new")
            os.replace(self.folder / "state.new", self.folder / file)

    def resume(self) -> None:
        """Load the checkpoint."""
        tensors, meta = read_state(self.folder)
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for k in self.ema:
            self.ema[k].copy_(tensors[f"ema.{k}"])
        state = self.optimizer.state_dict()
        for i, name in enumerate(self.parameters):
            if f"adam.{name}.step" in tensors:  # not of a checkpoint before the first step
                state["state"][i] = {k: tensors[f"adam.{name}.{k}"] for k in MOMENTS}
        self.optimizer.load_state_dict(state)
        self.rng.set_state(tensors["rng"])
        self.step, self.log = meta["step"], meta["log"]


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint, and its step, log and settings."""
    return load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text(encoding="utf-8"))


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the averaged weights of a checkpoint, and what has no average (buffers), as a model takes them."""
    return {k[6:]: v for k, v in tensors.items() if k.startswith("model.")} | {
        k[4:]: v for k, v in tensors.items() if k.startswith("ema.")
    }
