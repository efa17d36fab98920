"""Distillation into pictures instead of splats: the same guidances, with nothing between the gradient and x.

n particles are moved at once: latents, or the pixels that the prior encodes. Under a prior in the plane a particle is
a point. This is the two-dimensional experiment of ProlificDreamer (arXiv:2305.16213, section 3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.cameras import ViewWord, with_view
from splatdistill.errors import RunEnded
from splatdistill.guidance import SDI, Guidance, Original, View
from splatdistill.guidance.held import Held
from splatdistill.io.photo import read_photo
from splatdistill.priors import Conditions, DiffusionPrior
from splatdistill.priors.prompts import negative_of
from splatdistill.train.distillation import Distillation
from splatdistill.train.divergence import EXPLANATIONS, Limits
from splatdistill.train.losses import finite


@dataclass(frozen=True)
class Image2D(Distillation):
    """Distil a text prompt into pictures."""

    prompt: str = ""
    """Prompt, for example "a red mushroom"; with --prior exact one of ring, grid, pair, one."""
    prior: str = "auto"
    """auto; tiny or world (embedded: toys at 64 pixels; toys and real objects at 128, one view or four); exact (points in the plane), a diffusers folder, or a hub id."""
    steps: int = 300
    """Optimiser steps."""
    particles: int = 4
    """Pictures (points) that are made at once; with `pictures`, one for each of them."""
    pictures: tuple[Path, ...] = ()
    """Pictures (PNG, JPEG, WebP) to begin with, such as to edit them: the largest square in the middle of each, opacity over white."""
    original: str = ""
    """Prompt that says what `pictures` show as they are, where they are edited: --guidance collaborative --guidance.base-residual edit."""
    space: Literal["latents", "pixels"] = "latents"
    """Space that is optimised: the prior's latents, or pixels that it encodes."""
    view: Literal["any", "front", "side", "back", "overhead"] = "any"
    """View word that is added to the prompt; any adds none."""
    guidance: Guidance = field(default_factory=SDI)
    """Method that turns the prior's score into a gradient."""
    rate: float = 0.03
    """Learning rate of Adam, falling to nothing along half a cosine."""
    init: float = 0.1
    """Standard deviation of the noise that the particles begin as, around gray pixels or zero latents; `pictures` begin as they are."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        super().__post_init__()
        checks.count(self, 1, 10_000_000, "steps")
        checks.count(self, 1, 100_000, "particles")
        checks.positive(self, "rate")
        checks.at_least(self, 0, "init")
        if self.pictures:
            object.__setattr__(self, "pictures", tuple(p.expanduser().absolute() for p in self.pictures))
            object.__setattr__(self, "particles", len(self.pictures))
        checks.need(self, "original", bool(self.pictures) or not self.original, "says what --pictures show; give them too")
        wanted = not self.guidance.edits() or bool(self.pictures and self.original.strip())
        checks.need(self, "original", wanted, "and --pictures are needed by --guidance.base-residual edit")


@dataclass(frozen=True)
class Scatter:
    """Scatter of a guidance's gradient at particles that stand still, over noise levels and noises; means over particles."""

    variance: float  # trace of its covariance, tr Cov g
    mean_square: float  # of its mean, |E g|^2


def squares(files: Sequence[Path], size: int) -> Float[Tensor, "n 3 s s"]:
    """Return the largest square in the middle of each picture, over white, with `size` pixels a side; UserError for what is no picture."""
    found = []
    for file in files:
        rgba = read_photo(file)
        side = min(rgba.shape[1:])
        top, left = ((n - side) // 2 for n in rgba.shape[1:])
        cut = rgba[:, top : top + side, left : left + side]
        rgb = cut[:3] * cut[3:] + 1 - cut[3:]
        found.append(F.interpolate(rgb[None], (size, size), mode="bilinear", align_corners=False, antialias=True)[0])
    return torch.stack(found)


def conditions(prior: DiffusionPrior, prompt: str, count: int, negative: str = "", word: ViewWord | None = None) -> Conditions:
    """Return the same prompts for every particle, seen by no camera."""
    own = with_view(prompt, word)
    texts = [own, negative_of(negative, own), "", prompt]
    embedded = prior.embed(texts)
    positive, negative_, null, plain = (embedded[i : i + 1].expand(count) for i in range(4))
    return Conditions(positive, negative_, null, plain, texts=(texts[0],) * count)


@dataclass
class Image2DSession:
    """Session of particles in 2D, stepped by hand.

        pictures = Image2DSession(Image2D(prompt="ring", guidance=SDS(scale=1.0)), plane())
        while pictures.step():
            ...
        x = pictures.latents()
    """

    config: Image2D
    prior: DiffusionPrior
    done: int = 0  # steps
    refused: int = 0  # steps in a row that were not taken because a gradient was not finite

    def __post_init__(self) -> None:
        c = self.config
        self.rng = torch.Generator().manual_seed(c.seed)
        self.text = conditions(self.prior, c.prompt, c.particles, c.negative, None if c.view == "any" else c.view)
        self.value = nn.Parameter(self.beginning().to(self.prior.device))
        self.original: Original | None = None
        if c.original:
            told = conditions(self.prior, c.original, c.particles, c.negative, None if c.view == "any" else c.view)
            self.original = Original(self.latents().clone(), told)
        self.optimizer = torch.optim.Adam([self.value], lr=c.rate, betas=(0.9, 0.99), eps=1e-15)
        self.memory = c.guidance.init(self.prior)

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one particle."""
        side = self.prior.image_size
        return (3, side, side) if self.config.space == "pixels" else self.prior.latent_shape()

    @torch.no_grad()
    def beginning(self) -> Tensor:
        """Return what the particles begin as: noise, or the pictures that are given."""
        c = self.config
        if not c.pictures:
            noise = c.init * torch.randn(c.particles, *self.shape(), generator=self.rng, dtype=self.prior.dtype)
            return noise + (0.5 if c.space == "pixels" else 0.0)
        rgb = squares(c.pictures, self.prior.image_size).to(self.prior.device, self.prior.dtype)
        return rgb if c.space == "pixels" else self.prior.encode(rgb)

    def view(self) -> View:
        """Return the particles as a guidance sees them."""
        sampled = None if self.original else self.rng  # of what is edited the mean, as of the original
        x = self.value if self.config.space == "latents" else self.prior.encode(self.value, sampled)
        return View(x, self.text, self.prior, self.rng, self.done / self.config.steps, original=self.original)

    def step(self) -> bool:
        """Run one optimiser step; return whether more are to come. RunEnded where gradients stay non-finite."""
        if self.done >= self.config.steps:
            return False
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * 0.5 * (1 + math.cos(math.pi * self.done / self.config.steps))
        self.optimizer.zero_grad(set_to_none=True)
        view = self.view()
        distilled = self.config.guidance(view, self.memory)
        distilled.loss.backward()
        if finite(distilled.grad, self.value.grad):
            self.optimizer.step()
            self.config.guidance.learn(view, self.memory)
            self.done, self.refused = self.done + 1, 0
        else:
            self.refused += 1
            if self.refused >= Limits().refused:
                raise RunEnded(f"the run went wrong at step {self.done} (nan): {EXPLANATIONS['nan']}.")
        return self.done < self.config.steps

    def scatter(self, draws: int = 16) -> Scatter:
        """Return how much the gradient with respect to the particles scatters as they are now, without bias, by so many draws each;
        the run goes on as if it had not been asked.
        """
        seeds = np.random.SeedSequence([self.config.seed % 2**64, self.done])
        rng, calls = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1)), self.prior.calls
        total = squared = torch.zeros((), dtype=torch.float64)
        for _ in range(draws):
            x = self.latents().requires_grad_()
            view = View(x, self.text, self.prior, rng, self.done / self.config.steps, original=self.original)
            with Held(self.memory) as memory:
                g = self.config.guidance(view, memory).raw.detach().double().cpu().flatten(1)
            total, squared = total + g, squared + g.square().sum(1)
        self.prior.calls = calls
        mean = total / draws
        variance = (squared - draws * mean.square().sum(1)) / (draws - 1)
        return Scatter(float(variance.mean()), float((mean.square().sum(1) - variance / draws).mean()))

    @torch.no_grad()
    def latents(self) -> Float[Tensor, "n *d"]:
        """Return the particles as the prior sees them, without history."""
        return self.value.detach() if self.config.space == "latents" else self.prior.encode(self.value)

    @torch.no_grad()
    def images(self) -> Float[Tensor, "n 3 h w"]:
        """Return the particles as pictures in [0, 1]."""
        rgb = self.prior.decode(self.value) if self.config.space == "latents" else self.value
        return rgb.detach().clamp(0, 1).cpu()
