"""One training step as a flow of values."""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.guidance import Distilled, Guidance, View
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.prompts import Prompts
from splatdistill.render import Rasterizer, RenderOutput
from splatdistill.train.config import Train
from splatdistill.train.events import Timing
from splatdistill.train.losses import finite
from splatdistill.train.state import State


@dataclass(frozen=True)
class Step:
    """What one step saw and did."""

    taken: bool  # False: refused, because a gradient was not finite
    particle: int  # whose step it was, from 0
    loss: float  # of the regularisers
    view: View  # the last batch
    out: RenderOutput
    distilled: Distilled
    timing: Timing


def resolution(config: Train, prior: DiffusionPrior, progress: float) -> int:
    """Rendered pixels per side at this progress: one stage after the other, as milestones pass."""
    sizes = config.resolutions or (prior.image_size,)
    return sizes[sum(progress >= m for m in config.milestones)]


def backgrounds(config: Train, learned: Tensor, batch: int, rng: torch.Generator) -> Float[Tensor, "b 3"]:
    """The colour behind each view."""
    match config.background.kind:
        case "white" | "black" as kind:
            return torch.full((batch, 3), float(kind == "white"), device=learned.device)
        case "learned":
            return learned.sigmoid().expand(batch, 3)
        case kind:
            u, colour = torch.rand(batch, 1, generator=rng), torch.rand(batch, 3, generator=rng)
            return (colour if kind == "random" else torch.where(u < 0.5, 1.0, colour)).to(learned.device)


def to_prior_size(rgb: Float[Tensor, "b 3 h w"], prior: DiffusionPrior) -> Float[Tensor, "b 3 p p"]:
    """Bilinear to the size that the prior wants to see; averaging where it is smaller."""
    if rgb.shape[-1] == prior.image_size:
        return rgb
    larger = rgb.shape[-1] > prior.image_size
    return F.interpolate(rgb, (prior.image_size,) * 2, mode="bilinear", align_corners=False, antialias=larger)


def train_step(
    state: State, config: Train, guidance: Guidance, prior: DiffusionPrior, prompts: Prompts, rasterizer: Rasterizer
) -> Step:
    """Look at one particle from new cameras, ask the prior, move its splats."""
    clock = [time.perf_counter()]
    spent = [0.0, 0.0, 0.0]  # render, guidance, backward
    progress = state.step / config.steps
    turn = state.choose()
    particle = state.particles[turn]
    config.rates.over(config.steps / config.particles).apply(particle.optimizer, progress)
    size = resolution(config, prior, progress)
    particle.optimizer.zero_grad(set_to_none=True)
    particle.background_optimizer.zero_grad(set_to_none=True)

    def lap(stage: int) -> None:
        clock.append(time.perf_counter())
        spent[stage] += clock[-1] - clock[-2]

    ok, total = True, 0.0
    for _ in range(config.accumulate):
        cameras: Cameras = config.cameras.sample(config.batch, size, size, state.rng).to(prior.device)
        behind = backgrounds(config, particle.background, config.batch, state.rng)
        g = particle.scene.gaussians()  # what there is
        out = rasterizer(g, cameras, behind)  # what is seen
        lap(0)
        x = prior.encode(to_prior_size(out.rgb, prior), state.rng)  # what the prior is shown
        view = View(x, prompts.conditions(prior, cameras), prior, state.rng, progress, out)
        distilled = guidance(view, state.memory)  # what the prior wants changed
        lap(1)
        terms = config.regularise(out, g)
        loss = (config.guidance_weight * distilled.loss + terms) / config.accumulate
        ok = ok and finite(distilled.grad, loss)
        if not ok:  # nothing is papered over: the whole step is refused
            break
        loss.backward()
        lap(2)
        total += float(terms.detach()) / config.accumulate
        config.densify.observe(particle.densify, out.screen, size, size, config.accumulate)

    ok = ok and finite(*(p.grad for p in particle.scene.parameters()))
    if ok:
        particle.optimizer.step()
        if config.background.kind == "learned":
            particle.background_optimizer.step()
        config.densify.after_step(particle.densify, particle.scene, particle.optimizer, state.rng)
        guidance.learn(view, state.memory)
        state.step += 1
        particle.step += 1
        at = particle.step, state.step / config.steps
        config.densify.update(particle.densify, particle.scene, particle.optimizer, *at, state.rng, config.max_gaussians)
    else:
        state.refused += 1
    timing = Timing(*spent, rest=time.perf_counter() - clock[0] - sum(spent))
    return Step(ok, turn, total, view, out, distilled, timing)
