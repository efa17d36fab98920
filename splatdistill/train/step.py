"""One training step as a flow of values."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.guidance import Distilled, Guidance, View
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.random import sent
from splatdistill.render import Rasterizer, RenderOutput, Screen
from splatdistill.train.clock import Clock
from splatdistill.train.config import Background, Train
from splatdistill.train.events import Timing
from splatdistill.train.losses import finite
from splatdistill.train.mixed import Mixed, mixed
from splatdistill.train.particle import Particle
from splatdistill.train.shown import shown
from splatdistill.train.sizes import to_prior_size
from splatdistill.train.state import State


@dataclass(frozen=True)
class Step:
    """Views and result of one step."""

    taken: bool  # False: refused, because a gradient was not finite
    particle: int  # whose step it was, from 0
    loss: float  # of the regularisers
    grad_norm: float  # of the guidance's gradient, root mean square over latents
    coverage: float  # mean alpha
    view: View  # the last batch
    out: RenderOutput
    distilled: Distilled
    timing: Timing
    inner: int = 1  # optimiser steps that it was made of


@dataclass(frozen=True)
class TargetViews:
    """Batch of views of a step, for more steps towards the same targets."""

    cameras: Cameras
    behind: Float[Tensor, "b 3"] | None  # None: the learned background
    encoding: Tensor  # state of the generator from which the encoder's noise was drawn
    distilled: Distilled


def resolution(config: Train, prior: DiffusionPrior, progress: float) -> int:
    """Return rendered pixels per side at this progress: one stage after the other, as milestones pass."""
    sizes = config.resolutions or (prior.image_size,)
    return sizes[sum(progress >= m for m in config.milestones)]


def backgrounds(background: Background, learned: Tensor, batch: int, rng: torch.Generator, views: int = 1) -> Float[Tensor, "b 3"]:
    """Return the colour behind each view, the same behind the `views` that a prior sees as one set."""
    match background.kind:
        case "white" | "black" as kind:
            return torch.full((batch, 3), float(kind == "white"), device=learned.device)
        case "learned":
            return learned.sigmoid().expand(batch, 3)
        case kind:
            u, colour = torch.rand(batch // views, 1, generator=rng), torch.rand(batch // views, 3, generator=rng)
            each = colour if kind == "random" else torch.where(u < 0.5, 1.0, colour)
            return sent(each.repeat_interleave(views, 0), learned.device)


def clipped(out: RenderOutput, clip_rgb: bool) -> RenderOutput:
    """Return a rendering with its colours in [0, 1], if so configured; the gradient is clamp's, zero beyond."""
    return replace(out, rgb=out.rgb.clamp(0, 1)) if clip_rgb else out


def needs_normals(config: Train) -> bool:
    """Return True if a run's settings read normals that are rendered with the splats, whatever its guidance does."""
    return config.shows == "normals" or config.regularise.renders_normals()


def encoded_again(rgb: Float[Tensor, "b 3 h w"], prior: DiffusionPrior, encoding: Tensor) -> Tensor:
    """Return latents of images with the encoder's noise that a generator in this state draws."""
    same = torch.Generator()
    same.set_state(encoding)
    return prior.encode(to_prior_size(rgb, prior), same)


def train_step(
    state: State,
    config: Train,
    guidance: Guidance,
    prior: DiffusionPrior,
    prompts: Prompts,
    rasterizer: Rasterizer,
    picture: Float[Tensor, "c h w"] | None = None,
) -> Step:
    """Render one particle from new cameras, ask the prior, move its splats; then config.inner - 1 more moves towards the same
    targets, as in the inner loop of MicroDreamer's score-based iterative reconstruction (arXiv:2404.19525), but of the loss

        guidance_weight sum gain |x_k - target|^2 / 2 + regularisers,

    whose gradient is the guidance's where x_k is the x that it was asked about (`Distilled.loss_at`). picture: of the object, with
    opacity (and inverse depth), which each move compares with the splats seen from its camera.
    """
    clock = Clock(prior.device)
    progress, (first, last) = config.progress(state.step, state.phase), config.span(state.phase)
    turn = state.choose()
    particle = state.particles[turn]
    config.rates.over((last - first) * config.inner / config.particles).apply(particle.optimizer, progress)
    size = resolution(config, prior, progress)
    particle.zero_grad()

    sound: list[Tensor] = []  # whether all is finite, read once for the whole step
    parts: list[Tensor] = []  # of the regularisers' loss
    shots: list[TargetViews] = []
    views: list[View] = []
    also: list[tuple[Mixed, View]] = []
    screens: list[Screen] = []
    normals = needs_normals(config) or guidance.renders_normals() or any(part.added.guidance.renders_normals() for part in mixed(state.memory))
    for _ in range(config.accumulate):
        drawn = config.cameras.at(progress).sample(config.batch, size, size, state.rng, prior.views)
        cameras = drawn.to(prior.device)
        behind = backgrounds(config.background, particle.background, len(cameras), state.rng, prior.views)
        g = particle.scene.gaussians()  # what there is
        out = clipped(rasterizer(g, cameras, behind, normals=normals), config.clip_rgb)  # what is seen
        clock.lap("render")
        encoding = state.rng.get_state()
        x = prior.encode(to_prior_size(shown(out, behind, config.shows), prior), state.rng)  # what the prior is shown
        view = View(x, prompts.conditions(prior, drawn, behind.detach()), prior, state.rng, progress, out)
        distilled = guidance(view, state.memory)  # what the prior wants changed
        seconds = [(part, part.view(view, config, prompts)) for part in mixed(state.memory)]
        wanted = sum((part.loss(seen) for part, seen in seconds), distilled.loss)
        clock.lap("guidance")
        terms = config.regularise(out, g, progress) + likeness(g, picture, behind, config, rasterizer, size, progress)
        loss = (config.guidance_weight * wanted + terms) / config.accumulate
        sound.append(finite(distilled.grad, loss))
        loss.backward()
        clock.lap("backward")
        parts.append(terms.detach())
        views.append(view)
        also += seconds
        screens.append(out.screen)
        shots.append(TargetViews(cameras, None if config.background.kind == "learned" else behind, encoding, distilled))

    sound.append(finite(*(p.grad for p in particle.scene.parameters())))
    # the one time that a step waits for its device: nothing is papered over, the whole step is refused
    numbers = read([*sound, distilled.grad.square().mean().sqrt(), out.alpha.detach().mean(), *parts])
    ok, (grad_norm, coverage, *losses) = all(numbers[: len(sound)]), numbers[len(sound) :]
    total, made = 0.0, 0
    for good, part in zip(numbers, losses):
        total += part / config.accumulate if good else 0.0
    if ok:
        for screen in screens:  # only now: a refused step leaves no statistics
            config.densify.observe(particle.densify, screen, size, size)
        move(particle, config, state.rng)
        made = 1
        while made < config.inner and towards(shots, particle, config, prior, rasterizer, progress, clock, picture):
            move(particle, config, state.rng)
            made += 1
        for seen in views:  # from all of them, a batch at a time
            guidance.learn(seen, state.memory)
        for part, seen in also:
            part.learn(seen)
        state.step += 1
        particle.step += 1
        at = particle.step, config.progress(state.step, state.phase)
        config.densify.update(particle.densify, particle.scene, particle.optimizer, *at, state.rng, config.max_gaussians)
    else:
        state.refused += 1
    return Step(ok, turn, total, grad_norm, coverage, view, out, distilled, clock.timing(), made)


def read(values: list[Tensor]) -> list[float]:
    """Return numbers that a device has found, in one wait for all of them; float64 holds each as it is."""
    return torch.stack([sent(v.double(), values[0].device) for v in values]).tolist()


def move(particle: Particle, config: Train, rng: torch.Generator) -> None:
    """Step the optimizers along the present gradients, and clamp colours to their range. threestudio-3dgs clips them
    on the way to the renderer, where one that went too far gets no gradient and stays there; here it may come back.
    """
    particle.optimizer.step()
    if config.clip_dc is not None:
        with torch.no_grad():
            particle.scene.sh_dc.clamp_(-config.clip_dc, config.clip_dc)
    if config.background.kind == "learned":
        particle.background_optimizer.step()
    config.densify.after_step(particle.densify, particle.scene, particle.optimizer, rng)


def towards(
    shots: list[TargetViews],
    particle: Particle,
    config: Train,
    prior: DiffusionPrior,
    rasterizer: Rasterizer,
    progress: float,
    clock: Clock,
    picture: Float[Tensor, "c h w"] | None,
) -> bool:
    """Set the gradients of another move towards the targets of `shots`; return whether they are finite, without which
    there is none. The densifier's statistics stay those of the outer steps, whose gradients its thresholds are meant for.
    """
    particle.zero_grad()
    sound = []
    for shot in shots:
        behind = particle.background.sigmoid().expand(len(shot.cameras), 3) if shot.behind is None else shot.behind
        g = particle.scene.gaussians()
        out = clipped(rasterizer(g, shot.cameras, behind, normals=needs_normals(config)), config.clip_rgb)
        x = encoded_again(shown(out, behind, config.shows), prior, shot.encoding)
        clock.lap("render")
        terms = config.regularise(out, g, progress) + likeness(g, picture, behind, config, rasterizer, shot.cameras.width, progress)
        loss = (config.guidance_weight * shot.distilled.loss_at(x) + terms) / config.accumulate
        sound.append(finite(loss))
        loss.backward()
        clock.lap("backward")
    return all(read([*sound, finite(*(p.grad for p in particle.scene.parameters()))]))


def likeness(
    g: Gaussians, picture: Float[Tensor, "c h w"] | None, behind: Float[Tensor, "b 3"], config: Train, rasterizer: Rasterizer, size: int, progress: float
) -> Tensor | float:
    """Return the loss of the picture's camera, over the colour behind the first view; 0 without a picture."""
    return 0.0 if picture is None else config.image.loss(picture, g, rasterizer, config.cameras, behind[:1], size, progress)
