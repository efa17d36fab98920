"""Amortised training as typed data. Docstrings are the command line's help; recipes set what belongs to a prior."""

from dataclasses import dataclass, field
from typing import Literal

from splatdistill import checks
from splatdistill.cameras import Orbit, ViewWords
from splatdistill.guidance import ASD, Guidance
from splatdistill.scene.generator import Hyper, Trunk
from splatdistill.train.config import MOST, Background, check_inner
from splatdistill.train.distillation import Computed
from splatdistill.train.losses import Regularisers


@dataclass(frozen=True)
class Amortise(Computed):
    """Distil a corpus of prompts into one network that turns a text into splats in one pass."""

    corpus: str = "toybox"
    """toybox (192 plain captions that the embedded priors know), toybox[48] (the first 48 of those; of up to 4080, with patterns and
    stacks after them), or a file: one prompt a line, or JSON, a list or a mapping with the list under "train".
    """
    negative: str = ""
    """Negative prompt, to keep away from; {prompt} in it stands for the prompt itself, as each view reads it."""
    prior_views: int = 1
    """Pictures of one object that the prior sees together: 1, or as many as a multi-view prior was taught."""
    steps: int = 4000
    """Optimiser steps. Every prompt is visited equally often, once less at most."""
    prompts: int = 2
    """Prompts per step."""
    batch: int = 1
    """Views per step of each prompt, or sets of them, see `--prior-views`."""
    inner: int = 1
    """Steps of the network that keep one target, see `splatdistill train --help`."""
    generator: Trunk = field(default_factory=Hyper)
    """Network that turns texts into splats."""
    guidance: Guidance = field(default_factory=ASD)
    """Method that turns the prior's score into a gradient."""
    guidance_weight: float = 1.0
    """Factor on the guidance's loss, against the regularisers."""
    cameras: Orbit = field(default_factory=Orbit)
    """Cameras that training looks from."""
    directions: ViewWords = field(default_factory=ViewWords)
    """Angles at which a view is called front, side, back or overhead."""
    view_dependent: bool = True
    """Append ", front view" and so on to the prompt that the prior is asked about; the network reads it without."""
    perp_neg: Literal["auto", "on", "off"] = "auto"
    """Move each view away from the words of the others (Perp-Neg); auto: as the prior wants."""
    camera_guidance: Literal["auto", "on", "off"] = "auto"
    """Leave the cameras out of what guidance moves away from; auto: as the prior was taught."""
    background: Background = field(default_factory=Background)
    """Background behind the objects; never a learned one, which all prompts would share."""
    clip_rgb: bool = False
    """Clip rendered colours to [0, 1] before the prior sees them; what lies beyond gets no gradient."""
    regularise: Regularisers = field(default_factory=Regularisers)
    """Weights of the terms beside the guidance."""
    rate: float = 3e-3
    """Learning rate of Adam, warmed up, and falling along half a cosine to a twentieth."""
    warm_up: int = 50
    """Steps until that rate is reached."""
    clip: float = 1.0
    """Greatest norm of the gradient, longer ones are shortened to it."""
    ema: float = 0.99
    """Factor of the average of the weights, which is what previews and the result are made with."""
    checkpoint_every: int = 500
    """Steps between checkpoints (0: only at the end)."""
    preview_every: int = 200
    """Steps between preview pictures (0: none)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense; the parts have checked theirs."""
        super().__post_init__()
        checks.count(self, 1, MOST, "steps")
        checks.count(self, 1, 10_000, "prompts", "batch", "inner")
        checks.within(self, 1, 16, "prior_views")
        checks.count(self, 0, MOST, "checkpoint_every", "preview_every", "warm_up")
        checks.positive(self, "rate", "clip")
        checks.need(self, "ema", 0 <= self.ema < 1, "must lie within 0 and 1, 1 excluded")
        if self.background.kind == "learned":
            raise checks.BadValue(type(self), "background.kind", "learned would be shared by all prompts; take white, black, random or mixed")
        check_inner(self, self.inner, self.guidance)
