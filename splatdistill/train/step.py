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
    loss: float  # of the regularisers
    view: View  # the last batch
    out: RenderOutput
    distilled: Distilled
    timing: Timing


def resolution(config: Train, prior: DiffusionPrior, progress: float) -> int:
    """Rendered pixels per side at this progress: one stage after the other, as milestones pass."""
    sizes = config.resolutions or (prior.image_size,)
    return sizes[sum(progress >= m for m in config.milestones)]


def backgrounds(config: Train, state: State, batch: int, device: torch.device) -> Float[Tensor, "b 3"]:
    """The colour behind each view."""
    match config.background.kind:
        case "white" | "black" as kind:
            return torch.full((batch, 3), float(kind == "white"), device=device)
        case "learned":
            return state.background.sigmoid().expand(batch, 3)
        case kind:
            u, colour = torch.rand(batch, 1, generator=state.rng), torch.rand(batch, 3, generator=state.rng)
            return (colour if kind == "random" else torch.where(u < 0.5, 1.0, colour)).to(device)


def to_prior_size(rgb: Float[Tensor, "b 3 h w"], prior: DiffusionPrior) -> Float[Tensor, "b 3 p p"]:
    """Bilinear to the size that the prior wants to see; averaging where it is smaller."""
    if rgb.shape[-1] == prior.image_size:
        return rgb
    larger = rgb.shape[-1] > prior.image_size
    return F.interpolate(rgb, (prior.image_size,) * 2, mode="bilinear", align_corners=False, antialias=larger)


def train_step(
    state: State, config: Train, guidance: Guidance, prior: DiffusionPrior, prompts: Prompts, rasterizer: Rasterizer
) -> Step:
    """Look from new cameras, ask the prior, move the splats."""
    clock = [time.perf_counter()]
    spent = [0.0, 0.0, 0.0]  # render, guidance, backward
    progress = state.step / config.steps
    config.rates.apply(state.optimizer, progress)
    size = resolution(config, prior, progress)
    state.optimizer.zero_grad(set_to_none=True)
    state.background_optimizer.zero_grad(set_to_none=True)

    def lap(stage: int) -> None:
        clock.append(time.perf_counter())
        spent[stage] += clock[-1] - clock[-2]

    ok, total = True, 0.0
    for _ in range(config.accumulate):
        cameras: Cameras = config.cameras.sample(config.batch, size, size, state.rng).to(prior.device)
        behind = backgrounds(config, state, config.batch, prior.device)
        g = state.scene.gaussians()  # what there is
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
        config.densify.observe(state.densify, out.screen, size, size)

    ok = ok and finite(*(p.grad for p in state.scene.parameters()))
    if ok:
        state.optimizer.step()
        if config.background.kind == "learned":
            state.background_optimizer.step()
        config.densify.after_step(state.densify, state.scene, state.optimizer, state.rng)
        guidance.learn(view, state.memory)
        state.step += 1
        config.densify.update(state.densify, state.scene, state.optimizer, state.step, state.step / config.steps, state.rng, config.max_gaussians)
    else:
        state.refused += 1
    timing = Timing(*spent, rest=time.perf_counter() - clock[0] - sum(spent))
    return Step(ok, total, view, out, distilled, timing)
