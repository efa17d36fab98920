"""A training run as typed data. Docstrings are the command line's help; recipes set what belongs to a prior."""

from dataclasses import dataclass, field
from typing import Literal

from splatdistill import checks
from splatdistill.cameras import Orbit, ViewWords
from splatdistill.densify import Densifier
from splatdistill.densify.fixed import Fixed
from splatdistill.guidance import SDI, Guidance
from splatdistill.priors.prompts import Prompts
from splatdistill.scene.initial import Ball, Initial
from splatdistill.scene.optim import LearningRates
from splatdistill.train.distillation import Computed, Distillation
from splatdistill.train.losses import Regularisers
from splatdistill.train.phases import read, span
from splatdistill.train.reference import Reference
from splatdistill.train.shown import Shown

MOST = 10_000_000  # steps, Gaussians


def check_inner(config: Computed, inner: int, guidance: Guidance) -> None:
    """Refuse several steps towards one target of a guidance that has none, and a guidance that edits pictures."""
    if guidance.edits():
        raise checks.BadValue(type(config), "guidance", "edits pictures, and a scene has no original ones.\nTake `splatdistill image`, or another residual.")
    if inner > 1 and (why := guidance.targetless()):
        name = type(guidance).__name__
        raise checks.BadValue(type(config), "inner", f"{inner} needs a guidance with a target, and {name} has none: {why}.\nTake --inner 1, or a guidance such as sds, sdi or ssd.")


@dataclass(frozen=True)
class Background:
    """Background of the object while training."""

    kind: Literal["white", "black", "random", "mixed", "learned"] = "mixed"
    """One colour; a random colour per view; white or random at equal odds; or one learned colour."""
    rate: float = 0.01
    """Learning rate of the learned background."""

    def __post_init__(self) -> None:
        """Raise UserError for a rate that is not above 0."""
        checks.types(self)
        checks.positive(self, "rate")


@dataclass(frozen=True)
class Train(Distillation):
    """Distil a text prompt into Gaussian splats."""

    prior_views: int = 1
    """Pictures of one object that the prior sees together, from all around at one height: 1, or as many as a multi-view prior
    was taught (MVDream 4; the embedded tiny sees 1). `--batch` counts such sets.
    """
    steps: int = 600
    """Optimiser steps."""
    phases: tuple[str, ...] = ()
    """Phases that divide the steps among them, one after the other: coarse, detail, picture (configs/<family>/phases/), or
    "NAME[share=0.5, OPTION=VALUE, ...]", one of your own. Each sets some options anew, and has a progress of its own.
    """
    particles: int = 1
    """Scenes made together, 1 to 8, which share what the guidance learns (VSD). Each step is one's, drawn at random, so
    that n of them want about n times the steps.
    """
    batch: int = 2
    """Views per step, or sets of them, see `--prior-views`."""
    accumulate: int = 1
    """Batches whose gradients are added up per optimiser step."""
    inner: int = 1
    """Steps of the splats that keep one target: after each step, so many less one are made towards the same estimate of the same
    views, rendered anew, without asking the prior. `--steps` and all that follows progress count the outer ones.
    """
    resolutions: tuple[int, ...] = ()
    """Rendered pixels per side, one per stage; empty: the prior's own size."""
    milestones: tuple[float, ...] = ()
    """Progress in (0, 1) at which the next resolution begins."""
    guidance: Guidance = field(default_factory=SDI)
    """Method that turns the prior's score into a gradient."""
    also: tuple[str, ...] = ()
    """Guidances whose gradients are added, each over a prior of its own: NAME[OPTION=VALUE, ...]@PRIOR*WEIGHT, such as
    "sds[scale=50]@some/folder*0.3"; without @PRIOR over the run's own, without *WEIGHT with weight 1. Such a prior sees single
    pictures, of the cameras of the run's own, which may see several together. OPTIONs not named are the paper's.
    """
    guidance_weight: float = 1.0
    """Factor on the guidance's loss, against the regularisers."""
    init: Initial = field(default_factory=Ball)
    """Initial splats."""
    densify: Densifier = field(default_factory=Fixed)
    """Densifier, which adds and removes splats."""
    max_gaussians: int = 100_000
    """Greatest number of splats."""
    cameras: Orbit = field(default_factory=Orbit)
    """Cameras that training looks from."""
    directions: ViewWords = field(default_factory=ViewWords)
    """Angles at which a view is called front, side, back or overhead."""
    view_dependent: bool = True
    """Append ", front view" and so on to the prompt."""
    perp_neg: Literal["auto", "on", "off"] = "auto"
    """Move each view away from the words of the others (Perp-Neg, two more evaluations a view); auto: as the prior wants,
    real ones do and tiny does not. Off where views have no words.
    """
    camera_guidance: Literal["auto", "on", "off"] = "auto"
    """Leave the cameras out of what guidance moves away from, so that they are amplified as the words are; auto: as the prior
    was taught, `world` was and MVDream was not. Of priors that are told cameras.
    """
    background: Background = field(default_factory=Background)
    """Background behind the object."""
    shows: Shown = "colours"
    """Picture of the splats that the prior is shown: their colours; or their normals as colours, which moves shapes alone (the geometry
    stage of Fantasia3D and ProlificDreamer): in a phase of its own, with a prior that knows such pictures.
    """
    clip_rgb: bool = False
    """Clip rendered colours to [0, 1] before the prior sees them; what lies beyond gets no gradient (threestudio-3dgs)."""
    clip_dc: float | None = None
    """Keep the constant band of each splat's colours within this on both sides; 2 is rgb from -0.06 to 1.06 (threestudio-3dgs)."""
    rates: LearningRates = field(default_factory=LearningRates)
    """Learning rates of the splats' parameters."""
    regularise: Regularisers = field(default_factory=Regularisers)
    """Weights of the terms beside the guidance."""
    image: Reference = field(default_factory=Reference)
    """Picture of the object, as the prompt or beside it."""
    checkpoint_every: int = 200
    """Steps between checkpoints (0: only at the end)."""
    preview_every: int = 50
    """Steps between preview pictures (0: none)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense; the parts have checked theirs."""
        super().__post_init__()
        checks.count(self, 1, MOST, "steps", "max_gaussians")
        checks.within(self, 1, 8, "particles")
        checks.count(self, 1, 10_000, "batch", "accumulate", "inner")
        checks.within(self, 1, 16, "prior_views")
        checks.count(self, 0, MOST, "checkpoint_every", "preview_every")
        checks.within(self, 8, 4096, "resolutions")
        checks.between(self, 0, 1, "milestones")
        checks.rising(self, "milestones")
        checks.positive(self, "clip_dc")
        check_inner(self, self.inner, self.guidance)
        checks.need(self, "also", not self.also or self.inner == 1, "adds guidances, of which --inner has no target; take --inner 1")
        for said in self.phases:
            read(said)
        stages = max(len(self.resolutions) - 1, 0)
        checks.need(self, "milestones", len(self.milestones) == stages, f"must be {stages} with {len(self.resolutions)} resolutions")

    def span(self, phase: int) -> tuple[int, int]:
        """Return the steps before which a phase begins and ends."""
        return span(self.phases, self.steps, phase)

    def progress(self, step: int, phase: int) -> float:
        """Return how much of a phase was done before a step, in [0, 1]; of the run, where it has no phases."""
        first, last = self.span(phase)
        return (step - first) / max(last - first, 1)


def check_prompt(config: Distillation) -> None:
    """Raise UserError for a run without prompt and without picture."""
    if not (isinstance(config, Train) and config.image.path):
        Prompts(config.prompt)
