"""Data of scripts/train_tiny.py: random batches of the toybox; and the loss of the prior. CLIP's is in contrast.py."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from embedded.networks import SCHEDULER, tokens
from splatdistill.cameras import with_view
from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.toybox import NAMED
from splatdistill.toybox.catalogue import SYMMETRIC
from splatdistill.toybox.world import backgrounds

FRONTED = [k for k in NAMED if k not in SYMMETRIC]


def autocast() -> torch.autocast:
    """Return an autocast to bfloat16 on a CPU that multiplies it natively, elsewhere a disabled one: bfloat16 would be slower."""
    can = torch.cpu.get_capabilities()
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(can.get("avx512_bf16") or can.get("amx_bf16")))


@dataclass(frozen=True)
class Settings:
    """Settings of a training run; recorded beside its weights."""

    model: str
    steps: int
    batch: int
    lr: float
    seed: int = 0
    pictures: int = 80_000
    caption_dropout: float = 0.1
    view_dropout: float = 0.1
    directions: float = 0.6  # share of views told with left and right
    fronts: float = 2.0  # how often a named object's front or back is drawn, to other pictures' 1: what tells them apart is small
    middle: float = 0.5  # share of times drawn from 0.2 to 0.7, where such things are decided; the others are uniform
    gray: float = 1 / 3  # share of pictures without colour, for clip
    ema: float = 0.999
    start: str = ""  # the weights that training went on from, and their step
    log: list[dict[str, float]] = field(default_factory=list)


def draw(cumulative: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return indices of pictures, drawn by the weights of the running sum."""
    return torch.searchsorted(cumulative, torch.rand(count, generator=rng, dtype=torch.float64) * cumulative[-1])


class Data:
    """Random batches: pictures over random backgrounds, and their captions."""

    def __init__(self, work: Path, rng: torch.Generator):
        self.rgba = torch.from_numpy(np.load(work / "rgba.npy", mmap_mode="r+"))
        text = json.loads((work / "captions.json").read_text(encoding="utf-8"))
        self.captions, self.words, self.phrases, self.rng = text["captions"], text["words"], text["phrases"], rng

    def pictures(self, index: Tensor) -> Tensor:
        """Return pictures (b,3,SIZE,SIZE) in [0,1] by their indices, over random backgrounds."""
        rgba = self.rgba[index].permute(0, 3, 1, 2).float() / 255
        return rgba[:, :3] + (1 - rgba[:, 3:]) * backgrounds(len(index), self.rng)[:, :, None, None]


class PriorLoss:
    """Mean squared error of v (Salimans & Ho, arXiv:2202.00512)."""

    def __init__(self, tokenizer: CLIPTokenizer, data: Data, settings: Settings):
        self.data, self.settings, self.tokenizer = data, settings, tokenizer
        fronted = [w in ("front", "back") and any(f" {k}" in c for k in FRONTED) for c, w in zip(data.captions, data.words)]
        self.cumulative = (1 + (settings.fronts - 1) * torch.tensor(fronted, dtype=torch.float64)).cumsum(0)
        self.scheduler, self.vae = DDPMScheduler(**SCHEDULER), PatchAutoencoder()

    def texts(self, index: list[int]) -> list[str]:
        """Return captions with one of the two phrases for their view; at times without it, at times empty."""
        u = torch.rand(3, len(index), generator=self.data.rng)
        texts = []
        for k, i in enumerate(index):
            phrase = self.data.phrases[i] if u[2, k] < self.settings.directions else self.data.words[i]
            full = with_view(self.data.captions[i], None if u[1, k] < self.settings.view_dropout else phrase)
            texts.append("" if u[0, k] < self.settings.caption_dropout else full)
        return texts

    def __call__(self, model: nn.Module) -> Tensor:
        rng, b = self.data.rng, self.settings.batch
        index = draw(self.cumulative, b, rng)
        x = self.vae.encode(2 * self.data.pictures(index) - 1).contiguous(memory_format=torch.channels_last)
        anywhere, between = torch.randint(0, 1000, (b,), generator=rng), torch.randint(200, 700, (b,), generator=rng)
        t = torch.where(torch.rand(b, generator=rng) < self.settings.middle, between, anywhere)
        noise = torch.randn(x.shape, generator=rng)
        ids = tokens(self.tokenizer, self.texts(index.tolist()))
        with autocast():
            v = model(self.scheduler.add_noise(x, noise, t), t, ids)
        return F.mse_loss(v.float(), self.scheduler.get_velocity(x, noise, t))
