"""Session of a run, to be stepped, looked at and saved. Notebooks use this; `loop.run` is made of it."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import contact_sheet
from splatdistill.io.inline import figure, png_bytes
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.prompts import Prompts, switches
from splatdistill.render import Rasterizer
from splatdistill.render import rasterizer as default_rasterizer
from splatdistill.train.checkpoint import Checkpoint, read_checkpoint
from splatdistill.train.commands import SetField
from splatdistill.train.config import Train, check_prompt
from splatdistill.train.events import StepDone
from splatdistill.train.fields import with_field
from splatdistill.train.phase_change import enter, refuse_impossible
from splatdistill.train.phases import read
from splatdistill.train.plain import UNCHANGING
from splatdistill.train.state import State, restore, start
from splatdistill.train.step import Step, train_step


class Session:
    """Distillation of one scene, or of several (`particles`, counted from 0), step by step.

        session = Session(Train(prompt="a red mushroom"), prior)
        for _ in range(100):
            done = session.step()
        image = session.render(orbit([0, 90, 180, 270], width=128))
    """

    def __init__(self, config: Train, prior: DiffusionPrior, rasterizer: Rasterizer | None = None, state: State | None = None) -> None:
        check_prompt(config)
        refuse_impossible(config)
        if prior.views != config.prior_views:  # its batches would be sets of another size than the recipe's, and its recipe that of other sets
            raise UserError(f"the prior {prior.name} was loaded to see {prior.views} views at a time, and the configuration says prior_views {config.prior_views}; load it with views={config.prior_views}")
        self.config, self.prior = config, prior
        self.picture = config.image.read()
        self.reference = None if self.picture is None else config.image.with_depth(self.picture, prior.name)
        if self.picture is None and prior.needs_picture:
            raise UserError(f"the prior {prior.name} makes views of a picture; expected one: give --from-image FILE")
        if self.picture is not None and not config.prompt.strip() and (config.also or not (config.image.shown and prior.takes_picture)):
            raise UserError(f"the prior {prior.name}, or one of --also, is shown no picture, and there is no prompt; expected words that say what the picture shows: give --prompt too")
        self.rasterizer = default_rasterizer(prior.device) if rasterizer is None else rasterizer
        self.state = start(config, prior) if state is None else state
        self.last: Step | None = None
        self.resumed_from: Checkpoint | None = None

    @classmethod
    def resumed(cls, config: Train, prior: DiffusionPrior, checkpoint: Checkpoint | Path) -> "Session":
        """Return the session of a checkpoint, which continues bit for bit. UserError where it is damaged or of another kind of run."""
        check_prompt(config)
        saved = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
        session = cls(config, prior, state=restore(saved, config, prior))
        session.resumed_from = replace(saved, tensors={})  # the state has them
        return session

    def __repr__(self) -> str:
        return f"Session({self.config.prompt!r}, step {self.state.step} of {self.config.steps})"

    def _repr_html_(self) -> str:
        """Return a preview with a line about the session, as notebooks show it."""
        return figure(repr(self), png_bytes(contact_sheet(self.preview().cpu(), columns=4)))

    @property
    def prompts(self) -> Prompts:
        """Return the texts in use."""
        c = self.config
        words = c.directions if c.view_dependent else None
        shown = self.picture if c.image.shown or self.prior.needs_picture else None
        camera = c.image.camera(c.cameras, self.prior.image_size)
        return Prompts(c.prompt, c.negative, words, *switches(self.prior, c.perp_neg, c.camera_guidance), shown, camera, c.image.kept)

    def step(self) -> StepDone:
        """Run one optimiser step (or a refused one), in the phase that is due."""
        self.enter_phase()
        c = self.config
        self.last = train_step(self.state, c, c.guidance, self.prior, self.prompts, self.rasterizer, self.reference)
        return StepDone(
            step=self.state.step,
            steps=c.steps,
            gaussians=len(self.state.particles[self.last.particle].scene),
            loss=self.last.loss,
            grad_norm=self.last.grad_norm,
            t=float(self.last.distilled.noised.t.mean()),  # times are on the CPU
            coverage=self.last.coverage,
            timing=self.last.timing,
            refused=self.state.refused,
            particle=self.last.particle if len(self.state.particles) > 1 else None,
            inner=self.last.inner,
        )

    def enter_phase(self) -> str | None:
        """Begin the phase that is due, if another one is in force; return its name, or None."""
        c, state = self.config, self.state
        due = max((k for k in range(len(c.phases)) if state.step >= c.span(k)[0]), default=-1)
        if due <= state.phase:
            return None
        while state.phase < due:  # one that is too short for a step of its own still says what the next begins with
            self.config, self.prior = enter(state, self.config, self.prior, state.phase + 1)
        check_prompt(self.config)
        return read(c.phases[due]).name

    @torch.no_grad()
    def gaussians(self, particle: int = 0) -> Gaussians:
        """Return a scene as it is, without history."""
        return self.state.particles[particle].scene.gaussians().detach()

    @torch.no_grad()
    def render(
        self, cameras: Cameras, background: Float[Tensor, "b 3"] | None = None, particle: int = 0
    ) -> Float[Tensor, "b 3 h w"]:
        """Return pictures of a scene, on white unless told otherwise, clamped to [0, 1]."""
        white = torch.ones(len(cameras), 3, device=self.prior.device)
        out = self.rasterizer(self.gaussians(particle), cameras.to(self.prior.device), white if background is None else background)
        return out.rgb.clamp(0, 1)

    def preview(self, size: int = 128) -> Float[Tensor, "b 3 h w"]:
        """Return front, right, back and left at 15 degrees as training sees them, of every particle in turn."""
        around = self.config.cameras.around([0.0, 90.0, 180.0, 270.0], 15.0, size)
        return torch.cat([self.render(around, particle=k) for k in range(len(self.state.particles))])

    @torch.no_grad()
    def coverage(self, particle: int = 0) -> float:
        """Return the mean alpha of a scene over four views, from the middle of the distances and fields of view that training has."""
        around = self.config.cameras.around([0.0, 90.0, 180.0, 270.0], 15.0, 64)
        white = torch.ones(len(around), 3, device=self.prior.device)
        return float(self.rasterizer(self.gaussians(particle), around.to(self.prior.device), white).alpha.mean())

    @torch.no_grad()
    def estimate(self) -> Float[Tensor, "b 3 h w"] | None:
        """Return the prior's estimate of the clean image at the last step, (x_t - sigma eps_hat) / alpha, decoded."""
        if self.last is None:
            return None
        n, alpha_sigma = self.last.distilled.noised, self.prior.schedule(self.last.distilled.noised.t)
        x0 = (n.x_t - alpha_sigma[1] * self.last.distilled.eps_hat) / alpha_sigma[0]
        return self.prior.decode(x0).clamp(0, 1)

    def apply(self, change: SetField) -> None:
        """Change a field of the configuration from the next step on."""
        if change.path.split(".")[0] in UNCHANGING:
            raise UserError(f"--{change.path.replace('_', '-')} cannot be changed while a run goes on; start another one")
        changed = with_field(self.config, change.path.split("."), change.value)
        check_prompt(changed)
        self.config = changed
