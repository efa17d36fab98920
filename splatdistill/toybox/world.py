"""The one place that says from where, and on what, the embedded models have seen the toybox.

Training of splats samples inside these ranges; a view outside them is out of the models' distribution.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Orbit, ViewWords
from splatdistill.toybox.captions import Caption, sample_caption
from splatdistill.toybox.split import is_held_out
from splatdistill.toybox.tracer import render

SIZE = 64  # pixels per side of the images that the embedded models know
VIEWS = Orbit(elevation=(-15.0, 75.0), distance=(2.6, 3.0), fov=(40.0, 44.0), uniform="degrees")
WORDS = ViewWords()
DIRECTED = ViewWords(left_right=True)


def backgrounds(count: int, rng: torch.Generator) -> Float[Tensor, "count 3"]:
    """Return plain backgrounds (count,3): half white, a fifth gray, the rest of any colour."""
    u = torch.rand(count, 1, generator=rng)
    gray = torch.rand(count, 1, generator=rng).expand(count, 3)
    colour = torch.rand(count, 3, generator=rng)
    return torch.where(u < 0.5, torch.ones(count, 3), torch.where(u < 0.7, gray, colour))


@dataclass(frozen=True)
class CaptionedPictures:
    """Captioned pictures, foreground premultiplied, so that any background can be put behind them."""

    rgba: np.ndarray  # (n, SIZE, SIZE, 4) uint8
    captions: list[Caption]
    words: list[str]  # view words
    phrases: list[str]  # the same with left and right


def pictures(count: int, seed: int, held_out: bool = False, threads: int | None = None) -> CaptionedPictures:
    """Return pictures of random captions from random views; of the held-out pairs only, or of the others only."""
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    captions: list[Caption] = []
    while len(captions) < count:
        caption = sample_caption(rng)
        if is_held_out(caption) == held_out:
            captions.append(caption)
    cameras = VIEWS.sample(count, SIZE, SIZE, torch_rng)
    cameras = cameras[torch.randperm(count, generator=torch_rng)]
    truth = render([c.parts() for c in captions], cameras, torch.zeros(count, 3), samples=2, threads=threads)
    rgba = torch.cat([truth.rgb, truth.alpha], 1).permute(0, 2, 3, 1)
    return CaptionedPictures((rgba * 255 + 0.5).byte().numpy(), captions, list(WORDS.words(cameras)), DIRECTED.phrases(cameras))
